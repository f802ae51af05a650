"""Scoring a small decode directory written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from speechgate.errors import ConfigError, ManifestError
from speechgate.scoring.score import score_directory

SITES = [["encoder", 0, "ffn1"], ["encoder", 0, "attn"], ["decoder", 0, "self_attn"], ["decoder", 0, "ffn"]]


def line(task: str, number: int, reference: str, hypothesis: str, gates: str = "1111", **more: Any) -> dict[str, Any]:
    src, tgt = task[-7:-4] if task.startswith("st") else task[-3:], task[-3:]
    known = {"id": f"{src}-{number}", "task": task, "src": src, "tgt": tgt, "reference": reference, "gates": gates}
    costs = {"score": -1.0, "steps": 3, "audio_seconds": 1.0, "macs": 60.0, "macs_dense": 80.0}
    return known | costs | {"hypothesis": hypothesis, "ctc_hypothesis": None} | more


LINES = [
    line("asr:eng", 1, "Press one now.", "press two now", "1101", ctc_hypothesis="press one now"),
    line("asr:eng", 2, "Goodbye.", "goodbye", "1100", ctc_hypothesis="goodby"),
    line("st:fra-eng", 1, "you have no new messages", "you have no new messages", "1110"),
    line("st:fra-eng", 2, "please hold", "please hold", "1110"),
]


def write(folder: Path, stack: str = "decoder", lines: list[dict[str, Any]] = LINES, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "corpus": "prompts", "split": "test", "checkpoint": "exp/x", "stack": stack, "sparsity_target": 0.5,
        "sites": SITES, "options": {}, "device": "cpu", "threads": 2, "seconds_per_utterance": {"asr:eng": 0.25},
        "time_vs_dense": {"asr:eng": 0.8}, "run": {"commit": "abc"}, **more,
    }  # fmt: skip
    (folder / "decode.json").write_text(json.dumps(info), encoding="utf-8")
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in lines)
    (folder / "hypotheses.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_rows(tmp_path: Path) -> None:
    scores = score_directory(write(tmp_path))
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")) == scores
    assert [(row["task"], row["metric"]) for row in scores["rows"]] == [
        ("asr:eng", "wer"), ("asr:eng", "cer"), ("st:fra-eng", "bleu"), ("st:fra-eng", "chrf"),
    ]  # fmt: skip
    wer, _, bleu, chrf = scores["rows"]
    assert wer["value"] == pytest.approx(25)
    assert wer["counts"] == {"substitutions": 1, "deletions": 0, "insertions": 0, "reference": 4}
    assert wer["sparsity_modules"] == pytest.approx(3 / 4)  # of the decoder's two sites, in two utterances
    assert (wer["macs_vs_dense"], wer["sparsity_macs"]) == (0.75, 0.25)
    assert (wer["seconds_per_utterance"], wer["time_vs_dense"], wer["utterances"]) == (0.25, 0.8, 2)
    assert (bleu["value"], chrf["value"]) == (pytest.approx(100), pytest.approx(100))
    assert (bleu["time_vs_dense"], bleu["sparsity_modules"]) == (None, 0.5)


@pytest.mark.parametrize(("stack", "sparsity"), [("none", 0.0), ("encoder", 0.0), ("decoder", 0.75), ("both", 0.375)])
def test_sparsity_is_over_the_gated_stack(tmp_path: Path, stack: str, sparsity: float) -> None:
    row = score_directory(write(tmp_path, stack))["rows"][0]
    assert row["sparsity_modules"] == pytest.approx(sparsity)
    assert row["time_vs_dense"] == (1.0 if stack == "none" else 0.8)


def test_diagnostics(tmp_path: Path) -> None:
    deaf = {"asr:eng": {"shuffled": {"path": "hypotheses_shuffled.jsonl"}}}
    write(tmp_path, "none", deaf=deaf)
    swapped = [LINES[0] | {"hypothesis": "goodbye"}, LINES[1] | {"hypothesis": "goodbye"}]
    text = "".join(json.dumps(entry) + "\n" for entry in swapped)
    (tmp_path / "hypotheses_shuffled.jsonl").write_text(text, encoding="utf-8")
    diagnostics = score_directory(tmp_path)["diagnostics"]
    (ctc,) = diagnostics["ctc"]
    assert (ctc["task"], ctc["decoder"], ctc["metric"]) == ("asr:eng", "ctc", "cer")
    assert ctc["counts"] == {"substitutions": 0, "deletions": 1, "insertions": 0, "reference": 20}
    shuffled = {entry["metric"]: entry["value"] for entry in diagnostics["deaf"]}
    assert shuffled["wer"] == pytest.approx(75)
    assert diagnostics["deaf"][0]["audio"] == "shuffled"
    assert diagnostics["distinct_hypotheses"]["asr:eng"] == {"distinct": 2, "utterances": 2}
    assert diagnostics["run_on_hypotheses"] == {"asr:eng": 0, "st:fra-eng": 0}


def test_a_hypothesis_that_repeats_itself_is_counted(tmp_path: Path) -> None:
    write(
        tmp_path, lines=[LINES[0] | {"hypothesis": "press " * 10}, LINES[1] | {"hypothesis": "press " * 7}, *LINES[2:]]
    )
    assert score_directory(tmp_path)["diagnostics"]["run_on_hypotheses"] == {"asr:eng": 1, "st:fra-eng": 0}


def test_characters_that_repeat_are_counted_where_there_are_no_words(tmp_path: Path) -> None:
    lines = [line("st:eng-zho", 1, "请稍等", "请稍等" * 4), line("st:eng-zho", 2, "请稍等", "请 稍 等 " * 3)]
    write(tmp_path, lines=lines)
    assert score_directory(tmp_path)["diagnostics"]["run_on_hypotheses"] == {"st:eng-zho": 1}


def test_alignments_name_the_cuts(tmp_path: Path) -> None:
    score_directory(write(tmp_path))
    text = (tmp_path / "alignments.txt").read_text(encoding="utf-8")
    assert "##### asr:eng" in text
    assert "st:fra-eng" not in text
    assert "eng-1\nREF: press one now\nHYP: press two now\n             S" in text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "no utterances"),
        ([LINES[0], LINES[0]], "line 2: cut eng-1 was decoded twice for asr:eng"),
        ([LINES[0] | {"gates": "11"}], "line 1: cut eng-1 needs 4 gates"),
        ([LINES[0] | {"reference": " "}], "cut eng-1: the reference is empty"),
        ([{"id": "eng-1"}], "line 1: no usable entry"),
    ],
)
def test_bad_hypotheses_are_named(tmp_path: Path, bad: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        score_directory(write(tmp_path, lines=bad))
    assert not (tmp_path / "scores.json").exists()


def test_a_directory_that_was_not_decoded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decode\.json: not found; decode into this directory first"):
        score_directory(tmp_path)
    (tmp_path / "decode.json").write_text('{"sites": []}', encoding="utf-8")
    with pytest.raises(ConfigError, match="the key 'corpus' is missing"):
        score_directory(tmp_path)


def test_unusual_line_ends_in_a_transcript(tmp_path: Path) -> None:
    entry = line("asr:eng", 1, "press\u2028one", "press one")
    assert score_directory(write(tmp_path, lines=[entry]))["rows"][0]["value"] == 0


@pytest.mark.parametrize(
    ("corpus", "split", "wer"),
    [("prompts", "test", 0), ("covost2", "test", 50), ("covost2+prompts", "prompts_test", 0)],
)
def test_accents_count_unless_the_corpus_lacks_them(tmp_path: Path, corpus: str, split: str, wer: float) -> None:
    lines = [line("asr:spa", 1, "Opcion invalida.", "opción invalida", ctc_hypothesis="opción invalida")]
    scores = score_directory(write(tmp_path, lines=lines, corpus=corpus, split=split))
    assert scores["rows"][0]["value"] == pytest.approx(wer)
    assert (scores["diagnostics"]["ctc"][0]["value"] == 0) == (wer == 0)
