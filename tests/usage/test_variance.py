"""Variance of masks made by hand, explained by the factor that made them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from speechgate.gates.sites import GateSite
from speechgate.scoring.decoded import Decoded, Utterance
from speechgate.task import Task
from speechgate.usage.variance import explain_variance, stability

FACTORS = ("task", "language", "interaction", "audio")
CONTEXTS = ("asr:fra", "asr:spa", "st:fra-eng", "st:spa-eng")


def masks_of(*shares: tuple[float, ...], utterances: int = 20) -> dict[str, np.ndarray]:
    """One gate a tuple, which gives the share of utterances that open it in each of CONTEXTS."""
    return {
        context: np.stack([np.arange(utterances) < share[i] * utterances for share in shares], axis=1)
        for i, context in enumerate(CONTEXTS)
    }


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((1, 1, 0, 0), {"task": 1}),
        ((1, 0, 1, 0), {"language": 1}),
        ((1, 0, 0, 1), {"interaction": 1}),
        ((0.5, 0.5, 0.5, 0.5), {"audio": 1}),
        ((1, 0.5, 0.5, 0), {"task": 0.25, "language": 0.25, "audio": 0.5}),
    ],
)
def test_each_factor_by_hand(shares, expected):
    found = explain_variance(masks_of(shares))
    for factor in FACTORS:
        assert float(found.shares[factor][0]) == pytest.approx(expected.get(factor, 0), abs=1e-9)
        assert found.total[factor] == pytest.approx(expected.get(factor, 0), abs=1e-9)


def test_contexts_count_alike_however_many_utterances_they_have():
    masks = masks_of((1, 0.5, 0.5, 0), (0.2, 0.4, 0.1, 0.9))
    uneven = {context: np.tile(masks_US, (index + 1, 1)) for index, (context, masks_US) in enumerate(masks.items())}
    even, found = explain_variance(masks), explain_variance(uneven)
    for factor in FACTORS:
        np.testing.assert_allclose(found.shares[factor], even.shares[factor])


def test_shares_sum_to_one_where_combinations_are_missing():
    rng = np.random.default_rng(0)
    contexts = ("asr:eng", "asr:fra", "asr:spa", "st:fra-eng", "st:spa-eng")  # English has no translation
    masks = {context: rng.random((15, 9)) < rng.random(9) for context in contexts}
    found = explain_variance(masks)
    np.testing.assert_allclose(sum(found.shares.values()), np.ones(9))
    assert sum(found.total.values()) == pytest.approx(1.0)
    assert all((share_S > -1e-9).all() for factor, share_S in found.shares.items() if factor != "interaction")


def test_a_gate_that_never_varies_has_nothing_to_explain():
    found = explain_variance(masks_of((1, 1, 1, 1)))
    assert all(np.isnan(share_S).all() for share_S in found.shares.values())
    assert found.total is None


SITES = (GateSite("encoder", 0, "ffn1"), *(GateSite("decoder", 0, kind) for kind in ("self_attn", "src_attn", "ffn")))


def decoded(gates: dict[tuple[str, str], str], name: str = "one") -> Decoded:
    utterances = tuple(
        Utterance(cut, Task.parse(task), "a", "a", None, 1.0, 1.0, 2.0, mask) for (task, cut), mask in gates.items()
    )
    return Decoded(Path(name), "prompts", "test", name, "decoder", 0.5, SITES, {}, "cpu", 1, {}, {}, {}, utterances, {})


def test_stability_of_two_runs():
    first = decoded({("asr:fra", "a"): "1110", ("asr:fra", "b"): "1100", ("st:fra-eng", "a"): "1001"})
    assert stability(first, first).same == 1.0
    assert stability(first, first).usage_correlation == pytest.approx(1.0)
    second = decoded({("asr:fra", "a"): "1110", ("asr:fra", "b"): "1010", ("st:spa-eng", "z"): "1111"}, "two")
    found = stability(first, second)
    assert found.utterances == 2
    assert found.same == pytest.approx(4 / 6)  # of three gated sites; the encoder's has no gate
    assert found.chance == pytest.approx((0.5 + 0.5 + 1.0) / 3)
    with pytest.raises(ValueError, match="different sites"):
        stability(first, replace(first, stack="encoder"))
    with pytest.raises(ValueError, match="no utterance in common"):
        stability(first, decoded({("asr:spa", "a"): "1111"}))


@pytest.mark.parametrize(
    ("checkpoint", "label"),
    [
        ("exp/prompts/gates_decoder_0.50", "decoder 50%"),
        ("exp/prompts/gates_dial_decoder", "decoder 50%, dial"),
        ("exp/prompts/gates_context_free_decoder_0.50", "decoder 50%, context free"),
        ("exp/prompts/half", "decoder 50%, half"),
    ],
)
def test_a_label_says_which_gates(checkpoint, label):
    assert replace(decoded({("asr:fra", "a"): "1110"}), checkpoint=checkpoint).label == label
