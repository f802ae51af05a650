"""Random models, batches and samples: never a hang, a crash or a changed neighbour."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from tests.gates.gated import gated_model, padded_configs, random_mask
from tests.model.tiny import TASKS, checkpoint_of, random_model, recordings, searchable, tiny_config

KINDS = ("noise", "noise", "silence", "nan", "inf", "loud")


def spoil(sample: torch.Tensor, kind: str) -> torch.Tensor:
    sample = sample.clone()
    if kind == "silence":
        sample.zero_()
    elif kind == "loud":
        sample *= 1e6
    elif kind in ("nan", "inf"):
        sample[len(sample) // 2] = float(kind)
    return sample


@settings(max_examples=8, deadline=None)
@given(
    config=padded_configs,
    seed=st.integers(0, 2**16),
    utterances=st.lists(st.tuples(st.integers(1_600, 16_000), st.sampled_from(KINDS)), min_size=2, max_size=4),
    beam_size=st.integers(1, 6),
    ctc_weight=st.sampled_from([0.0, 0.3]),
)
def test_any_batch_decodes_and_no_utterance_touches_another(config, seed, utterances, beam_size, ctc_weight):
    model, gates = gated_model(config, seed)
    options = SearchOptions(beam_size=beam_size, ctc_weight=ctc_weight)
    engine = Engine(checkpoint_of(searchable(model), config), options)
    masks_BS = random_mask(gates, len(utterances), seed, 0.7)
    samples = [
        spoil(sample, kind)
        for sample, (_, kind) in zip(recordings([n for n, _ in utterances], seed), utterances, strict=True)
    ]
    tasks = [TASKS[i % len(TASKS)] for i in range(len(samples))]
    gates.force(masks_BS)
    together = engine.decode(*pad_speech(samples, 0.0), tasks)
    for row, sample in enumerate(samples):
        gates.force(masks_BS[row : row + 1])
        alone = engine.decode(*pad_speech([sample], 0.0), tasks[row : row + 1])[0]
        assert len(alone.hypotheses) == len(together[row].hypotheses)
        if utterances[row][1] == "noise":
            assert alone.text == together[row].text
            scores = [h.score for h in together[row].hypotheses]
            assert [h.score for h in alone.hypotheses] == pytest.approx(scores, abs=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 60.0])
def test_the_shortest_and_a_long_recording(seconds):
    config = tiny_config(relative=False)
    engine = Engine(checkpoint_of(searchable(random_model(config)), config), SearchOptions(max_length_ratio=-20))
    decoded = engine.decode(*pad_speech(recordings([int(seconds * 16_000)]), 0.2), TASKS[:1])
    assert decoded[0].hypotheses[0].steps <= 20
