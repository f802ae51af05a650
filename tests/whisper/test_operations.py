"""What gates add to a training step: on a GPU a step is often as long as its number of operations."""

from collections import Counter
from typing import Any

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from speechgate.config import GatesConfig
from speechgate.gates.attach import attach
from speechgate.training.objective import hybrid_loss, sparsity_penalty
from speechgate.whisper.host import WhisperHost
from tests.gates.operations import Operations
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS
from tests.whisper.tiny import write_whisper


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As many layers as Whisper-base has: 12 modules of the encoder and 18 of the decoder."""
    return write_whisper(tmp_path_factory.mktemp("whisper"), encoder_layers=6, decoder_layers=6)


def operations(folder, settled: bool = False, **gates: Any) -> Counter[str]:
    """Of a loss and its gradients, in mixed precision."""
    model = WhisperHost(WhisperForConditionalGeneration.from_pretrained(folder), 0.1, None).train()
    if gates:
        attach(model, GatesConfig(**gates), LANGUAGES).settled = settled
    batch = random_batch([16_000, 14_000, 15_000], list(TASKS))
    with Operations() as counted:
        with torch.autocast("cpu", torch.bfloat16):
            if gates:
                model.gates.set_context(batch.tasks)
            loss = hybrid_loss(model, batch, 0.0)[0]
            if gates.get("rule") == "threshold":
                for counted_BS in model.gates.counted_BS.values():
                    loss = loss + sparsity_penalty(counted_BS, batch.tasks, 0.5)[0]
        loss.backward()
    return counted.count


@pytest.mark.parametrize(
    ("gates", "most"),
    [
        ({"stack": "decoder", "rule": "budget"}, 105),
        ({"stack": "decoder", "rule": "threshold"}, 125),
        ({"stack": "both", "rule": "budget"}, 205),
        ({"stack": "decoder", "rule": "budget", "scope": "local"}, 380),
    ],
)
def test_gates_add_few_operations(folder, gates, most):
    added = operations(folder, **gates).total() - operations(folder).total()
    assert added <= most


def test_a_step_is_shorter_than_a_dense_one_once_gates_have_settled(folder):
    half = {"rule": "budget", "stack": "decoder", "target": 0.5, "context": ("task",)}
    dense = operations(folder).total()
    assert operations(folder, settled=True, **half).total() < 0.9 * dense < operations(folder, **half).total()


def test_a_step_with_a_dial_is_shorter_too_though_every_row_closes_other_modules(folder):
    dial = {"rule": "budget", "stack": "decoder", "budget": (0.0, 0.9), "context": ("task", "budget")}
    assert operations(folder, settled=True, **dial).total() < operations(folder, **dial).total()
