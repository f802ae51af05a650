"""The engine on gated models: each utterance as if alone, as ESPnet's own search, and without what its gates close."""

import pytest
import torch
from espnet2.legacy.nets.batch_beam_search import BatchBeamSearch
from espnet2.legacy.nets.scorers.ctc import CTCPrefixScorer
from torch.overrides import TorchFunctionMode

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Decoded, Engine
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.search import SearchOptions
from speechgate.gates.attach import detach
from tests.gates.gated import count_calls, gated_model, random_mask
from tests.model.tiny import TASKS, checkpoint_of, recordings, searchable, tiny_config, tokenizer

LENGTHS = [9_000, 4_000, 12_000, 6_000]
BATCH_TASKS = [TASKS[0], TASKS[2], TASKS[1], TASKS[2]]
GROUPS = {"heads": 2, "channels": 4}
OPTIONS = [SearchOptions(beam_size=1, ctc_weight=0.0), SearchOptions(beam_size=4, ctc_weight=0.3, nbest=3)]


def gated_engine(
    seed: int, options: SearchOptions, execution: Execution = DEFAULT, groups: dict[str, int] | None = None
) -> tuple[Engine, torch.Tensor]:
    """An engine whose gates are forced to a mask for each utterance, of which two share the decoder's."""
    config = tiny_config(encoder_layers=2, decoder_layers=2)
    model, gates = gated_model(config, seed, groups=groups or {})
    searchable(model)
    mask_BS = random_mask(gates, len(LENGTHS), seed, share=0.6)
    mask_BS[2, gates.sites_of("decoder")] = mask_BS[0, gates.sites_of("decoder")]
    mask_BS[1] = True
    gates.force(mask_BS)
    return Engine(checkpoint_of(model, config), options, execution), mask_BS


def decode_batch(engine: Engine, rows: list[int], seed: int) -> list[Decoded]:
    samples = recordings(LENGTHS, seed)
    return engine.decode(
        *pad_speech([samples[row] for row in rows], min_seconds=0.0), [BATCH_TASKS[row] for row in rows]
    )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("seed", "groups"), [(0, None), (1, None), (2, None), (0, GROUPS), (1, GROUPS)])
def test_a_batch_of_mixed_gates_decodes_as_each_utterance_alone(seed, groups, options):
    engine, mask_BS = gated_engine(seed, options, groups=groups)
    together = decode_batch(engine, list(range(len(LENGTHS))), seed)
    assert torch.equal(torch.tensor([decoded.open_S for decoded in together]), mask_BS)
    assert any(decoded.hypotheses[0].tokens for decoded in together)
    for row, decoded in enumerate(together):
        engine.gates.force(mask_BS[row : row + 1])
        alone = decode_batch(engine, [row], seed)[0]
        assert (alone.text, alone.ctc_text, alone.open_S) == (decoded.text, decoded.ctc_text, decoded.open_S)
        assert [h.tokens for h in alone.hypotheses] == [h.tokens for h in decoded.hypotheses]
        assert [h.score for h in alone.hypotheses] == pytest.approx([h.score for h in decoded.hypotheses], abs=1e-3)
        assert (alone.macs, alone.macs_dense) == (decoded.macs, decoded.macs_dense)


def espnet_search(engine: Engine, sample: torch.Tensor, task, options: SearchOptions):
    """ESPnet's n best of one utterance with the gates now forced: tokens and scores."""
    model, tokens = engine.model, engine.tokens
    ctc_weight = options.ctc_weight if task.kind == "asr" else 0.0
    with torch.inference_mode():
        encoder_out_1TD, frames_1 = model.encode(*pad_speech([sample], min_seconds=0.0))
        model.gates.decide("decoder", encoder_out_1TD, torch.ones(encoder_out_1TD.shape[:2]))
        search = BatchBeamSearch(
            scorers={"decoder": model.decoder, "ctc": CTCPrefixScorer(model.ctc, tokens.eos)},
            weights={"decoder": 1.0 - ctc_weight, "ctc": ctc_weight},
            beam_size=options.beam_size,
            vocab_size=model.vocab_size,
            sos=tokens.sos,
            eos=tokens.eos,
            pre_beam_ratio=options.pre_beam_ratio,
            pre_beam_score_key="full",
        )
        prompt = [tokens.sos, *tokenizer().prompt(task)]
        search.set_hyp_primer(prompt)
        found = search(encoder_out_1TD[0, : int(frames_1)], 0.0, 0.0)[: options.nbest]
    plain = [tuple(t for t in hyp.yseq[len(prompt) :].tolist() if t != tokens.eos) for hyp in found]
    return plain, [float(hyp.score) for hyp in found]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("seed", "groups"), [(0, None), (1, None), (2, None), (0, GROUPS), (1, GROUPS)])
def test_equals_espnet_s_search_on_the_gated_model(seed, groups, options):
    engine, mask_BS = gated_engine(seed, options, groups=groups)
    together = decode_batch(engine, list(range(len(LENGTHS))), seed)
    for row, (sample, decoded) in enumerate(zip(recordings(LENGTHS, seed), together, strict=True)):
        engine.gates.force(mask_BS[row : row + 1])
        tokens, scores = espnet_search(engine, sample, BATCH_TASKS[row], options)
        assert [hypothesis.tokens for hypothesis in decoded.hypotheses] == tokens
        assert [hypothesis.score for hypothesis in decoded.hypotheses] == pytest.approx(scores, abs=1e-3)


class LinearWeights(TorchFunctionMode):
    """Notes the weights of all linear layers that are computed, wherever they are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.used: set[int] = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.linear:
            self.used.add(args[1].data_ptr())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", OPTIONS)
def test_closed_modules_do_not_run_while_decoding(options):
    engine, mask_BS = gated_engine(5, options, Execution(packed=False))  # packed weights would hide which they are
    model, gates = engine.model, engine.gates
    rows = [0, 2]
    gates.force(mask_BS[rows])
    with count_calls(model) as calls, LinearWeights() as linear:
        decode_batch(engine, rows, seed=5)
    last_layer = {"self_attn": "linear_out", "src_attn": "linear_out", "ffn": "w_2"}
    for site, open_B in zip(gates.sites, mask_BS[rows].T, strict=True):
        is_open = bool(open_B.any())
        if site.stack == "encoder":
            assert calls[str(site)] == is_open, str(site)
        else:  # the engine runs the decoder's weights itself, without its modules
            layer = model.decoder.decoders[site.layer]
            module = layer.feed_forward if site.kind == "ffn" else getattr(layer, site.kind)
            weight = getattr(module, last_layer[site.kind]).weight
            assert (weight.data_ptr() in linear.used) == is_open, str(site)
            assert calls[str(site)] == 0
    decoder_open = mask_BS[rows][:, gates.sites_of("decoder")].any(0)
    assert 0 < decoder_open.sum() < len(decoder_open)  # the mask was worth testing


def test_groups_are_sliced_for_the_search_and_kept():
    engine, mask_BS = gated_engine(1, OPTIONS[0], groups=GROUPS)
    together = decode_batch(engine, [0, 1, 2, 3], seed=1)
    misses = engine.searcher._narrow.cache_info().misses
    assert misses > 0
    assert decode_batch(engine, [0, 1, 2, 3], seed=1) == together
    assert engine.searcher._narrow.cache_info().misses == misses
    decoder = engine.gates.sites_of("decoder")
    weights, open_BM = engine.searcher._weights(mask_BS[:, decoder])
    assert open_BM is not None
    for layer, dense in zip(weights.layers, engine.searcher._dense.layers, strict=True):
        for block in layer:
            own = next(each for each in dense if type(each) is type(block))
            sizes = [each.down.weight.shape[1] if hasattr(each, "down") else each.heads for each in (block, own)]
            assert 0 < sizes[0] <= sizes[1]
    assert open_BM.sum() < open_BM.numel()
    rows = mask_BS[:, decoder].any(1)
    assert torch.equal(open_BM.any(1), rows)


def test_the_gates_of_the_predictor_are_those_reported_and_used():
    config = tiny_config()
    model, gates = gated_model(config, seed=2)
    engine = Engine(checkpoint_of(searchable(model), config), SearchOptions(beam_size=2, nbest=2))
    decoded = decode_batch(engine, [0, 1, 2, 3], seed=2)
    masks = torch.tensor([result.open_S for result in decoded])
    assert len({result.open_S for result in decoded}) > 1
    gates.force(masks)
    forced = decode_batch(engine, [0, 1, 2, 3], seed=2)
    assert [result.hypotheses for result in forced] == [result.hypotheses for result in decoded]
    assert [result.macs for result in forced] == [result.macs for result in decoded]
    assert all(0 < result.macs < result.macs_dense for result in decoded)


def test_a_dense_model_reports_all_open():
    config = tiny_config()
    model, gates = gated_model(config)
    gates.force(torch.ones(1, len(gates.sites)))
    engine = Engine(checkpoint_of(searchable(model), config), OPTIONS[1])
    gated = decode_batch(engine, [0, 1], seed=0)
    predictors = engine.cost.predictor_macs()
    dense_engine = Engine(checkpoint_of(detach(model), config), OPTIONS[1])
    dense = decode_batch(dense_engine, [0, 1], seed=0)
    assert [result.hypotheses for result in dense] == [result.hypotheses for result in gated]
    assert all(all(result.open_S) and result.macs == result.macs_dense for result in dense)
    assert all(result.macs - result.macs_dense == predictors > 0 for result in gated)
