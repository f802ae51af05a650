"""Searches of constant shapes: the same hypotheses, in steps that a CUDA graph can hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.decoding.search import DecoderWeights, SearchOptions, StepGraphs, prepare_decoder, search
from speechgate.decoding.search.room import Room
from tests.decoding.reference import PROMPT, RandomModel, random_model

PARTS = ("beam", "ctc", "ended", "held", "modules", "ranked", "running")
RUNNING = {f"speechgate.decoding.search.{name}" for name in PARTS}
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
def static_search(
    model: RandomModel,
    inputs: tuple[torch.Tensor, torch.Tensor],
    options: SearchOptions,
    weights: DecoderWeights | None = None,
    static: bool = True,
    **given,
):
    encoder_out, lengths = inputs
    log_probs = model.ctc.log_softmax(encoder_out)
    prompts = [PROMPT] * len(lengths)
    weights = weights or prepare_decoder(model.decoder)
    return search(weights, log_probs, encoder_out, lengths, prompts, options, model.tokens, static, **given)


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        # More labels than frames are impossible for CTC, and the order of such hypotheses is rounding noise.
        ours, theirs = ([h for h in nbest if h.score > -1e6] for nbest in (ours, theirs))
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


@pytest.mark.parametrize(
    "options",
    [SearchOptions(ctc_weight=0.0), SearchOptions(), SearchOptions(ctc_weight=0.0, finish="transformers")],
    ids=["decoder", "ctc", "transformers"],
)
def test_a_captured_step_keeps_every_address_and_shape(options):
    """What a graph reads and writes must lie where it lay, also after a search of its own and another's."""
    model = random_model(eos_bias=-10.0)
    weights, graphs = prepare_decoder(model.decoder), StepGraphs()
    static_search(model, model.encoder_out([9, 6]), options, weights=weights, graphs=graphs)
    (captured,) = graphs._by_key.values()
    before = tensors_of(captured.search)
    assert len(before) == len(captured._places)  # none is forgotten
    with torch.inference_mode():
        captured.run()
    assert tensors_of(captured.search) == before
    weights = weights.only([[True] * 3] * 2)  # made anew of the same blocks
    static_search(model, model.encoder_out([7, 8], seed=1), options, weights=weights, graphs=graphs)
    assert tensors_of(captured.search) == before
    assert len(graphs) == 1


@settings(max_examples=6, deadline=None)
@given(
    searches=st.lists(
        st.tuples(
            st.lists(st.integers(1, 70), min_size=1, max_size=5), st.integers(0, 1), st.integers(0, len(OPTIONS) - 1)
        ),
        min_size=2,
        max_size=5,
    ),
    eos_bias=st.sampled_from([-1.0, 3.0]),
)
def test_searches_that_share_graphs_find_what_they_find_alone(searches, eos_bias):
    """Different lengths, batches, masks and options one after the other, each of them twice."""
    model = random_model(eos_bias=eos_bias, seed=2)
    dense, graphs = prepare_decoder(model.decoder), StepGraphs(most=3)
    masks = [[[True] * 3] * 2, [[True, False, True], [False, True, True]]]
    for seed, (lengths, mask, at) in enumerate(searches * 2):
        weights = dense.only(masks[mask])  # other weights of the same blocks
        inputs = model.encoder_out(lengths, seed)
        before = inputs[0].clone()
        found = static_search(model, inputs, OPTIONS[at], weights=weights, graphs=graphs)
        expected = static_search(model, inputs, OPTIONS[at], weights=weights, static=False)
        assert_equal(found, expected)
        assert torch.equal(inputs[0], before)  # a graph's memory is its own


def test_modules_of_some_utterances_share_a_graph_whichever_these_are():
    model = random_model(eos_bias=1.0, seed=2)
    weights, graphs = prepare_decoder(model.decoder), StepGraphs()
    for seed in range(3):
        open_BM = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed)) < 0.5
        inputs = model.encoder_out(LENGTHS, seed)
        found = static_search(model, inputs, OPTIONS[1], weights=weights, open_BM=open_BM, graphs=graphs)
        assert_equal(found, static_search(model, inputs, OPTIONS[1], weights=weights, open_BM=open_BM, static=False))
    assert len(graphs) == 1


def test_graphs_not_used_for_longest_are_forgotten():
    model = random_model()
    weights, graphs = prepare_decoder(model.decoder), StepGraphs(most=2)
    for frames in (10, 70, 12, 140):  # the rooms are of 64, 96, 64 and 192 frames
        static_search(model, model.encoder_out([frames]), OPTIONS[4], weights=weights, graphs=graphs)
    assert [captured.search._ctc._lengths_B.tolist() for captured in graphs._by_key.values()] == [[12], [140]]
    graphs.clear()
    assert len(graphs) == 0


@given(frames=st.lists(st.integers(1, 3000), min_size=1, max_size=20), most_steps=st.sampled_from([None, 5, 400]))
def test_room_is_enough_and_at_most_twice_as_much(frames, most_steps):
    options = SearchOptions()
    room = Room.of(frames, options, most_steps)
    needed = (len(frames), max(frames), max(options.step_limits(each, most_steps)[1] for each in frames))
    for provided, least, wanted in zip((room.batch, room.frames, room.steps), (1, 64, 16), needed, strict=True):
        assert wanted <= provided <= max(least, 2 * wanted)
    assert most_steps is None or room.steps <= most_steps


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
def test_cuda_graphs_equal_cpu(options):
    model = random_model(eos_bias=1.0, seed=2)
    batches = [model.encoder_out(lengths, seed) for seed, lengths in enumerate((LENGTHS, [40, 5, 9], LENGTHS, [1]))]
    open_BM = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    weights = prepare_decoder(model.decoder)
    expected = [static_search(model, each, options, weights, static=False) for each in batches]
    expected += [static_search(model, batches[0], options, weights, static=False, open_BM=open_BM)]
    model.decoder.cuda(), model.ctc.cuda()
    weights, graphs = prepare_decoder(model.decoder), StepGraphs()
    batches = [(encoder_out.cuda(), lengths) for encoder_out, lengths in batches]
    found = [static_search(model, each, options, weights, graphs=graphs) for each in batches]
    found += [static_search(model, batches[0], options, weights, open_BM=open_BM, graphs=graphs)]
    for ours, theirs in zip(found, expected, strict=True):
        assert_equal(ours, theirs)
    # One for the two batches of four, one for that of three and one for open_BM; one step needs none, and the last
    # batch, of one frame, has more than one only if their number is fixed.
    assert len(graphs) == (0 if options.max_length_ratio == -1 else 3 + (options.fixed_steps is not None))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3])
def test_no_step_waits_for_the_device(ctc_weight):
    model = random_model(eos_bias=-10.0)
    model.decoder.cuda(), model.ctc.cuda()
    encoder_out, lengths = model.encoder_out([9, 6])
    options = SearchOptions(ctc_weight=ctc_weight)
    weights, graphs = prepare_decoder(model.decoder), StepGraphs()
    static_search(model, (encoder_out.cuda(), lengths), options, weights, graphs=graphs)
    (captured,) = graphs._by_key.values()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            captured.search.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
