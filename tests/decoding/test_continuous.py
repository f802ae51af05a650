"""Utterances that enter as others leave: the hypotheses of each are those that it has alone."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Decoded, Engine, Inputs
from speechgate.decoding.memory import BatchHalvedWarning
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.search.running import RunningDecoder
from speechgate.text.vocabulary import learn_vocabulary
from tests.gates.gated import gated_model
from tests.model.tiny import TASKS, TEXTS, checkpoint_of, random_model, recordings, searchable, tiny_config, tokenizer

VOCABULARY = learn_vocabulary(tokenizer(), {"eng": [TEXTS[0], TEXTS[2]], "rus": [TEXTS[1]]})
OPTIONS = [
    SearchOptions(beam_size=1, ctc_weight=0.0),
    SearchOptions(beam_size=1),
    SearchOptions(beam_size=3, ctc_weight=0.0, nbest=2),
    SearchOptions(beam_size=3, nbest=3, length_bonus=0.3),
    SearchOptions(beam_size=2, max_length_ratio=0.6, end_detect=False),
    SearchOptions(beam_size=2, min_length_ratio=0.9),  # some find nothing so long, and are searched again
    SearchOptions(beam_size=2, ctc_weight=0.0, finish="transformers", nbest=2),
    SearchOptions(beam_size=2, max_length_ratio=-1),
]
GROUPS = {"heads": 2, "channels": 4}


def batches_of(utterances: list[tuple[int, int, bool]], sizes: list[int], seed: int) -> list[Inputs]:
    """Utterances (samples, task, whether they are spoilt) in batches of ``sizes``, over and over."""
    samples = recordings([length for length, _, _ in utterances], seed)
    for sample, (_, _, spoilt) in zip(samples, utterances, strict=True):
        if spoilt:
            sample[len(sample) // 2] = float("nan")
    batches, at = [], 0
    while at < len(samples):
        rows = slice(at, at + sizes[len(batches) % len(sizes)])
        batches.append((*pad_speech(samples[rows], 0.0), [TASKS[task] for _, task, _ in utterances[rows]], None))
        at = rows.stop
    return batches


def alone(engine: Engine, batches: list[Inputs]) -> Iterator[Decoded]:
    for speech_BN, lengths_B, tasks, _ in batches:
        for row, length in enumerate(lengths_B.tolist()):
            yield from engine.decode(speech_BN[row : row + 1, :length], lengths_B[row : row + 1], tasks[row : row + 1])


def assert_same(found: dict[int, Decoded], expected: list[Decoded]) -> None:
    assert sorted(found) == list(range(len(expected)))
    for number, theirs in enumerate(expected):
        ours = found[number]
        assert (ours.text, ours.ctc_text, ours.open_S) == (theirs.text, theirs.ctc_text, theirs.open_S)
        assert (ours.macs, ours.macs_dense) == (theirs.macs, theirs.macs_dense)
        for mine, other in zip(ours.hypotheses, theirs.hypotheses, strict=True):
            assert (mine.tokens, mine.steps) == (other.tokens, other.steps)
            assert mine.score == pytest.approx(other.score, abs=1e-3, rel=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    utterances=st.lists(
        st.tuples(st.integers(1_600, 14_000), st.integers(0, 2), st.sampled_from([False, False, False, True])),
        min_size=3,
        max_size=12,
    ),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    options=st.sampled_from(OPTIONS),
    kind=st.sampled_from(["dense", "gated", "groups"]),
    vocabulary=st.booleans(),
    ascending=st.sampled_from([None, False, True]),
)
def test_each_utterance_is_found_as_if_alone(seed, utterances, sizes, options, kind, vocabulary, ascending):
    if ascending is not None:
        utterances = sorted(utterances, reverse=not ascending)
    config = tiny_config(encoder_layers=1, decoder_layers=2)
    if kind == "dense":
        model = random_model(config, seed)
    else:
        model, _ = gated_model(config, seed, groups=GROUPS if kind == "groups" else {})
    engine = Engine(checkpoint_of(searchable(model), config), options, vocabulary=VOCABULARY if vocabulary else None)
    batches = batches_of(utterances, sizes, seed)
    expected = list(alone(engine, batches))
    assert_same(dict(engine.decode_all(iter(batches))), expected)


def steps_of(monkeypatch: pytest.MonkeyPatch, engine: Engine, batches: list[Inputs], continuous: bool) -> list[int]:
    """The rows of every step that the decoder makes."""
    rows: list[int] = []
    step = RunningDecoder.step

    def counting(self, parents, tokens):
        rows.append(len(tokens))
        return step(self, parents, tokens)

    with monkeypatch.context() as patch:
        patch.setattr(RunningDecoder, "step", counting)
        if continuous:
            list(engine.decode_all(batches))
        else:
            for batch in batches:
                engine.decode(*batch)
    return rows


def test_waiting_utterances_enter_and_steps_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    options = SearchOptions(beam_size=2, end_detect=False)  # as many steps as frames
    engine = Engine(checkpoint_of(searchable(random_model(config, 4)), config), options)
    batches = batches_of([(2_000 + 900 * (n * 7 % 12), 0, False) for n in range(12)], [4], 0)
    expected = list(alone(engine, batches))
    fixed, continuous = (steps_of(monkeypatch, engine, batches, way) for way in (False, True))
    assert max(continuous) <= max(fixed) + 1
    assert len(continuous) < 0.8 * len(fixed)
    assert_same(dict(engine.decode_all(batches)), expected)


def test_results_come_as_they_are_found_and_batches_are_encoded_when_there_is_room() -> None:
    config = tiny_config()
    engine = Engine(
        checkpoint_of(searchable(random_model(config, 4)), config), SearchOptions(beam_size=1, end_detect=False)
    )
    batches = batches_of([(4_000 if n % 3 else 12_000, 0, False) for n in range(12)], [3], 0)
    asked: list[int] = []
    seen: list[tuple[int, int]] = []

    def given_out() -> Iterator[Inputs]:
        for number, batch in enumerate(batches):
            asked.append(number)
            yield batch

    for number, _ in engine.decode_all(given_out()):
        seen.append((number, len(asked)))
    assert seen[0] in [(1, 1), (2, 1)]  # shorter than the first utterance, before another batch is encoded
    assert sorted(number for number, _ in seen) == list(range(12))


def test_a_search_that_does_not_fit_in_memory_goes_on_with_half_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    engine = Engine(checkpoint_of(searchable(random_model(config, 4)), config), SearchOptions(beam_size=2))
    batches = batches_of([(3_000 + 500 * n, 0, False) for n in range(9)], [4, 5], 0)
    expected = list(alone(engine, batches))
    step, most = RunningDecoder.step, 2

    def small(self, parents, tokens):
        if len(tokens) > most:
            raise torch.OutOfMemoryError("full")
        return step(self, parents, tokens)

    monkeypatch.setattr(RunningDecoder, "step", small)
    with pytest.warns(BatchHalvedWarning):
        assert_same(dict(engine.decode_all(batches)), expected)
    most = 0
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(BatchHalvedWarning):
        list(engine.decode_all(batches))


def test_prompts_of_different_lengths_share_a_search() -> None:
    config = tiny_config()
    checkpoint = checkpoint_of(searchable(random_model(config, 4)), config)
    engine = Engine(checkpoint, SearchOptions(beam_size=2, ctc_weight=0.0, nbest=2))
    prompt = engine.tokenizer.prompt

    class Longer:
        """Prompts as Whisper's, some with more symbols than others."""

        def __getattr__(self, name):
            return getattr(tokenizer(), name)

        def prompt(self, task):
            return [*prompt(task), *([7, 9] if task == TASKS[1] else [])]

    engine = Engine(replace(checkpoint, tokenizer=Longer()), SearchOptions(beam_size=2, ctc_weight=0.0, nbest=2))
    batches = batches_of([(3_000 + 700 * (n * 5 % 9), n % 2, False) for n in range(9)], [3], 1)
    assert_same(dict(engine.decode_all(batches)), list(alone(engine, batches)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", OPTIONS[:4])
def test_cuda_finds_what_the_cpu_does(options: SearchOptions) -> None:
    config = tiny_config()
    batches = batches_of([(2_000 + 900 * (n * 7 % 12), n % 3, False) for n in range(12)], [4], 0)
    model = searchable(random_model(config, 4))
    expected = list(alone(Engine(checkpoint_of(model, config), options), batches))
    engine = Engine(checkpoint_of(model.cuda(), config), options)
    on_gpu = [(speech_BN.cuda(), *rest) for speech_BN, *rest in batches]
    assert_same(dict(engine.decode_all(on_gpu)), expected)
