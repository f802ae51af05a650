"""Searches of constant shapes: the same hypotheses, in steps that a CUDA graph can hold."""

import pytest
import torch

from speechgate.decoding.search import SearchOptions, prepare_decoder, search
from speechgate.decoding.search import beam as beam_module
from tests.decoding.reference import PROMPT, RandomModel, random_model

RUNNING = {f"speechgate.decoding.search.{name}" for name in ("beam", "ctc", "ended", "running")}
LENGTHS = [31, 7, 18, 2]
OPTIONS = [
    SearchOptions(beam_size=1, ctc_weight=0.0),
    SearchOptions(nbest=4),
    SearchOptions(ctc_weight=0.0, length_bonus=0.5, nbest=3),
    SearchOptions(min_length_ratio=0.4, nbest=2),
    SearchOptions(fixed_steps=13, nbest=2),
    SearchOptions(max_length_ratio=-1),
]


@torch.inference_mode()
def static_search(model: RandomModel, inputs: tuple[torch.Tensor, torch.Tensor], options: SearchOptions):
    encoder_out, lengths = inputs
    log_probs = model.ctc.log_softmax(encoder_out)
    prompts = [PROMPT] * len(lengths)
    weights = prepare_decoder(model.decoder)
    return search(weights, log_probs, encoder_out, lengths, prompts, options, model.tokens, static=True)


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert [h.tokens for h in ours] == [h.tokens for h in theirs]
        assert [h.score for h in ours] == pytest.approx([h.score for h in theirs], abs=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("eos_bias", [-10.0, 1.0, 4.0])
def test_static_search_finds_what_the_shrinking_one_does(options, eos_bias):
    model = random_model(eos_bias=eos_bias, seed=2)
    inputs = model.encoder_out(LENGTHS)
    expected = model.search(*inputs, options)
    found = static_search(model, inputs, options)
    assert_equal(found, expected)
    assert [h[0].steps for h in found if h] == [h[0].steps for h in expected if h]


def test_an_utterance_that_is_not_finite_leaves_its_neighbours_alone():
    model = random_model()
    encoder_out, lengths = model.encoder_out([10, 12, 11])
    sound = model.search(encoder_out, lengths, SearchOptions())
    encoder_out[1, 3] = float("nan")
    found = static_search(model, (encoder_out, lengths), SearchOptions())
    assert found[1] == []
    assert_equal([found[0], found[2]], [sound[0], sound[2]])


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_what_a_step_replaces_is_carried_and_shapes_stay(ctc_weight):
    """A graph reads and writes fixed addresses: a tensor replaced by a step must be among those copied back."""
    model = random_model(eos_bias=-10.0)
    encoder_out, lengths = model.encoder_out([9, 6])
    with torch.inference_mode():
        one = beam_module._Search(
            prepare_decoder(model.decoder),
            model.ctc.log_softmax(encoder_out),
            encoder_out,
            lengths,
            [PROMPT] * 2,
            SearchOptions(ctc_weight=ctc_weight),
            model.tokens,
            True,
        )
        for _ in range(2):
            one._extend()
            one._follow()
        before = tensors_of(one)
        one._extend()
        one._follow()
        after = tensors_of(one)
    carried = {(id(owner), name) for owner, name in one._carried()}
    assert before.keys() == after.keys()
    replaced = {key for key in before if before[key][0] != after[key][0]}
    assert replaced
    assert replaced <= carried
    assert all(before[key][1] == after[key][1] for key in before)


def tensors_of(root) -> dict[tuple[int, str], tuple[int, torch.Size]]:
    """Address and shape of every tensor that is an attribute of ``root`` or of what it holds."""
    found, waiting, seen = {}, [root], set()
    while waiting:
        owner = waiting.pop()
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in vars(owner).items():
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, torch.Tensor):
                    found[id(owner), name] = (each.data_ptr(), each.shape)
                elif type(each).__module__ in RUNNING:
                    waiting.append(each)
    return found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", OPTIONS)
def test_cuda_graph_equals_cpu(options):
    model = random_model(eos_bias=1.0, seed=2)
    encoder_out, lengths = model.encoder_out(LENGTHS)
    expected = model.search(encoder_out, lengths, options)
    model.decoder.cuda(), model.ctc.cuda()
    assert_equal(static_search(model, (encoder_out.cuda(), lengths), options), expected)
