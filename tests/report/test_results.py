"""results.json: the contract, what is collected, the headlines and the terminal's table."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from speechgate.errors import ConfigError
from speechgate.report.figures import quality_figures, time_figures
from speechgate.report.headlines import headlines, trade_offs
from speechgate.report.models import read_models
from speechgate.report.page import write_report
from speechgate.report.results import ROW_TYPES, collect_results, validate_results, write_results
from speechgate.report.rows import result_tables
from speechgate.report.table import results_table
from speechgate.usage.theme import LIGHT

# Written out again from the issue, so that a change of ROW_TYPES alone does not pass.
CONTRACT = [
    "corpus",
    "split",
    "task",
    "src",
    "tgt",
    "stack",
    "sparsity_target",
    "sparsity_modules",
    "sparsity_macs",
    "metric",
    "value",
    "ci95",
    "signature",
    "utterances",
    "seconds_per_utterance",
    "time_vs_dense",
    "macs_vs_dense",
    "checkpoint",
]


@pytest.fixture(scope="module")
def results(decode_dirs: list[Path]) -> dict[str, Any]:
    return collect_results(read_models(decode_dirs), {"commit": "0123abc"})


def test_rows_hold_the_contract(results: dict[str, Any]) -> None:
    validate_results(results)
    assert list(ROW_TYPES) == CONTRACT
    assert len(results["rows"]) == 5 * 5 * 2  # models, tasks, metrics
    for row in results["rows"]:
        assert list(row) == CONTRACT
        assert row["ci95"][0] <= row["value"] <= row["ci95"][1]
        assert row["macs_vs_dense"] == pytest.approx(1 - row["sparsity_macs"])
    dense = [row for row in results["rows"] if row["stack"] == "none"]
    assert {(r["sparsity_target"], r["sparsity_modules"], r["time_vs_dense"]) for r in dense} == {(0.0, 0.0, 1.0)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("value", "12.5"),
        ("value", True),
        ("ci95", [1.0]),
        ("stack", "middle"),
        ("metric", "ter"),
        ("utterances", 20.0),
        ("sparsity_macs", None),
        ("sparsity_target", 0.5),
    ],
)
def test_wrong_types_are_named(results: dict[str, Any], key: str, value: object) -> None:
    broken = copy.deepcopy(results)
    broken["rows"][0][key] = value
    with pytest.raises(ConfigError, match=rf"row 0: '{key}'"):
        validate_results(broken)


def test_missing_and_unknown_keys_are_named(results: dict[str, Any], tmp_path: Path) -> None:
    broken = copy.deepcopy(results)
    broken["rows"][3]["valeu"] = broken["rows"][3].pop("value")
    with pytest.raises(ConfigError, match="row 3: missing or unknown keys valeu, value"):
        write_results(tmp_path / "results.json", broken)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="schema"):
        validate_results({"rows": [], "run": {}})


def test_time_may_be_unmeasured(results: dict[str, Any]) -> None:
    untimed = copy.deepcopy(results)
    for row in untimed["rows"]:
        row["seconds_per_utterance"] = row["time_vs_dense"] = None
    validate_results(untimed)
    assert {trade_off.time_saved for trade_off in trade_offs(untimed)} == {None}
    assert "Compute at 50% sparsity" in [headline.title for headline in headlines(untimed)]


def test_headlines_say_quality_cost_and_whether_it_listens(results: dict[str, Any]) -> None:
    wer, bleu, cost, listens = headlines(results)
    mean = sum(r["value"] for r in results["rows"] if (r["stack"], r["metric"]) == ("none", "wer")) / 3
    assert wer.value == f"{mean:.1f}"
    assert wer.sentence.startswith("Mean of 3 languages")
    assert bleu.title == "Dense translation, BLEU"
    assert (cost.title, cost.value[0]) == ("Time at 50% sparsity", "−")
    assert "of the decoder loses least" in cost.sentence
    assert (listens.value, listens.good) == ("Yes", True)


def test_experiments_that_gate_the_same_stack_are_told_apart(results: dict[str, Any]) -> None:
    several = copy.deepcopy(results)
    for each in [*several["rows"], *several["diagnostics"]]:
        if each["stack"] == "decoder":
            alone = each["sparsity_target"] == 0.3
            each["checkpoint"] = "exp/gates_decoder_0.30" if alone else "exp/gates_dial_decoder"
    names = [trade_off.gated for trade_off in trade_offs(several)]
    assert names == ["dense", "decoder", "decoder (dial)", "decoder (dial)", "encoder"]
    assert {row["gated"] for table in result_tables(several) for row in table.rows} == set(names)
    assert "Closing 50% of the decoder (dial) loses least" in headlines(several)[2].sentence
    drawn = {spec.name: spec.draw(LIGHT) for spec in quality_figures(several) + time_figures(several)}
    points = {
        name: [len(line.get_xdata()) for line in figure.axes[0].lines if line.get_label() == "mean"]
        for name, figure in drawn.items()
    }
    assert points["quality_asr_decoder"] == [2]
    assert points["quality_asr_decoder_dial"] == [3]
    lines = {str(line.get_label()): len(line.get_xdata()) for line in drawn["time_asr"].axes[0].lines}
    assert (lines["decoder gated"], lines["decoder (dial) gated"], lines["encoder gated"]) == (2, 3, 2)


def test_a_model_that_guesses_is_called_out(results: dict[str, Any]) -> None:
    guessing = copy.deepcopy(results)
    deaf = guessing["diagnostics"][0]["deaf"]
    real = next(r for r in guessing["rows"] if (r["stack"], r["task"], r["metric"]) == ("none", "asr:fra", "wer"))
    next(e for e in deaf if (e["task"], e["metric"]) == ("asr:fra", "wer"))["ci95"] = real["ci95"]
    headline = headlines(guessing)[-1]
    assert not headline.good
    assert headline.sentence.endswith("No clear difference: asr:fra.")


def test_gated_models_are_compared_with_dense(results: dict[str, Any]) -> None:
    dense, *gated = results["diagnostics"]
    assert (dense["stack"], dense["versus_dense"]) == ("none", [])
    encoder = next(entry for entry in gated if entry["stack"] == "encoder")
    assert len(encoder["versus_dense"]) == 10
    assert all(0 < test["p_value"] <= 1 for test in encoder["versus_dense"])
    lossy = next(trade_off for trade_off in trade_offs(results) if trade_off.stack == "encoder")
    assert (lossy.worse, lossy.compared) == (5, 5)
    assert lossy.quality["asr"].delta > 5 > -5 > lossy.quality["st"].delta


def test_terminal_table(results: dict[str, Any]) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(results_table(results))
    text = console.export_text()
    for row in results["rows"]:
        if row["metric"] in ("wer", "bleu"):
            assert f"{row['value']:.1f}" in text
    assert "ST fra→eng" in text
    assert "decoder" in text
    assert "…" not in text


def test_directories_that_do_not_belong_together(
    decode_dirs: list[Path], write_decode_dir: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="one dense model, these directories hold 0"):
        write_report(decode_dirs[1:], tmp_path / "report", "title")
    with pytest.raises(ConfigError, match="unknown extra prepartion"):
        write_report(decode_dirs, tmp_path / "report", "title", {"prepartion": {}})
    other = write_decode_dir(tmp_path, "decoder", 0.5)
    info = json.loads((other / "decode.json").read_text(encoding="utf-8"))
    (other / "decode.json").write_text(json.dumps(info | {"split": "dev"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="prompts dev, prompts test"):
        write_report([decode_dirs[0], other], tmp_path / "report", "title")
    (other / "decode.json").write_text(json.dumps(info), encoding="utf-8")
    (other / "scores.json").unlink()
    with pytest.raises(ConfigError, match=r"scores\.json: not found; score this directory first"):
        write_report([decode_dirs[0], other], tmp_path / "report", "title")
    assert not (tmp_path / "report").exists()


def test_report_lies_whole_beside_its_data(
    decode_dirs: list[Path], write_decode_dir: Callable[..., Path], tmp_path: Path
) -> None:
    both = write_decode_dir(tmp_path / "exp", "both", 0.4)
    page = write_report(
        [both, decode_dirs[0]], tmp_path / "report", "Both stacks", {"run": {"seed": 1, "host": {"cpus": 2}}}
    )
    written = {path.name for path in page.parent.iterdir()}
    assert {
        "index.html",
        "results.json",
        "usage.json",
        "quality_asr_both.png",
        "usage_both_40_tasks-dark.png",
    } <= written
    assert not [name for name in written if name.startswith(".")]
    validate_results(json.loads((page.parent / "results.json").read_text(encoding="utf-8")))
    html = page.read_text(encoding="utf-8")
    assert "host.cpus" in html
    assert "http" not in html.replace("https://", "http")  # nothing to fetch


def test_report_of_the_dense_model_alone(decode_dirs: list[Path], tmp_path: Path) -> None:
    page = write_report(decode_dirs[:1], tmp_path, "Dense")
    assert "Modules in use" not in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "usage.json").read_text(encoding="utf-8")) == []
    assert list(tmp_path.glob("*.png")) == []
