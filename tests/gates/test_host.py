"""Gates that decide on another device than the model's, in another precision, and without waits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgate.decoding.engine import Engine
from speechgate.decoding.search import SearchOptions
from speechgate.gates.context import Context
from speechgate.gates.transfer import real_frames, send
from speechgate.training.objective import sparsity_penalty
from tests.gates.gated import gated_model, padded_configs, seeds
from tests.model.tiny import TASKS, checkpoint_of, searchable, tiny_config

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))
CONTEXTS = [(), ("task", "source", "target"), ("audio", "task"), ("difference", "vector:speaker:3", "budget")]
VECTORS_B3 = torch.tensor([[1.0, 2.0, 4.0], [0.5, -1.0, 3.0], [2.0, 0.0, -1.0]])
RULES = [{"rule": "budget", "target": 0.4}, {"rule": "threshold", "thresholds": {"decoder/asr": 0.1}}]


def known(dither: bool = True) -> Context:
    return Context(TASKS, {"speaker": VECTORS_B3}, torch.tensor([0.1, 0.5, 0.9]) if dither else None)


def stack_input(seed: int, width: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """What a stack hears of three utterances: (B, T, D), and which frames are real (B, T)."""
    x_BTD = torch.randn(3, 9, width, generator=torch.Generator().manual_seed(seed))
    return x_BTD, real_frames(torch.tensor([9, 4, 6]), 9, torch.device("cpu"))


def decided(gates, x_BTD: torch.Tensor, mask_BT: torch.Tensor, context: Context) -> tuple[torch.Tensor, torch.Tensor]:
    """The decoder's scores and gates."""
    gates.set_context(context)
    with torch.no_grad():
        gates_BS = gates.decide("decoder", x_BTD, mask_BT)
    return gates.scores["decoder"][0], gates_BS


@pytest.mark.parametrize("device", ["cpu", CUDA])
@settings(max_examples=20, deadline=None)
@given(seed=seeds, context=st.sampled_from(CONTEXTS), rule=st.sampled_from(RULES), dither=st.booleans())
def test_gates_decide_alike_where_they_are_and_where_the_model_runs(device, seed, context, rule, dither):
    """The model's input on ``device``: gates there, as in training, and on the CPU, as in the engine."""
    if "budget" in context:
        rule = RULES[0]
    _, gates = gated_model(tiny_config(), seed, context=context, **rule)
    x_BTD, mask_BT = (each.to(device) for each in stack_input(seed))
    found = []
    for where in (device, "cpu"):
        gates.to(where)
        scores_BS, gates_BS = decided(gates, x_BTD, mask_BT, known(dither))
        assert gates_BS.device.type == where
        found.append((scores_BS.cpu(), gates_BS.cpu()))
    (scores_BS, expected_BS), (host_BS, gates_BS) = found
    torch.testing.assert_close(host_BS, scores_BS, atol=1e-4, rtol=1e-4)
    apart = (scores_BS[:, :, None] - scores_BS[:, None]).abs() + torch.eye(scores_BS.size(1))
    if apart.min() > 1e-3 and scores_BS.abs().min() > 1e-3:
        assert torch.equal(gates_BS, expected_BS)


@settings(max_examples=20, deadline=None)
@given(config=padded_configs, seed=seeds, context=st.sampled_from(CONTEXTS[:3]), training=st.booleans())
def test_decisions_are_in_single_precision_whatever_the_model_s(config, seed, context, training):
    _, gates = gated_model(config, seed, context=context)
    gates.noise = 0.0
    gates.train(training)
    x_BTD, mask_BT = stack_input(seed, width_of(gates))
    expected = decided(gates, x_BTD, mask_BT, known())
    with torch.autocast("cpu", torch.bfloat16):
        found = decided(gates, x_BTD, mask_BT, known())
    assert all(map(torch.equal, found, expected))


def width_of(gates) -> int:
    norms = gates.predictors["decoder"].context.norms
    return norms["audio"].weight.numel() if "audio" in norms else 16


def test_the_engine_s_gates_are_on_the_cpu_and_it_computes_nothing_of_the_audio_they_do_not_hear():
    config = tiny_config()
    model, gates = gated_model(config, context=("task",))
    Engine(checkpoint_of(searchable(model), config), SearchOptions())
    assert {value.device.type for value in gates.state_dict().values()} == {"cpu"}
    x_BTD, mask_BT = stack_input(0)
    found, expected = (decided(gates, each_BTD, mask_BT, known()) for each_BTD in (torch.nan * x_BTD, x_BTD))
    assert all(map(torch.equal, found, expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("rule", ["threshold", "budget"])
def test_a_decision_while_training_does_not_wait_for_the_gpu(rule, scope):
    context = ("task", "source", "audio", "vector:speaker:3")
    _, gates = gated_model(tiny_config(), rule=rule, scope=scope, context=context, context_dropout=0.1)
    gates.train().cuda()
    x_BTD, mask_BT = (each.cuda() for each in stack_input(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for layer in range(2):
            gates.set_context(known())
            gates.decide("decoder", x_BTD, mask_BT)
            gates.state.of("decoder", layer, x_BTD, None)
        if scope == "global":
            sparsity_penalty(gates.counted_BS["decoder"], TASKS, 0.5)[0].backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_real_frames(device):
    lengths_B = torch.tensor([3, 0, 5])
    mask_BT = real_frames(lengths_B, 5, torch.device(device))
    assert mask_BT.device.type == device
    assert mask_BT.sum(1).tolist() == lengths_B.tolist()
    assert (mask_BT.int().diff(dim=1) <= 0).all()
    assert torch.equal(send(lengths_B, torch.device(device)).cpu(), lengths_B)
