"""The table of MACs against PyTorch's FLOP counter, which counts two operations a MAC in the products that are run.

It counts no fused attention, so that attention runs as plain products here: ESPnet's own in the encoder and the
teacher-forced decoder, and the math kernel in the engine.
"""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speechgate.config import CONF_DIR, GatesConfig, ModelConfig, from_mapping, load_yaml
from speechgate.decoding.encoded import Encoded
from speechgate.decoding.engine import Engine
from speechgate.decoding.execution import Execution
from speechgate.decoding.search import SearchOptions
from speechgate.gates.attach import attach
from speechgate.gates.cost import CostTable
from speechgate.gates.sites import module_shares
from speechgate.model.build import build_model
from tests.gates.gated import configs, decode, encode, gated_model, grouped_configs, groups, random_mask, seeds
from tests.model.tiny import LANGUAGES, TASKS, checkpoint_of, random_model, speech, tiny_config, tokenizer

SAMPLES = 6_000
STEPS = 7


def counted(run) -> float:
    """MACs of calling ``run``."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run()
    return counter.get_total_flops() / 2


def feature_frames(model) -> int:
    return (SAMPLES + 512) // model.frontend.hop_length + 1


def of_encoder(model) -> float:
    """MACs of the encoder on one utterance, its features given."""
    features = torch.randn(1, feature_frames(model), model.frontend.output_size())
    return counted(lambda: model.encoder(features, torch.tensor([features.size(1)])))


def of_decoder(model, frames: int) -> float:
    """MACs of the teacher-forced decoder on one utterance."""
    encoder_out = torch.randn(1, frames, model.encoder.output_size())
    return counted(lambda: decode(model, encoder_out, torch.tensor([frames]), length=STEPS))


@settings(max_examples=15, deadline=None)
@given(config=configs)
def test_every_site_costs_what_closing_it_saves(config):
    model, gates = gated_model(config)
    table = CostTable(model)
    frames = int(encode(random_model(config), *speech([SAMPLES]))[1])

    def used(mask_S) -> float:
        return table.utterance_macs(mask_S, feature_frames(model), frames, STEPS, beam=1)[0]

    def run(mask_S) -> float:
        gates.force(mask_S[None])
        return of_encoder(model) + of_decoder(model, frames)

    everything = torch.ones(len(gates.sites), dtype=torch.bool)
    dense = run(everything)
    # Teacher forcing scores every token against every other, a step with a cache only against those before.
    width = model.encoder.output_size()
    extra = 2 * STEPS**2 * width - STEPS * (STEPS + 1) * width
    for index, site in enumerate(gates.sites):
        closed = everything.clone()
        closed[index] = False
        saved = used(everything) - used(closed)
        if len({each.kind for each in gates.sites if each.stack == site.stack}) > 1:  # else the merge goes with it
            assert saved == table.site_macs(frames, STEPS, beam=1)[index]
        assert dense - run(closed) == saved + (extra if site.kind == "self_attn" else 0), str(site)


@settings(max_examples=20, deadline=None)
@given(case=st.one_of(st.tuples(configs, st.just({})), st.tuples(grouped_configs, groups)), seed=seeds)
def test_any_mask_costs_what_the_table_says(case, seed):
    config, split = case
    dense_model = random_model(config, seed)
    frames = int(encode(dense_model, *speech([SAMPLES]))[1])
    width = dense_model.encoder.output_size()
    features, vocabulary = feature_frames(dense_model), len(tokenizer().token_list)
    model, gates = gated_model(config, seed, groups=split)
    table = CostTable(model)
    mask_S = random_mask(gates, 1, seed)[0]
    used, dense = table.utterance_macs(mask_S, features, frames, STEPS, beam=1)

    gates.force(mask_S[None])
    own_S = torch.tensor([site.kind == "self_attn" for site in gates.sites])
    attends = float((torch.tensor(module_shares(gates.sites)) * mask_S)[own_S].sum())
    layers = len(model.decoder.decoders)
    extra = 2 * STEPS**2 * width - STEPS * (STEPS + 1) * width
    ctc = frames * width * vocabulary
    assert of_encoder(model) + of_decoder(model, frames) + ctc + table.predictor_macs() - attends * extra == (
        pytest.approx(used, rel=1e-9)
    )
    assert of_encoder(dense_model) + of_decoder(dense_model, frames) + ctc - layers * extra == dense
    # the dense cost is the same with and without gates, and a dense model's own
    own = CostTable(dense_model)
    everything = torch.ones(len(own.sites), dtype=torch.bool)
    assert own.utterance_macs(everything, features, frames, STEPS, 1) == (dense, dense)


def test_the_engine_costs_what_the_table_says():
    """Its steps are the tokens that it reads: <sos> and the prompt at once, then one a step, the last one never."""
    config, steps = tiny_config(), 9
    model = random_model(config)
    encoder_out_BTD, frames_B = encode(model, *speech([SAMPLES]))
    options = SearchOptions(beam_size=1, ctc_weight=0.0, fixed_steps=steps)
    # The counter does not know the products of packed weights.
    engine = Engine(checkpoint_of(model, config), options, Execution(packed=False))
    prompt = 1 + len(tokenizer().prompt(TASKS[0]))
    width = model.encoder.output_size()
    for seed in range(3):
        open_1S = torch.rand(1, len(engine.cost.sites), generator=torch.Generator().manual_seed(seed)) < 0.7
        with sdpa_kernel(SDPBackend.MATH):
            encoded = Encoded(encoder_out_BTD, torch.tensor([SAMPLES]), frames_B, TASKS[:1], open_1S)
            search = partial(engine.search, encoded)
            found = counted(search)
        read = prompt + steps - 1
        sites_S = engine.cost.site_macs(int(frames_B), read, beam=1) * open_1S[0]
        decoder = [i for i, site in enumerate(engine.cost.sites) if site.stack == "decoder"]
        attends = sum(bool(open_1S[0, i]) for i in decoder if engine.cost.sites[i].kind == "self_attn")
        extra = attends * (2 * prompt**2 - prompt * (prompt + 1)) * width  # within the prompt, as in teacher forcing
        assert found == float(sites_S[decoder].sum()) + steps * width * model.vocab_size + extra


def test_the_predictors_cost_less_than_a_hundredth_of_the_dense_model():
    config = from_mapping(ModelConfig, load_yaml(CONF_DIR / "model" / "demo.yaml"), "demo")
    model = build_model(config, tokenizer().token_list).eval()
    attach(model, GatesConfig(stack="both"), LANGUAGES).set_context(TASKS[:1])
    table = CostTable(model)
    everything = torch.ones(len(table.sites), dtype=torch.bool)
    seconds = 0.5  # a short utterance: the predictors' share falls with the length
    features = int(seconds * 16_000) // model.frontend.hop_length
    frames = features // 4
    used, dense = table.utterance_macs(everything, features, frames, 3, 1)
    assert 0 < used - dense == table.predictor_macs() < 0.01 * dense
    x_BTD = torch.randn(1, frames, model.encoder.output_size())
    with_pooling = counted(
        lambda: [model.gates.decide(s, x_BTD, torch.ones(1, frames)) for s in ("encoder", "decoder")]
    )
    assert table.predictor_macs() <= with_pooling < 0.01 * dense


def test_hand_counted():
    """Width 16, 10 frames, 3 steps, a beam of 2; the units of tiny_config."""
    table = CostTable(random_model(tiny_config(encoder_layers=1, decoder_layers=1, relative=False)))
    macs = {site.kind: float(value) for site, value in zip(table.sites, table.site_macs(10, 3, 2), strict=True)}
    assert macs == {
        "ffn1": 10 * 2 * 16 * 24,
        "attn": 10 * 4 * 16 * 16 + 2 * 10 * 10 * 16,
        "cgmlp": 10 * (16 * 20 + 10 * 5 + 10 * 16),
        "ffn2": 10 * 2 * 16 * 24,
        "self_attn": 2 * (3 * 4 * 16 * 16 + 2 * (1 + 2 + 3) * 16),
        "src_attn": 10 * 2 * 16 * 16 + 6 * (2 * 16 * 16 + 2 * 10 * 16),
        "ffn": 6 * 2 * 16 * 28,
    }
    assert table.joint_macs(10, 3, 2).tolist() == [10 * (32 * 3 + 32 * 16)]
    assert table.predictor_macs() == 0
