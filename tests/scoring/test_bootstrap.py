"""The bootstrap covers the truth about as often as it says, and its paired test tells systems apart."""

import numpy as np
import pytest

from speechgate.scoring.bootstrap import compare, interval
from speechgate.scoring.metric import MetricStatistics
from speechgate.scoring.wer import percent_errors

WORDS = 10


def system(errors: np.ndarray) -> MetricStatistics:
    """A system with these many substitutions in utterances of WORDS words."""
    zeros = np.zeros_like(errors)
    return MetricStatistics("wer", "", np.stack([errors, zeros, zeros, zeros + WORDS], axis=1), percent_errors)


def test_interval_covers_the_true_rate() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = interval(system(rng.binomial(WORDS, 0.2, size=60)))
        covered += low <= 20 <= high
    assert 88 <= covered <= 99


def test_interval_is_reproducible_and_shrinks_with_data() -> None:
    rng = np.random.default_rng(0)
    few, many = (system(rng.binomial(WORDS, 0.3, size=size)) for size in (30, 3000))
    assert interval(few) == interval(few)
    assert np.diff(interval(many)) < np.diff(interval(few)) / 5


def test_no_variation_no_width() -> None:
    assert interval(system(np.full(20, 3))) == pytest.approx((30, 30))


def test_pairing_sees_a_small_constant_difference() -> None:
    errors = np.random.default_rng(0).integers(0, 8, size=100)
    worse = errors + (np.arange(100) % 4 == 0)
    comparison = compare(system(errors), system(worse))
    assert comparison.delta == pytest.approx(2.5)
    assert comparison.ci95[0] > 0
    assert comparison.p_value < 0.01
    # Unpaired, the two intervals overlap.
    assert interval(system(errors))[1] > interval(system(worse))[0]


def test_equal_systems_do_not_differ() -> None:
    errors = np.random.default_rng(0).integers(0, 8, size=50)
    assert compare(system(errors), system(errors)).p_value == 1
    permuted = np.random.default_rng(1).permutation(errors)
    assert compare(system(errors), system(permuted)).p_value > 0.05


def test_false_alarms_are_rare() -> None:
    rng = np.random.default_rng(2)
    alarms = sum(
        compare(*(system(rng.binomial(WORDS, 0.3, size=60)) for _ in range(2))).p_value < 0.05 for _ in range(100)
    )
    assert alarms <= 11


def test_only_the_same_utterances_pair() -> None:
    with pytest.raises(ValueError, match="cannot pair wer of 3 utterances with wer of 2 utterances"):
        compare(system(np.zeros(2, dtype=int)), system(np.zeros(3, dtype=int)))
