"""The dense model that gates are attached to, as their teacher.

A model with closed modules learns to predict what the whole one predicts, not the reference alone: the distributions
say which other tokens were likely (Hinton et al., 2015, sec. 2, at temperature 1), which a small corpus's texts do not.
The teacher hears the batch without SpecAugment, is used in training only and leaves no trace in the checkpoint.  Where
the student's encoder does not train, it encodes for both.

Shapes: B batch, T frames, L tokens, D width, V vocabulary.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechgate.data.batch import IGNORE, Batch
from speechgate.errors import ConfigError
from speechgate.model.checkpoint import load_checkpoint


class DenseTeacher(nn.Module):
    """The frozen model of a checkpoint, in evaluation mode whatever it is asked for."""

    def __init__(self, folder: Path, student: Any) -> None:
        """Raises ConfigError if the checkpoint has gates."""
        super().__init__()
        checkpoint = load_checkpoint(folder)
        if checkpoint.gates is not None:
            raise ConfigError(f"train.distill: {folder} has gates; the teacher is to be a dense model")
        self.model: Any = checkpoint.model.requires_grad_(False)
        self.encodes = not _same_encoding(student, self.model)
        if not self.encodes:
            student.encoder.eval()  # no dropout, which only a training encoder has a use for
            del self.model.encoder

    def train(self, mode: bool = True) -> "DenseTeacher":
        return super().train(False)

    @torch.no_grad()
    def forward(self, batch: Batch, encoder_out_BTD: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits (B, L, V) for each token of ``batch.decoder_out_BL``; the student's encoding is used if it may be."""
        if self.encodes:
            encoder_out_BTD, lengths_B = self.model.encode(batch.speech_BN, batch.speech_lengths)
        logits_BLV, _ = self.model.decoder(
            encoder_out_BTD, lengths_B.cpu(), batch.decoder_in_BL, batch.decoder_in_lengths
        )
        return logits_BLV


def _same_encoding(student: Any, teacher: Any) -> bool:
    """Whether both encode alike to the end of the training: nothing of it trains, is gated or masks what is heard."""
    gated = hasattr(student, "gates") and "encoder" in student.gates.stacks
    if gated or student.specaug is not None or any(each.requires_grad for each in student.encoder.parameters()):
        return False
    own, other = student.encoder.state_dict(), teacher.encoder.state_dict()
    return own.keys() == other.keys() and all(torch.equal(value, other[name].to(value)) for name, value in own.items())


def distribution_loss(logits_BLV: Tensor, teacher_BLV: Tensor, target_BL: Tensor) -> Tensor:
    """Kullback-Leibler divergence in nats of the teacher's tokens from the student's, summed over the real tokens."""
    student_BLV, teacher_BLV = (each.float().log_softmax(-1) for each in (logits_BLV, teacher_BLV))
    divergence_BL = F.kl_div(student_BLV, teacher_BLV, log_target=True, reduction="none").sum(-1)
    return (divergence_BL * (target_BL != IGNORE)).sum()
