"""Operations of a training step, held against PyTorch's counter; and the peaks of cards."""

from dataclasses import replace

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speechgate.config import GatesConfig, LoraConfig
from speechgate.gates.attach import attach
from speechgate.gates.cost import CostTable
from speechgate.training.compute import BatchFlops, cost_table, peak_of
from speechgate.training.lora import Adapters
from speechgate.training.objective import hybrid_loss
from speechgate.training.recompute import recompute_layers
from tests.gates.gated import config_of
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS, random_model

LENGTHS = [40_000, 40_000, 40_000]  # alike: the counter counts padding, and the table does not


def counted_and_computed(model, ctc_weight: float, table: CostTable | None = None) -> tuple[float, float]:
    batch = random_batch(LENGTHS, list(TASKS))
    if hasattr(model, "gates"):
        model.gates.set_context(list(TASKS))
    flops = BatchFlops(table or CostTable(model), model, ctc_weight)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss, _, _, frames_B = hybrid_loss(model, batch, ctc_weight)
        loss.backward()
    with FlopCounterMode(display=False) as features:
        model.frontend(batch.speech_BN, batch.speech_lengths)
    return counter.get_total_flops() - features.get_total_flops(), flops(batch, frames_B)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("encoder", ["e_branchformer", "conformer"])
def test_an_update_of_all_weights_takes_three_forward_passes(encoder, ctc_weight, gated):
    model = random_model(config_of(encoder, width=32)).train()
    if gated:
        attach(model, GatesConfig(stack="both"), LANGUAGES)
    counted, computed = counted_and_computed(model, ctc_weight)
    assert computed == pytest.approx(counted, rel=0.05)


def frozen_encoder(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("encoder."))


def only_biases(model):
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.dim() == 1)


def adapters(model):
    Adapters(model, LoraConfig(("*.linear_*", "*.w_*"), rank=1))


@pytest.mark.parametrize("choose", [frozen_encoder, only_biases, adapters])
def test_what_is_frozen_costs_less(choose):
    model = random_model(config_of("e_branchformer", width=32, encoder_layers=6)).train()
    table = CostTable(model)
    _, whole = counted_and_computed(model, 0.3, table)
    choose(model)
    counted, computed = counted_and_computed(model, 0.3, table)
    assert computed < 0.8 * whole
    assert computed == pytest.approx(counted, rel=0.1)


def test_neither_padding_nor_a_second_computation_counts():
    model = random_model(config_of("e_branchformer")).train()
    flops = BatchFlops(CostTable(model), model, 0.3)
    alone = [random_batch([length], [TASKS[0]]) for length in (40_000, 10_000)]
    together = random_batch([40_000, 10_000], list(TASKS[:2]))
    frames = [hybrid_loss(model, batch, 0.3)[3] for batch in (*alone, together)]
    assert flops(together, frames[2]) == pytest.approx(sum(map(flops, alone, frames)))
    recompute_layers(model)
    assert BatchFlops(CostTable(model), model, 0.3)(together, frames[2]) == flops(together, frames[2])


def test_a_model_of_unknown_cost_has_none():
    config = config_of("branchformer")
    stochastic = replace(config, encoder=config.encoder | {"stochastic_depth_rate": 0.1})
    assert cost_table(random_model(config)) is not None
    assert cost_table(random_model(stochastic)) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A10", 125.0),
        ("NVIDIA A10G", None),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 366.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("Tesla T4", None),
    ],
)
def test_peaks_are_those_of_the_very_card(name, peak):
    assert peak_of(name) == peak
