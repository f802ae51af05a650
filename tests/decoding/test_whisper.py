"""The search over Whisper's decoder against transformers' own ``generate``."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_outputs import BaseModelOutput

from speechgate.decoding.search import Hypothesis, SearchTokens, prepare_whisper_decoder, search
from speechgate.errors import ConfigError
from tests.decoding.tiny_whisper import (
    EOS,
    LENGTHS,
    OPTIONS,
    POSITIONS,
    PROMPT,
    SOT,
    TOKENS,
    assert_same,
    encoder_out,
    ours,
    random_whisper,
    theirs,
)


@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -0.5, 2.0])
@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize("eos_bias", [0.0, 6.0, 9.0])
def test_equals_transformers(length_penalty, beam_size, eos_bias):
    for seed in range(2):
        model = random_whisper(eos_bias=eos_bias, seed=seed)
        options = replace(OPTIONS, beam_size=beam_size, nbest=beam_size, length_penalty=length_penalty)
        out_BTD = encoder_out(LENGTHS, seed)
        assert_same(ours(model, out_BTD, LENGTHS, options), theirs(model, out_BTD, LENGTHS, options))


@settings(max_examples=40, deadline=None, derandomize=True)  # scores that differ by rounding could change places
@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=5),
    beam_size=st.integers(1, 6),
    length_penalty=st.floats(-1.0, 2.0),
    most_steps=st.integers(1, 2 * POSITIONS),
    eos_bias=st.floats(4.0, 11.0),
    seed=st.integers(0, 1000),
)
def test_random_searches_equal_transformers(lengths, beam_size, length_penalty, most_steps, eos_bias, seed):
    model = random_whisper(eos_bias=eos_bias, seed=seed)
    options = replace(
        OPTIONS, beam_size=beam_size, nbest=beam_size, length_penalty=length_penalty, max_length_ratio=-most_steps
    )
    out_BTD = encoder_out(lengths, seed)
    assert_same(ours(model, out_BTD, lengths, options), theirs(model, out_BTD, lengths, options))


@torch.inference_mode()
def test_equals_what_whisper_itself_returns():
    model = random_whisper()
    out_BTD = encoder_out(LENGTHS)
    for beam_size in (1, 5):
        found = ours(model, out_BTD, LENGTHS, replace(OPTIONS, beam_size=beam_size, nbest=1))
        for hypotheses, row, length in zip(found, out_BTD, LENGTHS, strict=True):
            text = model.generate(
                encoder_outputs=BaseModelOutput(row[None, :length]),
                language="en",
                task="transcribe",
                num_beams=beam_size,
                suppress_tokens=list(TOKENS.forbidden),
                begin_suppress_tokens=list(TOKENS.forbidden_first),
            )
            assert list(hypotheses[0].tokens) == text[0].tolist()  # without prompt and <eos>


def test_greedy_search_by_either_rule_is_the_same():
    model = random_whisper()
    out_BTD = encoder_out(LENGTHS)
    one = replace(OPTIONS, beam_size=1, nbest=1)
    by_espnet = ours(model, out_BTD, LENGTHS, replace(one, finish="espnet"))
    by_transformers = ours(model, out_BTD, LENGTHS, one)
    assert [found[0].tokens for found in by_espnet] == [found[0].tokens for found in by_transformers]
    for espnet, transformers in zip(by_espnet, by_transformers, strict=True):
        scored = min(len(espnet[0].tokens) + 1, espnet[0].steps)
        assert transformers[0].score == pytest.approx(espnet[0].score / scored)
        assert transformers[0].decoder_score == pytest.approx(espnet[0].decoder_score)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("eos_bias", [0.0, 8.0])
def test_utterances_do_not_influence_each_other(static, eos_bias):
    model = random_whisper(eos_bias=eos_bias, seed=3)
    lengths = [12, 40, 3, 25, 1, 33]
    out_BTD = encoder_out(lengths)
    together = ours(model, out_BTD, lengths, OPTIONS, static=static)
    alone = [ours(model, out_BTD[i : i + 1, : lengths[i]], lengths[i : i + 1], OPTIONS)[0] for i in range(len(lengths))]
    same_search(together, alone)


@pytest.mark.parametrize("static", [False, True])
def test_closed_modules_of_each_utterance(static):
    """A batch of different masks finds what a specialised decoder, its closed modules None, finds for each."""
    model = random_whisper(seed=1)
    out_BTD = encoder_out(LENGTHS)
    open_BM = torch.rand(len(LENGTHS), 6, generator=torch.Generator().manual_seed(5)) < 0.5
    together = ours(model, out_BTD, LENGTHS, OPTIONS, static=static, open_BM=open_BM)
    alone = []
    for row, (length, is_open) in enumerate(zip(LENGTHS, open_BM.tolist(), strict=True)):
        left = random_whisper(seed=1)
        for at, layer in enumerate(left.model.decoder.layers):
            for kind, names in enumerate((("self_attn",), ("encoder_attn",), ("fc1", "fc2"))):
                for name in names:
                    if not is_open[3 * at + kind]:
                        setattr(layer, name, None)
        alone.append(ours(left, out_BTD[row : row + 1, :length], [length], OPTIONS)[0])
    same_search(together, alone)
    dense = ours(model, out_BTD, LENGTHS, OPTIONS)
    assert [h[0].tokens for h in dense] != [h[0].tokens for h in together]


def same_search(found: list[list[Hypothesis]], other: list[list[Hypothesis]]) -> None:
    for hypotheses, others in zip(found, other, strict=True):
        assert [(h.tokens, h.steps) for h in hypotheses] == [(h.tokens, h.steps) for h in others]
        assert [h.score for h in hypotheses] == pytest.approx([h.score for h in others], abs=1e-4)


def test_forbidden_first_is_for_the_first_token_alone():
    model = random_whisper()
    out_BTD = encoder_out(LENGTHS)
    options = replace(OPTIONS, beam_size=1, nbest=1)
    free = ours(model, out_BTD, LENGTHS, options, SearchTokens(SOT, EOS))
    first, second = free[0][0].tokens[:2]
    barred = SearchTokens(SOT, EOS, forbidden_first=(first, second))
    assert ours(model, out_BTD, LENGTHS, options, barred)[0][0].tokens[0] not in (first, second)
    later = SearchTokens(SOT, EOS, forbidden_first=(second,))
    assert ours(model, out_BTD, LENGTHS, options, later)[0][0].tokens == free[0][0].tokens


def test_positions_bound_the_search():
    model = random_whisper(eos_bias=-20.0)
    out_BTD = encoder_out([50])
    found = ours(model, out_BTD, [50], OPTIONS)
    assert found[0][0].steps == POSITIONS - 1 - len(PROMPT)
    exactly = replace(OPTIONS, max_length_ratio=0.0, fixed_steps=POSITIONS - 1 - len(PROMPT))
    assert ours(model, out_BTD, [50], exactly)[0][0].steps == exactly.fixed_steps
    with pytest.raises(ConfigError, match=f"learnt {POSITIONS}"):
        ours(model, out_BTD, [50], replace(exactly, fixed_steps=POSITIONS))
    weights = prepare_whisper_decoder(model.model.decoder, model.proj_out)
    with pytest.raises(ConfigError, match=f"{POSITIONS} positions"):
        search(weights, None, out_BTD, torch.tensor([50]), [[4] * POSITIONS], OPTIONS, TOKENS)


def test_an_utterance_that_is_not_finite_has_no_hypothesis_and_its_neighbours_keep_theirs():
    model = random_whisper()
    out_BTD = encoder_out(LENGTHS)
    sound = ours(model, out_BTD, LENGTHS, OPTIONS)
    out_BTD[1, 3] = float("nan")
    for static in (False, True):
        found = ours(model, out_BTD, LENGTHS, OPTIONS, static=static)
        assert found[1] == []
        same_search([found[0], *found[2:]], [sound[0], *sound[2:]])


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"finish": "whisper"}, "finish"),
        ({"ctc_weight": 0.3}, "ctc_weight"),
        ({"length_bonus": 0.1}, "length_bonus"),
        ({"min_length_ratio": 0.1}, "min_length_ratio"),
        ({"finish": "espnet", "length_penalty": 0.5}, "length_penalty"),
    ],
)
def test_refused_options(keys, named):
    with pytest.raises(ConfigError, match=named):
        replace(OPTIONS, **keys)


def test_refused_beam():
    with pytest.raises(ConfigError, match="beam_size 100"):
        ours(random_whisper(), encoder_out([5]), [5], replace(OPTIONS, beam_size=100))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(static):
    model = random_whisper()
    out_BTD = encoder_out(LENGTHS)
    expected = ours(model, out_BTD, LENGTHS, OPTIONS)
    same_search(ours(model.cuda(), out_BTD.cuda(), LENGTHS, OPTIONS, static=static), expected)
