"""The objective: hybrid CTC/attention loss, with a teacher's predictions if there is one, and the sparsity penalty.

``hybrid_loss`` is the loss of ``ESPnetS2TModel.forward`` (a test holds them equal) without its host synchronisation
for every utterance, which makes a step on a GPU several times longer.

Shapes: B batch, T frames, L tokens, V vocabulary, S gate sites of a stack.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from speechgate.data.batch import IGNORE, Batch
from speechgate.errors import ConfigError
from speechgate.gates.transfer import send
from speechgate.task import Task
from speechgate.training.distillation import distribution_loss


def ctc_loss(model: Any, encoder_out_BTD: Tensor, lengths_B: Tensor, batch: Batch) -> Tensor:
    """CTC loss in nats, summed over an utterance, averaged over the batch; impossible alignments count as 0."""
    logits_BTV = model.ctc.ctc_lo(F.dropout(encoder_out_BTD, p=model.ctc.dropout_rate, training=model.training))
    log_probs_TBV = logits_BTV.transpose(0, 1).float().log_softmax(-1)
    loss_B = F.ctc_loss(
        log_probs_TBV,
        batch.ctc_BL,
        lengths_B,
        batch.ctc_lengths,
        blank=model.blank_id,
        reduction="none",
        zero_infinity=True,
    )
    return loss_B.mean()


def attention_loss(
    model: Any, encoder_out_BTD: Tensor, lengths_B: Tensor, batch: Batch, teacher_BLV: Tensor | None = None
) -> dict[str, Tensor]:
    """Label-smoothed cross-entropy in nats ("attention"), summed over utterances, averaged over the batch; "accuracy".

    With the logits of a teacher, "distill" is the divergence from them, in the same unit.

    ESPnet spreads the smoothing over the V - 1 wrong tokens and subtracts the target's entropy; PyTorch spreads it
    over all V.  The two agree, but for that constant, at ``smoothing * V / (V - 1)``.
    """
    logits_BLV, _ = model.decoder(encoder_out_BTD, lengths_B, batch.decoder_in_BL, batch.decoder_in_lengths)
    flat, target = logits_BLV.flatten(0, 1).float(), batch.decoder_out_BL.flatten()
    smoothing = model.criterion_att.smoothing * flat.size(1) / (flat.size(1) - 1)
    parts = {
        "attention": F.cross_entropy(flat, target, ignore_index=IGNORE, label_smoothing=smoothing, reduction="sum")
    }
    if teacher_BLV is not None:
        parts["distill"] = distribution_loss(logits_BLV, teacher_BLV, batch.decoder_out_BL)
    parts = {name: total / len(batch) for name, total in parts.items()}
    real = target != IGNORE
    return parts | {"accuracy": ((flat.argmax(1) == target) & real).sum() / real.sum()}


def hybrid_loss(
    model: Any,
    batch: Batch,
    ctc_weight: float,
    distill: float = 0.0,
    teacher: Callable[[Batch, Tensor, Tensor], Tensor] | None = None,
) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
    """Run the model on a batch.

    Args:
        distill: the share of the attention loss that the divergence from the teacher takes.
        teacher: gives its logits (B, L, V) for the batch and this model's encoding of it.

    Returns:
        loss, its parts for logging, the encoder's output (B, T, D) and its lengths (B) on the CPU.
    """
    if ctc_weight > 0 and model.ctc is None:
        raise ConfigError(f"train.ctc_weight is {ctc_weight}: this model has no CTC, set it to 0")
    encoder_out_BTD, lengths_B = model.encode(batch.speech_BN, batch.speech_lengths)
    lengths_B = lengths_B.cpu()
    parts: dict[str, Tensor] = {}
    loss = encoder_out_BTD.new_zeros(())
    if ctc_weight > 0:
        parts["ctc"] = ctc_loss(model, encoder_out_BTD, lengths_B, batch)
        loss = loss + ctc_weight * parts["ctc"]
    if ctc_weight < 1:
        teacher_BLV = None if teacher is None else teacher(batch, encoder_out_BTD, lengths_B)
        parts |= attention_loss(model, encoder_out_BTD, lengths_B, batch, teacher_BLV)
        attention = parts["attention"]
        if teacher_BLV is not None:
            attention = (1 - distill) * attention + distill * parts["distill"]
        loss = loss + (1 - ctc_weight) * attention
    return loss, {name: value.detach() for name, value in parts.items()}, encoder_out_BTD, lengths_B


def group_matrix(tasks: Sequence[Task]) -> tuple[list[Task], Tensor]:
    """The distinct tasks of a batch and the matrix (groups, B) that averages over each, on the CPU."""
    groups = sorted(set(tasks))
    member = torch.tensor([[float(task == group) for task in tasks] for group in groups])
    return groups, member / member.sum(1, keepdim=True)


def sparsity_penalty(
    counted_BS: Tensor,
    tasks: Sequence[Task],
    target: float | Sequence[float],
    form: str = "both",
    cost_S: Tensor | None = None,
    multipliers_2: Tensor | None = None,
) -> tuple[Tensor, dict[Task, Tensor]]:
    """The price of a share s of closed gates other than the target, averaged over the tasks and languages present.

    Each task and language is held to its target on its own: the mean of a mixed batch would hide 80% beside 20%.
    With d = s - target: "absolute" |d|, "squared" d^2, "both" their sum (the absolute term alone missed the target in
    Someki et al., ICLR 2025), "lagrangian" m1 d + m2 d^2 with multipliers that rise while the target is missed (Wang et
    al., EMNLP 2020).

    Args:
        target: of every utterance, or of each.
        cost_S: what each site costs; all the same where it is None.
        multipliers_2: m1 and m2, for the Lagrangian.

    Returns:
        the penalty, and s for each task.
    """
    groups, average_GB = group_matrix(tasks)
    target_G1 = (average_GB * torch.tensor(target).expand(len(tasks))).sum(1, keepdim=True)
    given_GN = send(torch.cat([average_GB, target_G1], dim=1), counted_BS.device)
    weight_S = torch.ones_like(counted_BS[0]) if cost_S is None else cost_S.to(counted_BS)
    open_B = (counted_BS * weight_S).sum(1) / weight_S.sum()
    sparsity_G = 1 - (given_GN[:, :-1] * open_B).sum(1)  # autocast would round a matrix product to bfloat16
    gap_G = sparsity_G - given_GN[:, -1]
    if form == "lagrangian":
        assert multipliers_2 is not None
        penalty_G = multipliers_2[0] * gap_G + multipliers_2[1] * gap_G.square()
    else:
        absolute_G, squared_G = gap_G.abs(), gap_G.square()
        penalty_G = {"absolute": absolute_G, "squared": squared_G, "both": absolute_G + squared_G}[form]
    return penalty_G.mean(), dict(zip(groups, sparsity_G.detach(), strict=True))
