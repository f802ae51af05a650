"""Activation checkpointing changes nothing but the memory that a step takes."""

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from speechgate.config import GatesConfig, LoraConfig, TrainConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach
from speechgate.training.lora import Adapters
from speechgate.training.module import TrainingModule
from speechgate.training.randomness import seed_batch
from speechgate.training.recompute import recompute_layers
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig
from tests.gates.gated import config_of
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS, random_model, randomise
from tests.whisper.tiny import write_whisper

pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log")
GATES = {
    "dense": None,
    "one decision": GatesConfig(stack="both", context_dropout=0.2),
    "layer by layer": GatesConfig(stack="both", scope="local", context_dropout=0.2),
    "layer by layer, with a dial": GatesConfig(stack="both", scope="local", rule="budget", budget=(0.0, 0.7)),
}
GROUPS = GatesConfig(stack="both", scope="local", groups={"heads": 2, "channels": 4}, estimator="hard_concrete")
DROPOUT = {"dropout_rate": 0.2, "positional_dropout_rate": 0.1}


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper"))


def espnet(encoder: str, layers: int = 2, width: int = 16) -> Any:
    config = config_of(encoder, width, encoder_layers=layers, decoder_layers=layers)
    return random_model(replace(config, encoder=config.encoder | DROPOUT, decoder=config.decoder | DROPOUT))


def whisper(folder: Path) -> Any:
    torch.manual_seed(0)
    return load_whisper(WhisperConfig(str(folder), dropout=0.2), TASKS)[0]


def two_steps(
    model: Any, gates: GatesConfig | None, recompute: bool, mixed: bool = False
) -> tuple[Tensor, TrainingModule]:
    """The losses of two batches, and the module with the sum of their gradients."""
    if gates is not None:
        torch.manual_seed(0)
        attach(model, gates, LANGUAGES)
        randomise(model.gates, 1)
    if recompute:
        recompute_layers(model)
    config = TrainConfig(ctc_weight=0.0 if model.ctc is None else 0.3)
    module = TrainingModule(model, config, gates, lambda: 0.0).train()
    losses = []
    for index in range(2):
        seed_batch(0, 0, index)
        batch = random_batch([6_000, 4_000, 5_000], list(TASKS), index)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = module.training_step(batch, index)
        loss.backward()
        losses.append(loss.detach())
    return torch.stack(losses), module


def require_same(make: Any, gates: GatesConfig | None, mixed: bool = False) -> None:
    losses, plain = two_steps(make(), gates, recompute=False, mixed=mixed)
    other_losses, recomputed = two_steps(make(), gates, recompute=True, mixed=mixed)
    assert torch.equal(losses, other_losses)
    others = dict(recomputed.named_parameters())
    assert list(others) == [name for name, _ in plain.named_parameters()]
    for name, parameter in plain.named_parameters():
        one, two = parameter.grad, others[name].grad
        assert one is two is None or torch.equal(one, two), name
    state = recomputed.state_dict()
    assert list(state) == list(plain.state_dict())
    assert [name for name, value in plain.state_dict().items() if not torch.equal(value, state[name])] == []
    if gates is not None:
        for stack in ("encoder", "decoder"):
            for record in ("gates_BS", "counted_BS"):
                one, two = (getattr(module.model.gates, record)[stack] for module in (plain, recomputed))
                assert torch.equal(one, two)
            one, two = (module.model.gates.scores[stack] for module in (plain, recomputed))
            assert torch.equal(torch.cat(one, 1), torch.cat(two, 1))


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("encoder", ["e_branchformer", "conformer"])
def test_losses_gradients_statistics_and_recorded_gates_are_those_without(encoder, kind):
    require_same(lambda: espnet(encoder), GATES[kind])


def test_gates_of_heads_and_channels():
    require_same(lambda: espnet("e_branchformer"), GROUPS)


def test_with_low_rank_adapters():
    def adapted() -> Any:
        model = espnet("e_branchformer")
        torch.manual_seed(0)
        Adapters(model, LoraConfig(("*.linear_q", "*.w_1"), rank=2, dropout=0.2))
        return model

    require_same(adapted, None)


@pytest.mark.parametrize("kind", ["one decision", "layer by layer"])
def test_in_mixed_precision(kind):
    require_same(lambda: espnet("e_branchformer"), GATES[kind], mixed=True)


@pytest.mark.parametrize("kind", GATES)
def test_whisper(whisper_folder, kind):
    require_same(lambda: whisper(whisper_folder), GATES[kind])


class PeakBytes(TorchDispatchMode):
    """The most bytes alive at once of what is computed while this lasts: activations, gradients, kept or not."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in tree_leaves(found):
            if isinstance(each, Tensor):
                storage = each.untyped_storage()
                if storage._cdata not in self.alive:
                    self.alive[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.alive.values()))
        return found


@pytest.mark.parametrize("kind", ["dense", "layer by layer"])
def test_a_step_takes_less_memory(kind):
    def peak(recompute: bool) -> int:
        model = espnet("e_branchformer", layers=8).train()
        if GATES[kind] is not None:
            attach(model, GATES[kind], LANGUAGES).set_context(TASKS[:2])
        if recompute:
            recompute_layers(model)
        features_BFD, lengths_B = torch.randn(2, 600, 20), torch.tensor([600, 590])
        with PeakBytes() as memory:
            model.encoder(features_BFD, lengths_B)[0].sum().backward()
        return memory.peak

    assert peak(True) < 0.35 * peak(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", ["dense", "one decision", "layer by layer"])
def test_on_a_gpu(kind):
    def step(recompute: bool) -> tuple[float, Tensor, int]:
        model = espnet("e_branchformer", layers=8, width=64).cuda()
        gates = GATES[kind]
        if gates is not None:
            attach(model, gates, LANGUAGES)
        if recompute:
            recompute_layers(model)
        module = TrainingModule(model, TrainConfig(), gates, lambda: 0.0).cuda().train()
        batch = random_batch([160_000] * 3, list(TASKS)).to("cuda")
        seed_batch(0, 0, 0)
        torch.cuda.reset_peak_memory_stats()
        with torch.autocast("cuda", torch.bfloat16):
            loss = module.training_step(batch, 0)
        loss.backward()
        squares = [each.grad.float().square().sum() for each in module.parameters() if each.grad is not None]
        return float(loss), torch.stack(squares), torch.cuda.max_memory_allocated()

    (loss, squares, peak), (other_loss, other_squares, other_peak) = step(False), step(True)
    assert loss == other_loss
    torch.testing.assert_close(squares, other_squares, rtol=1e-2, atol=1e-6)  # sums over threads come in any order
    assert other_peak < 0.7 * peak


def test_a_model_without_numbered_layers_is_refused():
    with pytest.raises(ConfigError, match="no numbered layers"):
        recompute_layers(torch.nn.Linear(2, 2))
