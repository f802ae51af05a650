import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lhotse import MonoCut

from speechgate.errors import ConfigError, ManifestError
from speechgate.manifests.gate import Gate, issue_totals, open_gate
from speechgate.manifests.quality import Quality, load_quality, problems
from speechgate.manifests.quality_report import quality_table, write_page


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"text": " "}, [("empty text", "fatal")]),
        ({"text": "?! ..."}, [("nothing but punctuation", "fatal")]),
        ({"duration": 0.0}, [("no audio", "fatal")]),
        ({"text": "да", "duration": 0.05}, [("too short", "bad"), ("text too long for its audio", "bad")]),
        ({"duration": 31.0, "recording_seconds": 31.0}, [("longer than 30 s", "noted")]),
        ({"text": "Слово " * 20}, [("text too long for its audio", "bad")]),
        ({"text": "privet"}, [("another script", "bad")]),
        ({"text": "привет ok"}, []),
        ({"text": "1, 2, 3"}, []),
        ({"translated": {"eng": "привет"}}, [("another script", "bad")]),
        ({"translated": {"eng": "Itâ€™s here"}}, [("suspicious text", "noted")]),
        ({"text": "привет \ufffd"}, [("suspicious text", "noted")]),
        ({"text": "Иван &amp; Мария"}, [("suspicious text", "noted")]),
        ({"text": "аааааааа"}, [("suspicious text", "noted")]),
    ],
)
def test_what_is_wrong_with_a_cut(make_cut: Callable[..., MonoCut], changes: dict, found: list) -> None:
    assert [(problem.kind, problem.severity) for problem in problems(make_cut(**changes), Quality())] == found


@pytest.mark.parametrize("values", [{"max_bad_percent": 101.0}, {"min_script_share": 2.0}, {"min_seconds": -1.0}])
def test_impossible_thresholds_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"quality: .*{next(iter(values))}"):
        Quality(**values)


def test_a_corpus_replaces_single_thresholds(tmp_path: Path) -> None:
    assert load_quality() == load_quality(tmp_path / "absent.yaml") == Quality()
    (tmp_path / "quality.yaml").write_text("max_bad_percent: 20.0\n")
    assert load_quality(tmp_path / "quality.yaml") == Quality(max_bad_percent=20.0)
    (tmp_path / "quality.yaml").write_text("max_bad_percents: 20.0\n")
    with pytest.raises(ConfigError, match="did you mean 'max_bad_percent'"):
        load_quality(tmp_path / "quality.yaml")


def test_bad_cuts_train_nothing_but_stay_in_test_sets(make_cut: Callable[..., MonoCut]) -> None:
    lines = io.StringIO()
    gate = Gate(Quality(), lines)
    latin, empty = make_cut("rus-latin", text="privet"), make_cut("rus-empty", text="")
    assert [gate.passes(latin, split) for split in ("train", "train_noisy", "dev", "test")] == [
        False,
        False,
        True,
        True,
    ]
    assert not gate.passes(empty, "test")
    gate.reject("unreadable recording", "rus-gone", "rus", "test", "gone.wav is empty")
    listed = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert [(line["id"], line["split"], line["reason"]) for line in listed] == [
        ("rus-latin", "train", "another script"),
        ("rus-latin", "train_noisy", "another script"),
        ("rus-empty", "test", "empty text"),
        ("rus-gone", "test", "unreadable recording"),
    ]
    section = gate.plain()
    assert (section["seen"], section["kept_out"], section["bad_percent"]) == (6, 4, 66.67)
    assert issue_totals(section)["another script"] == 4
    assert section["languages"]["rus"]["test"]["utterances"] == 1
    with pytest.raises(ManifestError, match=r"4 of 6 utterances \(66\.7 %\) .*5 % allowed: another script \(2\)"):
        gate.check_share("mine", Path("report.html"))


def test_the_quarantine_list_survives_a_refusal_only(tmp_path: Path) -> None:
    def stop(path: Path, error: Exception) -> None:
        with open_gate(Quality(), path) as gate:
            gate.reject("empty text", "a", "rus", "train")
            raise error

    with pytest.raises(ManifestError, match="too much"):
        stop(tmp_path / "q.jsonl", ManifestError("too much"))
    assert json.loads((tmp_path / "q.jsonl").read_text())["id"] == "a"
    with pytest.raises(OSError, match="full"):
        stop(tmp_path / "other.jsonl", OSError("full"))
    assert not (tmp_path / "other.jsonl").exists()


def test_the_page_escapes_and_is_self_contained(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    gate = Gate(Quality(), io.StringIO())
    gate.passes(make_cut(text="<script>alert</script>"), "test")
    leak = {"splits": ["train", "test"], "shared": "speaker", "count": 3, "examples": ["x<y"]}
    section = {"corpus": "mine", **gate.plain(), "repeated_texts": {"test": 0}, "leaks": [leak]}
    write_page(tmp_path / "report.html", section)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "x&lt;y" in page
    assert "http" not in page
    assert quality_table(section).row_count == 4
