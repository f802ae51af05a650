"""Error rates against counts made by hand."""

import pytest

from speechgate.errors import ManifestError
from speechgate.scoring.wer import COUNTS, error_rate


def counts(metric: str, reference: str, hypothesis: str, language: str = "eng") -> dict[str, int]:
    statistics = error_rate(metric, ["a"], [reference], [hypothesis], language)
    return dict(zip(COUNTS, statistics.statistics_UK[0].tolist(), strict=True))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "deletions", "insertions"),
    [
        ("press one now", "press one now", 0, 0, 0),
        ("press one now", "press two now", 1, 0, 0),
        ("press one now", "press now", 0, 1, 0),
        ("press one now", "please press one now", 0, 0, 1),
        ("press one now", "", 0, 3, 0),
        ("Press one, now!", "press one now", 0, 0, 0),
    ],
)
def test_word_counts(reference: str, hypothesis: str, substitutions: int, deletions: int, insertions: int) -> None:
    assert counts("wer", reference, hypothesis) == {
        "substitutions": substitutions,
        "deletions": deletions,
        "insertions": insertions,
        "reference": 3,
    }


def test_character_counts_include_spaces() -> None:
    assert counts("cer", "a cat", "a cut") == {"substitutions": 1, "deletions": 0, "insertions": 0, "reference": 5}


def test_languages_without_word_boundaries_ignore_spaces() -> None:
    assert counts("cer", "你好 世界", "你好世界", "zho") == {
        "substitutions": 0,
        "deletions": 0,
        "insertions": 0,
        "reference": 4,
    }


def test_the_rate_is_of_sums_not_a_mean_of_rates() -> None:
    seven = "one two three four five six seven"
    statistics = error_rate("wer", ["a", "b"], ["one", seven], ["two", seven], "eng")
    assert statistics.value == pytest.approx(100 / 8)
    assert statistics.signature.endswith("|level:word|norm:speechgate.text.normalize.normalize_for_scoring")


def test_more_errors_than_words() -> None:
    assert error_rate("wer", ["a"], ["one"], ["two three four"], "eng").value == pytest.approx(300)


def test_an_empty_reference_names_the_cut() -> None:
    with pytest.raises(ManifestError, match="cut eng-vm_7: the reference is empty"):
        error_rate("wer", ["eng-vm_6", "eng-vm_7"], ["one", "..."], ["one", "one"], "eng")
