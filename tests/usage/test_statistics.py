"""Usage statistics of masks made by hand."""

import numpy as np
import pytest

from speechgate.usage.statistics import context_usage, distances, factor_effects


def masks(*rows: str) -> np.ndarray:
    """Masks from strings such as "110" (open, open, closed)."""
    return np.array([[character == "1" for character in row] for row in rows])


def test_use_agreement_and_entropy() -> None:
    usage = context_usage(masks("1100", "1110", "1000", "1100"))
    assert usage.utterances == 4
    assert usage.usage_S.tolist() == [1, 0.75, 0.25, 0]
    assert usage.agreement_S.tolist() == [1, 0.75, 0.75, 1]
    quarter = 0.25 * 2 + 0.75 * np.log2(4 / 3)
    assert usage.entropy_bits_S == pytest.approx([0, quarter, quarter, 0])
    assert usage.distinct_masks == 3


def test_distances_between_contexts() -> None:
    found = distances({"a": masks("1100", "1100"), "b": masks("1010", "1010")})
    assert found.contexts == ("a", "b")
    assert found.usage_CC == pytest.approx(np.array([[0, 0.5], [0.5, 0]]))
    assert found.hamming_CC == pytest.approx(np.array([[0, 0.5], [0.5, 0]]))


def test_hamming_equals_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(0)
    groups = {"a": rng.random((7, 11)) < 0.3, "b": rng.random((5, 11)) < 0.7}
    found = distances(groups).hamming_CC
    between = [np.mean(x != y) for x in groups["a"] for y in groups["b"]]
    within = [np.mean(x != y) for i, x in enumerate(groups["a"]) for j, y in enumerate(groups["a"]) if i != j]
    assert found[0, 1] == pytest.approx(np.mean(between))
    assert found[0, 0] == pytest.approx(np.mean(within))


def test_a_single_utterance_has_no_pair() -> None:
    found = distances({"a": masks("10"), "b": masks("01")}).hamming_CC
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 1


def test_factor_effects() -> None:
    effects = factor_effects(
        {"asr:fra": masks("1111"), "asr:spa": masks("1110"), "st:fra-eng": masks("1001"), "st:spa-eng": masks("1000")}
    )
    assert effects == {"task": pytest.approx(0.5), "language": pytest.approx(0.25)}
    assert factor_effects({"asr:fra": masks("1")}) == {"task": None, "language": None}
