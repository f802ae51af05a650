"""The dense Whisper that gates are attached to, as their teacher."""

import pytest
import torch

from speechgate.config import GatesConfig, TrainConfig
from speechgate.gates.attach import attach
from speechgate.gates.context import Context
from speechgate.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from speechgate.training.distillation import DenseTeacher
from speechgate.training.trained import choose_trained
from speechgate.whisper.build import load_whisper
from speechgate.whisper.config import WhisperConfig
from tests.gates.test_context import random_batch
from tests.model.tiny import LANGUAGES, TASKS
from tests.whisper.tiny import write_whisper


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The folder of a checkpoint."""
    folder = tmp_path_factory.mktemp("dense")
    whisper = write_whisper(folder / "whisper", attention_dropout=0.1, dropout=0.1, encoder_layerdrop=0.0)
    checkpoint = Checkpoint(*load_whisper(WhisperConfig(whisper=str(whisper)), TASKS))
    save_checkpoint(folder / "checkpoint", checkpoint, {})
    return folder / "checkpoint"


def student_of(dense, stack, **keys):
    """A training copy with gates on ``stack``, of which what ``keys`` of the training's configuration say trains."""
    model = load_checkpoint(dense).model.train()
    attach(model, GatesConfig(stack=stack, rule="budget"), LANGUAGES)
    choose_trained(model, TrainConfig(ctc_weight=0.0, **keys))
    return model


def hear(student, teacher, batch):
    torch.manual_seed(0)
    student.gates.set_context(Context(batch.tasks, {}))
    encoded = student.encode(batch.speech_BN, batch.speech_lengths)
    return encoded[0], teacher(batch, *encoded)


def test_a_student_with_a_frozen_encoder_encodes_for_its_teacher_as_well(dense):
    batch = random_batch([16_000, 12_000], list(TASKS[:2]))
    frozen, trained = student_of(dense, "decoder", gated_only=True), student_of(dense, "decoder", gated_only=False)
    shared, own = DenseTeacher(dense, frozen), DenseTeacher(dense, trained)
    assert not shared.encodes
    assert not hasattr(shared.model, "encoder")
    assert own.encodes
    encoded_BTD, logits_BLV = hear(frozen, shared, batch)
    assert not encoded_BTD.requires_grad
    _, expected_BLV = hear(trained, own, batch)
    assert torch.equal(logits_BLV, expected_BLV)  # dropout does not reach what the teacher hears


@pytest.mark.parametrize("change", ["gated", "masked", "other weights"])
def test_a_teacher_encodes_by_itself_where_the_student_hears_otherwise(dense, change):
    student = student_of(dense, "encoder" if change == "gated" else "decoder", gated_only=True)
    student.encoder.requires_grad_(False)
    if change == "masked":
        student.specaug = torch.nn.Identity()
    if change == "other weights":
        with torch.no_grad():
            student.encoder.layers[0].fc1.bias[0] += 1e-3
    assert DenseTeacher(dense, student).encodes
