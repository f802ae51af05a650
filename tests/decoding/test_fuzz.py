"""Random models, batches, samples and options: never a hang, a crash or a changed neighbour.

    SPEECHGATE_FUZZ=100 python -m pytest tests/decoding/test_fuzz.py -k long

decodes that many batches of recordings of 0.1 s to 10 minutes.  By default there are a few, of at most 20 seconds.
"""

import math
import os
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.text.vocabulary import LanguageTokens, Vocabulary
from tests.gates.gated import gated_model, padded_configs, random_mask
from tests.model.tiny import (
    LANGUAGES,
    TASKS,
    checkpoint_of,
    random_model,
    recordings,
    searchable,
    tiny_config,
    tokenizer,
)

EXAMPLES = int(os.environ.get("SPEECHGATE_FUZZ", "0"))
LONGEST_SECONDS = 600.0 if EXAMPLES else 20.0
RATE = 16_000
SOUND = ("noise", "noise", "noise", "silence", "faint", "loud", "pause", "offset")
BROKEN = ("nan", "inf", "-inf")


def spoil(sample: torch.Tensor, kind: str) -> torch.Tensor:
    sample = sample.clone()
    middle = len(sample) // 2
    match kind:
        case "silence":
            sample.zero_()
        case "faint":
            sample *= 1e-30
        case "loud":
            sample *= 1e6
        case "pause":
            sample[middle:] = 0.0
        case "offset":
            sample += 0.7
        case "nan" | "inf" | "-inf":
            sample[middle] = float(kind)
    return sample


def searches(most_steps: list[float]) -> st.SearchStrategy[SearchOptions]:
    """Options of both rules of ending; ``most_steps`` are values of ``max_length_ratio``."""
    espnet = st.builds(
        SearchOptions,
        beam_size=st.integers(1, 8),
        ctc_weight=st.sampled_from([0.0, 0.3, 0.6]),
        length_bonus=st.sampled_from([0.0, 0.5, -0.5]),
        max_length_ratio=st.sampled_from(most_steps),
        min_length_ratio=st.sampled_from([0.0, 0.0, -2.0]),
        nbest=st.integers(1, 3),
        end_detect=st.booleans(),
    )
    transformers = st.builds(
        SearchOptions,
        beam_size=st.integers(1, 4),
        ctc_weight=st.just(0.0),
        max_length_ratio=st.sampled_from(most_steps),
        finish=st.just("transformers"),
        length_penalty=st.sampled_from([0.0, 1.0]),
    )
    return st.one_of(espnet, espnet, transformers)


def vocabulary_of(seed: int) -> Vocabulary:
    """Most of the tokens for each language, and the special symbols."""
    generator = torch.Generator().manual_seed(seed)
    languages = {}
    for language in LANGUAGES:
        chosen = torch.rand(len(tokenizer()), generator=generator) < 0.8
        chosen[sorted(tokenizer().specials)] = True
        languages[language] = LanguageTokens(tuple(chosen.nonzero()[:, 0].tolist()), 1, 1.0)
    return Vocabulary(languages, 1.0, len(tokenizer()), "")


def check_batch(config, seed, utterances, options, packed, with_vocabulary, min_seconds):
    """Decode ``utterances``, pairs of samples and a kind, together and each alone: the same hypotheses."""
    model, gates = gated_model(config, seed)
    vocabulary = vocabulary_of(seed) if with_vocabulary else None
    engine = Engine(checkpoint_of(searchable(model), config), options, Execution(packed=packed), vocabulary)
    masks_BS = random_mask(gates, len(utterances), seed, 0.7)
    samples = [
        spoil(sample, kind)
        for sample, (_, kind) in zip(recordings([n for n, _ in utterances], seed), utterances, strict=True)
    ]
    tasks = [TASKS[i % len(TASKS)] for i in range(len(samples))]
    gates.force(masks_BS)
    together = engine.decode(*pad_speech(samples, min_seconds), tasks)
    for row, sample in enumerate(samples):
        gates.force(masks_BS[row : row + 1])
        alone = engine.decode(*pad_speech([sample], min_seconds), tasks[row : row + 1])[0]
        found, expected = together[row].hypotheses, alone.hypotheses
        assert [h.tokens for h in found] == [h.tokens for h in expected]
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-3, rel=1e-4)
        assert all(math.isfinite(h.score) for h in found)


@settings(max_examples=8, deadline=None)
@given(
    config=padded_configs,
    seed=st.integers(0, 2**16),
    utterances=st.lists(st.tuples(st.integers(1_600, 16_000), st.sampled_from(SOUND + BROKEN)), min_size=2, max_size=4),
    options=searches([0.0, 0.5, -7]),
    packed=st.booleans(),
    with_vocabulary=st.booleans(),
)
def test_any_batch_decodes_and_no_utterance_touches_another(config, seed, utterances, options, packed, with_vocabulary):
    check_batch(config, seed, utterances, options, packed, with_vocabulary, 0.0)


LONG = settings(
    max_examples=EXAMPLES or 6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would decode for hours
)


@LONG
@given(
    encoder=padded_configs,
    seed=st.integers(0, 2**16),
    utterances=st.lists(
        st.tuples(st.floats(math.log(0.1), math.log(LONGEST_SECONDS)), st.sampled_from(SOUND + BROKEN)),
        min_size=1,
        max_size=4,
    ),
    options=searches([0.02, -40, -200]),
    packed=st.booleans(),
    with_vocabulary=st.booleans(),
)
@pytest.mark.timeout(300 + 120 * EXAMPLES)
def test_long_batches(encoder, seed, utterances, options, packed, with_vocabulary):
    """As above; a frame of 32 ms, so that relative positions, which are quadratic, fit in memory."""
    config = replace(encoder, frontend={**encoder.frontend, "hop_length": 512})
    lengths = [(round(math.exp(log_seconds) * RATE), kind) for log_seconds, kind in utterances]
    check_batch(config, seed, lengths, options, packed, with_vocabulary, 0.4)


@pytest.mark.parametrize("seconds", [0.1, 600.0])
def test_the_shortest_and_a_long_recording(seconds):
    config = tiny_config(relative=False)
    engine = Engine(checkpoint_of(searchable(random_model(config)), config), SearchOptions(max_length_ratio=-20))
    decoded = engine.decode(*pad_speech(recordings([int(seconds * RATE)]), 0.2), TASKS[:1])
    assert decoded[0].hypotheses[0].steps <= 20
