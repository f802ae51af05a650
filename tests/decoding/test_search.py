"""The search against ESPnet's own, and what holds between searches of ours."""

import math
from dataclasses import replace

import pytest
import torch

from speechgate.decoding.search import Hypothesis, SearchOptions, SearchTokens
from speechgate.errors import ConfigError
from tests.decoding.reference import PROMPT, assert_same, random_model

LENGTHS = [31, 7, 18, 2]


def same_text(found: list[list[Hypothesis]], other: list[list[Hypothesis]]) -> None:
    for ours, theirs in zip(found, other, strict=True):
        assert [hypothesis.tokens for hypothesis in ours] == [hypothesis.tokens for hypothesis in theirs]
        assert [hypothesis.steps for hypothesis in ours] == [hypothesis.steps for hypothesis in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize(("width", "heads", "layers", "vocabulary"), [(32, 4, 2, 30), (48, 2, 3, 90), (16, 1, 1, 12)])
def test_equals_espnet(ctc_weight, beam_size, width, heads, layers, vocabulary):
    for seed in range(2):
        model = random_model(width, heads, layers, vocabulary=vocabulary, seed=seed, eos_bias=2.0 * seed)
        options = SearchOptions(beam_size=beam_size, ctc_weight=ctc_weight, nbest=4)
        inputs = model.encoder_out(LENGTHS, seed)
        assert_same(model.search(*inputs, options), model.espnet_search(*inputs, options))


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(length_bonus=0.7, nbest=3),
        SearchOptions(length_bonus=-1.0, ctc_weight=0.5),
        SearchOptions(max_length_ratio=0.5, end_detect=False, nbest=2),
        SearchOptions(max_length_ratio=-9, end_detect=False),
        SearchOptions(min_length_ratio=0.3, nbest=2),
        SearchOptions(min_length_ratio=-4),
        SearchOptions(min_length_ratio=1.0, ctc_weight=0.1),  # no hypothesis is so long: lowered until there is one
        SearchOptions(beam_size=3, pre_beam_ratio=4.0),
        SearchOptions(beam_size=4, pre_beam_ratio=100.0),  # CTC scores the whole vocabulary
    ],
    ids=lambda options: " ".join(f"{k}={v}" for k, v in vars(options).items() if v != getattr(SearchOptions(), k)),
)
def test_options_mean_what_they_do_in_espnet(options):
    model = random_model(seed=2, eos_bias=3.0)
    inputs = model.encoder_out(LENGTHS)
    assert_same(model.search(*inputs, options), model.espnet_search(*inputs, options))


def test_equals_espnet_batch_of_its_own():
    model = random_model(seed=5)
    inputs = model.encoder_out(LENGTHS, 5)
    options = SearchOptions(nbest=3)
    assert_same(model.search(*inputs, options), model.espnet_search(*inputs, options, batched=True))


def test_end_detection_stops_as_espnet_does():
    model = random_model(sharpness=1.0, eos_bias=4.0, vocabulary=20)
    inputs = model.encoder_out([80, 60])
    everything = SearchOptions(nbest=1000)
    detected = model.search(*inputs, everything)
    assert [found[0].steps < length for found, length in zip(detected, (80, 60), strict=True)] == [True, True]
    # All that ended before the stop, and nothing else, is in ESPnet's list too: it stopped at the same step.
    assert_same(detected, model.espnet_search(*inputs, everything))
    exhaustive = model.search(*inputs, replace(everything, end_detect=False))
    assert [found[0].steps for found in exhaustive] == [80, 60]
    assert [found[0].tokens for found in exhaustive] == [found[0].tokens for found in detected]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_utterances_do_not_influence_each_other(ctc_weight):
    model = random_model(seed=3, eos_bias=3.0)
    lengths = [12, 40, 3, 25, 1, 33]
    options = SearchOptions(ctc_weight=ctc_weight, nbest=2)
    prompts = [[4 + index, 7, 9] for index in range(len(lengths))]
    encoder_out, lengths_B = model.encoder_out(lengths)
    encoder_out[torch.arange(encoder_out.shape[1]) >= lengths_B[:, None]] = 1e3  # padding must not matter
    together = model.search(encoder_out, lengths_B, options, prompts=prompts)
    alone = [
        model.search(encoder_out[i : i + 1, : lengths[i]], lengths_B[i : i + 1], options, prompts=prompts[i : i + 1])[0]
        for i in range(len(lengths))
    ]
    same_text(together, alone)


def test_finished_utterances_leave_the_batch(monkeypatch):
    from speechgate.decoding.search.running import RunningDecoder

    batches = []
    step = RunningDecoder.step

    def counting_step(self, parents, tokens):
        batches.append(len(tokens))
        return step(self, parents, tokens)

    monkeypatch.setattr(RunningDecoder, "step", counting_step)
    model = random_model(eos_bias=-10.0)
    found = model.search(*model.encoder_out([4, 9, 2]), SearchOptions())
    assert [hypotheses[0].steps for hypotheses in found] == [4, 9, 2]
    # The first token comes of the prompt; then as many rows as there are utterances still running.
    assert batches == [3, 2, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_fixed_steps(ctc_weight, beam_size):
    model = random_model(eos_bias=4.0)
    options = SearchOptions(beam_size=beam_size, ctc_weight=ctc_weight, fixed_steps=21, nbest=2)
    found = model.search(*model.encoder_out([9, 5]), options)
    for hypotheses in found:
        assert hypotheses[0].steps == 21
        assert all(len(h.tokens) == 21 and model.tokens.eos not in h.tokens for h in hypotheses)
        assert all(math.isfinite(h.score) for h in hypotheses)


def test_score_is_the_weighted_sum_of_its_parts():
    model = random_model()
    found = model.search(*model.encoder_out([20]), SearchOptions(length_bonus=0.5, nbest=3))
    for h in found[0]:
        scored = h.steps if len(h.tokens) == h.steps else len(h.tokens) + 1  # <eos> is added unscored at the last step
        assert h.score == pytest.approx(0.7 * h.decoder_score + 0.3 * h.ctc_score + 0.5 * scored)


def test_forbidden_tokens_are_never_chosen():
    model = random_model(seed=4)
    inputs = model.encoder_out(LENGTHS)
    forbidden = tuple(range(5, 25))
    tokens = SearchTokens(model.tokens.sos, model.tokens.eos, forbidden=forbidden)
    found = model.search(*inputs, SearchOptions(nbest=5), tokens=tokens)
    assert all(hypotheses for hypotheses in found)
    assert not {token for hypotheses in found for h in hypotheses for token in h.tokens} & set(forbidden)


def test_utterance_that_is_not_finite_has_no_hypothesis_and_its_neighbours_keep_theirs():
    model = random_model()
    encoder_out, lengths = model.encoder_out([10, 12, 11])
    sound = model.search(encoder_out, lengths, SearchOptions())
    encoder_out[1, 3] = float("nan")
    found = model.search(encoder_out, lengths, SearchOptions())
    assert found[1] == []
    same_text([found[0], found[2]], [sound[0], sound[2]])


def test_long_search_outgrows_cache_and_position_table():
    model = random_model(width=16, heads=2, layers=1)
    inputs = model.encoder_out([5])
    options = SearchOptions(beam_size=2, ctc_weight=0.0, fixed_steps=60)
    expected = model.search(*inputs, options)
    model.decoder.embed[1].pe = model.decoder.embed[1].pe[:, :20]
    same_text(model.search(*inputs, options), expected)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"beam_size": 0}, "beam_size"),
        ({"ctc_weight": 1.0}, "ctc_weight"),
        ({"ctc_weight": -0.1}, "ctc_weight"),
        ({"nbest": 0}, "nbest"),
        ({"pre_beam_ratio": 0.5}, "pre_beam_ratio"),
        ({"fixed_steps": 0}, "fixed_steps"),
        ({"fixed_steps": 5, "max_length_ratio": 0.5}, "max_length_ratio"),
        ({"fixed_steps": 5, "min_length_ratio": 0.5}, "min_length_ratio"),
    ],
)
def test_refused_options(keys, named):
    with pytest.raises(ConfigError, match=named):
        SearchOptions(**keys)


def test_refused_input():
    model = random_model()
    encoder_out, lengths = model.encoder_out([4, 5])
    with pytest.raises(ConfigError, match="beam_size 30"):
        model.search(encoder_out, lengths, SearchOptions(beam_size=30))
    with pytest.raises(ConfigError, match="prompt"):
        model.search(encoder_out, lengths, SearchOptions(), prompts=[PROMPT, PROMPT[:2]])
    with pytest.raises(ConfigError, match="no frames"):
        model.search(encoder_out, torch.tensor([4, 0]), SearchOptions())
    with pytest.raises(ConfigError, match="blank"):
        SearchTokens(sos=1, eos=0, blank=0)


@pytest.mark.parametrize("seed", range(12))
def test_random_searches_equal_espnet(seed):
    generator = torch.Generator().manual_seed(seed)

    def pick(*choices):
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    heads = pick(1, 2, 4)
    model = random_model(
        heads * pick(8, 12), heads, pick(1, 2, 3), pick(16, 50), pick(15, 40, 200), pick(2.0, 6.0), pick(-1.0, 2.0, 4.0)
    )
    options = SearchOptions(
        beam_size=pick(1, 3, 7), ctc_weight=pick(0.0, 0.2, 0.6), length_bonus=pick(0.0, 0.3), nbest=3
    )
    lengths = [pick(1, 4, 15, 28, 45) for _ in range(pick(1, 2, 5))]
    inputs = model.encoder_out(lengths, seed)
    assert_same(model.search(*inputs, options), model.espnet_search(*inputs, options))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_cuda_equals_cpu(ctc_weight):
    model = random_model(eos_bias=2.0)
    encoder_out, lengths = model.encoder_out(LENGTHS)
    options = SearchOptions(ctc_weight=ctc_weight, nbest=2)
    expected = model.search(encoder_out, lengths, options)
    model.decoder.cuda(), model.ctc.cuda()
    same_text(model.search(encoder_out.cuda(), lengths, options), expected)
