"""Two decode directories on the same utterances, written by hand."""

from pathlib import Path

import pytest

from speechgate.errors import ManifestError
from speechgate.report.comparison import comparison_table
from speechgate.scoring.compare import compare_decoded, compare_pooled
from speechgate.scoring.decoded import read_decoded
from tests.scoring.test_score import LINES, line, write


def test_paired_comparison(tmp_path: Path) -> None:
    dense = read_decoded(write(tmp_path / "dense", "none"))
    gated = read_decoded(write(tmp_path / "gated", lines=[LINES[0] | {"hypothesis": "press one now"}, LINES[1]]))
    comparisons = compare_decoded(dense, gated)
    assert [(c["task"], c["metric"]) for c in comparisons] == [("asr:eng", "cer"), ("asr:eng", "wer")]
    assert comparisons[1]["delta"] == pytest.approx(-25)
    assert (comparisons[1]["baseline"], comparisons[1]["system"]) == (pytest.approx(25), 0)


@pytest.mark.parametrize("compare", [compare_decoded, compare_pooled])
def test_different_cuts_are_refused(tmp_path: Path, compare) -> None:
    dense = read_decoded(write(tmp_path / "dense", "none"))
    missing = read_decoded(write(tmp_path / "missing", lines=LINES[:1]))
    with pytest.raises(ManifestError, match="cut eng-2: decoded for asr:eng in only one of"):
        compare(dense, missing)


def test_a_pool_counts_words_and_not_tasks(tmp_path: Path) -> None:
    """One error in 4 English words and two in 2 German ones are 3 in 6, where the mean of the two rates is 62.5%."""
    lines = [*LINES, line("asr:deu", 1, "auf wiederhören", "wieder hören")]
    system = read_decoded(write(tmp_path / "system", lines=lines))
    right = [entry | {"hypothesis": entry["reference"]} for entry in lines]
    baseline = read_decoded(write(tmp_path / "baseline", lines=right))
    pooled = {(row["task"], row["metric"]): row for row in compare_pooled(baseline, system)}
    assert list(pooled) == [("asr", "wer"), ("asr", "cer"), ("st", "bleu"), ("st", "chrf")]
    assert (pooled["asr", "wer"]["baseline"], pooled["asr", "wer"]["system"]) == (0, pytest.approx(50))
    assert pooled["st", "bleu"]["delta"] == 0
    assert pooled["st", "bleu"]["p_value"] == 1
    assert comparison_table(baseline, system).row_count == 3 * 2 + 4


def test_bleu_of_different_tokenisers_is_not_pooled(tmp_path: Path) -> None:
    lines = [*LINES, line("st:eng-zho", 1, "请稍等", "请稍等")]
    decoded = read_decoded(write(tmp_path, lines=lines))
    assert [row["metric"] for row in compare_pooled(decoded, decoded)].count("bleu") == 2
