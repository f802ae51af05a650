"""A model that speechgate did not write, gated by the lines in docs/gates.md."""

import copy
import importlib.util
import pickle
import re
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speechgate.config import CONF_DIR, GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.attach import attach, detach
from speechgate.gates.cost import CostTable
from tests.gates.gated import random_mask, seeds
from tests.model.tiny import LANGUAGES, TASKS, randomise

WIDTH, LENGTHS = 12, [9, 5, 7]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """The module in the documentation."""
    text = (CONF_DIR.parent / "docs" / "gates.md").read_text()
    path = tmp_path_factory.mktemp("docs") / "documented_adapter.py"
    path.write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def encoder(seed=0, layers=2, norm_first=True):
    layer = nn.TransformerEncoderLayer(WIDTH, 2, 20, dropout=0.0, batch_first=True, norm_first=norm_first)
    model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    randomise(model, seed)
    return model.eval()


def batch(seed=0):
    x_BTD = torch.randn(len(LENGTHS), max(LENGTHS), WIDTH, generator=torch.Generator().manual_seed(seed))
    return x_BTD, torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]


def run(model, x_BTD, padding_BT):
    return model(x_BTD, src_key_padding_mask=padding_BT).masked_fill(padding_BT[..., None], 0.0)


@settings(max_examples=10, deadline=None)
@given(seed=seeds, layers=st.integers(1, 3))
def test_masks_mean_what_they_mean_in_any_model(adapter, seed, layers):
    model = encoder(seed, layers)
    x_BTD, padding_BT = batch(seed)
    dense = run(model, x_BTD, padding_BT)
    keys = list(model.state_dict())
    gates = attach(model, GatesConfig(stack="encoder"), LANGUAGES, adapter.torch_stacks)
    assert [key for key in model.state_dict() if not key.startswith("gates.")] == keys
    assert [str(site) for site in gates.sites[:2]] == ["encoder.0.attn", "encoder.0.ffn"]

    gates.force(torch.ones(1, len(gates.sites)))
    torch.testing.assert_close(run(model, x_BTD, padding_BT), dense, atol=1e-5, rtol=1e-5)  # torch has a fused path
    gates.force(torch.zeros(1, len(gates.sites)))
    assert torch.equal(model(x_BTD, src_key_padding_mask=padding_BT), x_BTD)
    mask_BS = random_mask(gates, len(LENGTHS), seed)
    gates.force(mask_BS)
    skipped = run(model, x_BTD, padding_BT)
    gates.force(mask_BS.float())
    torch.testing.assert_close(run(model.train(), x_BTD, padding_BT), skipped, atol=1e-5, rtol=1e-5)

    detach(model.eval())
    assert type(model.layers[0]) is nn.TransformerEncoderLayer
    assert torch.equal(run(model, x_BTD, padding_BT), dense)


def test_the_predictor_decides_by_task_and_audio_and_learns(adapter):
    model = encoder()
    gates = attach(model, GatesConfig(stack="encoder"), LANGUAGES, adapter.torch_stacks)
    randomise(gates, 2)
    x_BTD, padding_BT = batch()
    gates.set_context(TASKS)
    run(model, x_BTD, padding_BT)
    together = gates.mask_BS(3)
    assert 0 < together.float().mean() < 1
    for row, length in enumerate(LENGTHS):  # padding does not count
        gates.set_context([TASKS[row]])
        run(model, x_BTD[row : row + 1, :length], padding_BT[row : row + 1, :length])
        assert torch.equal(gates.mask_BS(1)[0], together[row])
    model.train()
    gates.set_context(TASKS)
    run(model, x_BTD, padding_BT).square().sum().backward()
    assert all(parameter.grad.any() for parameter in gates.parameters())


def test_a_copy_has_gates_of_its_own(adapter):
    model = encoder()
    gates = attach(model, GatesConfig(stack="encoder"), LANGUAGES, adapter.torch_stacks)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin.gates.force(torch.zeros(1, len(gates.sites)))
        inputs = batch()
        gates.set_context(TASKS)
        assert torch.equal(twin(inputs[0], src_key_padding_mask=inputs[1]), inputs[0])
        assert not torch.equal(model(inputs[0], src_key_padding_mask=inputs[1]), inputs[0])
        detach(twin)
        assert not any(module._forward_pre_hooks for module in twin.modules())


def test_the_costs_are_those_of_pytorch_s_counter(adapter):
    model = encoder()
    gates = attach(model, GatesConfig(stack="encoder"), LANGUAGES, adapter.torch_stacks)
    table = CostTable(model, adapter.torch_stacks)
    mask_S = torch.tensor([True, False, True, True])
    gates.force(mask_S[None])
    x_BTD = batch()[0][:1]
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        run(model, x_BTD, torch.zeros(x_BTD.shape[:2], dtype=torch.bool))
    assert counter.get_total_flops() / 2 == float((table.site_macs(x_BTD.size(1), 0, 0) * mask_S).sum())
    with pytest.raises(ConfigError, match="known of ESPnet's models and Whisper alone"):
        table.utterance_macs(mask_S, 20, 9, 0, 0)


def test_refusals_come_from_the_adapter(adapter):
    with pytest.raises(ConfigError, match="norm_first is False"):
        attach(encoder(norm_first=False), GatesConfig(stack="encoder"), LANGUAGES, adapter.torch_stacks)
    with pytest.raises(ConfigError, match=r"gates\.stack is 'both': this model has no decoder to gate"):
        attach(encoder(), GatesConfig(stack="both"), LANGUAGES, adapter.torch_stacks)
