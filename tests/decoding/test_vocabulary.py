"""Searches that compute some rows of the output layer: equal to those where all other logits are -inf."""

from dataclasses import replace

import pytest
import torch

from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions, StepGraphs, prepare_decoder, search
from speechgate.errors import ConfigError
from speechgate.text.vocabulary import LanguageTokens, Vocabulary, learn_vocabulary
from tests.decoding.reference import PROMPT, RandomModel, random_model
from tests.model.tiny import TASKS, TEXTS, checkpoint_of, searchable, speech, tiny_config, tokenizer
from tests.model.tiny import random_model as random_s2t

LENGTHS = [31, 7, 18, 2]
OPTIONS = [
    SearchOptions(beam_size=1, ctc_weight=0.0),
    SearchOptions(beam_size=1),
    SearchOptions(ctc_weight=0.0, nbest=3),
    SearchOptions(nbest=4),
    SearchOptions(beam_size=3, pre_beam_ratio=100.0, length_bonus=0.5, nbest=2),
    SearchOptions(fixed_steps=12, nbest=2),
    SearchOptions(ctc_weight=0.0, finish="transformers", length_penalty=0.6),
]
FORBIDDEN = (3, 8, 11, 20)


def some_of(model: RandomModel, seed: int) -> list[int]:
    """About half of the tokens, <eos> and the blank among them."""
    chosen = torch.rand(model.vocabulary, generator=torch.Generator().manual_seed(seed)) < 0.5
    chosen[[model.tokens.eos, model.tokens.blank]] = True
    return chosen.nonzero()[:, 0].tolist()


@torch.inference_mode()
def searched(model, inputs, options, ids=None, *, pack=False, static=False, graphs=None, tokens=None):
    weights = prepare_decoder(model.decoder)
    weights = weights.pack(torch.float32) if pack else weights
    weights = weights if ids is None else weights.writing(ids)
    encoder_out, lengths = inputs
    logits = model.ctc.ctc_lo(encoder_out)
    log_probs = (logits if ids is None else logits[..., list(ids)]).log_softmax(-1)
    prompts = [[4 + i, *PROMPT[1:]] for i in range(len(lengths))]  # prompts need no rows
    tokens = tokens or replace(model.tokens, forbidden=FORBIDDEN, forbidden_first=(5, 6))
    return search(weights, log_probs, encoder_out, lengths, prompts, options, tokens, static, graphs=graphs)


def silence_others(model: RandomModel, ids: list[int]) -> None:
    others = sorted({*range(model.vocabulary)} - {*ids})
    with torch.no_grad():
        for layer in (model.decoder.output_layer, model.ctc.ctc_lo):
            layer.weight[others] = 0.0
            layer.bias[others] = float("-inf")


def assert_near(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        # More labels than frames are impossible for CTC, and the order of such hypotheses is rounding noise.
        ours, theirs = ([h for h in nbest if h.score > -1e6] for nbest in (ours, theirs))
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.steps for h in ours] == [h.steps for h in theirs]
        for part in ("score", "decoder_score", "ctc_score"):
            assert [getattr(h, part) for h in ours] == pytest.approx([getattr(h, part) for h in theirs], abs=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("pack", [False, True])
def test_all_tokens_are_no_restriction_to_the_last_bit(options, pack):
    model = random_model(seed=1, eos_bias=2.0)
    inputs = model.encoder_out(LENGTHS)
    expected = searched(model, inputs, options, pack=pack)
    assert searched(model, inputs, options, range(model.vocabulary), pack=pack) == expected


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_some_tokens_are_as_if_the_other_logits_were_minus_infinity(options, seed):
    model = random_model(seed=seed, eos_bias=2.0)
    inputs, ids = model.encoder_out(LENGTHS, seed), some_of(model, seed)
    found = searched(model, inputs, options, ids)
    packed = searched(model, inputs, options, ids, pack=True)
    static = searched(model, inputs, options, ids, static=True)
    silence_others(model, ids)
    expected = searched(model, inputs, options)
    assert all(expected)
    assert_near(found, expected)
    assert_near(packed, expected)
    assert_near(static, expected)
    written = {token for nbest in found for h in nbest for token in h.tokens}
    assert written <= set(ids) - set(FORBIDDEN)


def test_searches_of_different_tokens_have_graphs_of_their_own():
    model, graphs, options = random_model(eos_bias=-10.0), StepGraphs(), SearchOptions(ctc_weight=0.0)
    inputs = model.encoder_out([9, 6])
    few = some_of(model, 5)
    for ids in (None, few, None):
        found = searched(model, inputs, options, ids, static=True, graphs=graphs)
        assert_near(found, searched(model, inputs, options, ids))
    assert len(graphs) == 3  # weights are prepared anew each time here


def test_refused_tokens():
    model = random_model()
    inputs = model.encoder_out([5])
    weights = prepare_decoder(model.decoder)
    for ids in ([], [-1, 3], [model.vocabulary]):
        with pytest.raises(ConfigError, match=f"{model.vocabulary} tokens"):
            weights.writing(ids)
    with pytest.raises(ConfigError, match="already"):
        weights.writing([1, 2]).writing([1])
    with pytest.raises(ConfigError, match="lack <eos>"):
        searched(model, inputs, SearchOptions(), range(10))
    with pytest.raises(ConfigError, match="beam_size 5 with a vocabulary of 4"):
        searched(model, inputs, SearchOptions(), [0, 2, 3, model.tokens.eos])
    with pytest.raises(ConfigError, match="lack the blank"):
        searched(model, inputs, SearchOptions(), range(1, model.vocabulary))
    with pytest.raises(ConfigError, match=f"CTC knows {model.vocabulary} tokens, the output layer 9"):
        model.search(*inputs, SearchOptions(beam_size=2), weights=weights.writing([*range(8), model.tokens.eos]))


def engine_of(vocabulary: Vocabulary | None, ctc_weight: float) -> Engine:
    config = tiny_config()
    checkpoint = checkpoint_of(searchable(random_s2t(config, seed=4)), config)
    return Engine(checkpoint, SearchOptions(ctc_weight=ctc_weight, nbest=2), vocabulary=vocabulary)


LEARNT = learn_vocabulary(tokenizer(), {"eng": [TEXTS[0], TEXTS[2]], "rus": [TEXTS[1]]})
BATCH = [9_000, 4_000, 12_000, 6_000, 7_000]


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_utterances_of_a_mixed_batch_are_written_in_their_own_languages(ctc_weight):
    tasks = [TASKS[i] for i in (0, 1, 2, 1, 0)]  # English, Russian, Russian to English, Russian, English
    engine = engine_of(LEARNT, ctc_weight)
    speech_BN, lengths_B = speech(BATCH)
    found = engine.decode(speech_BN, lengths_B, tasks)
    for row, task in enumerate(tasks):
        n = int(lengths_B[row])
        (alone,) = engine.decode(speech_BN[row : row + 1, :n], lengths_B[row : row + 1], [task])
        assert_near([found[row].hypotheses], [alone.hypotheses])
        written = {token for h in found[row].hypotheses for token in h.tokens}
        assert written <= set(LEARNT.ids(task.tgt)) - tokenizer().specials
        pieces = tokenizer().decode(LEARNT.ids(task.tgt))
        assert set(found[row].ctc_text) <= set(pieces) | {" "}
    # The full vocabulary writes others: the restriction was one.
    free = engine_of(None, ctc_weight).decode(speech_BN, lengths_B, tasks)
    assert [each.text for each in free] != [each.text for each in found]
    assert [each.ctc_text for each in free] != [each.ctc_text for each in found]


def test_engine_with_all_tokens_finds_the_same_to_the_last_bit():
    everything = LanguageTokens(tuple(range(len(tokenizer()))), 1, 1.0)
    vocabulary = replace(LEARNT, languages={"eng": everything, "rus": everything})
    batch, tasks = speech(BATCH), [TASKS[0]] * 5
    assert engine_of(vocabulary, 0.3).decode(*batch, tasks) == engine_of(None, 0.3).decode(*batch, tasks)


def test_rows_are_gathered_once_and_their_macs_counted():
    engine = engine_of(LEARNT, 0.0)
    batch, tasks = speech(BATCH[:2]), [TASKS[0]] * 2
    first = engine.decode(*batch, tasks)
    weights = engine.searcher._writing("eng")[0]
    assert engine.decode(*batch, tasks) == first
    assert engine.searcher._writing("eng")[0] is weights
    free = engine_of(None, 0.0)
    left_out = (len(tokenizer()) - len(LEARNT.ids("eng"))) * weights.output.linear.weight.shape[1]
    frames = engine.encode(*batch, tasks).frames_B.tolist()
    for row, each in enumerate(first):
        steps = each.hypotheses[0].steps
        macs, dense = free.cost.utterance_macs(
            torch.tensor(each.open_S), int(batch[1][row]) // 128 + 1, frames[row], steps, 5
        )
        assert (each.macs, each.macs_dense) == pytest.approx(
            (macs - left_out * steps * 5, dense - left_out * steps * 5)
        )


def test_a_language_that_was_not_learnt():
    only_english = replace(LEARNT, languages={"eng": LEARNT.languages["eng"]})
    with pytest.raises(ConfigError, match="'rus'"):
        engine_of(only_english, 0.0).decode(*speech([4_000]), [TASKS[1]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("static", [False, True])
def test_cuda_equals_cpu(static):
    model = random_model(eos_bias=2.0)
    (encoder_out, lengths), ids = model.encoder_out(LENGTHS), some_of(model, 0)
    expected = searched(model, (encoder_out, lengths), OPTIONS[3], ids)
    model.decoder.cuda(), model.ctc.cuda()
    assert_near(searched(model, (encoder_out.cuda(), lengths), OPTIONS[3], ids, static=static), expected)
