"""What the encoder leaves for the search.

Shapes: B batch, T encoder frames, D width, S gate sites, R tokens that an utterance may be written with.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from speechgate.decoding.search.exchange import first
from speechgate.task import Task


@dataclass(frozen=True)
class Encoded:
    """A batch of utterances, encoded.

    Attributes:
        encoder_out_BTD: padded.
        samples_B: the samples that each was made from, on the CPU.
        frames_B: its frames, on the CPU.
        tasks: of each.
        open_BS: the gates of both stacks.
        ctc_log_probs: those of the CTC head, (T, R) for each utterance; None where CTC takes no part.
    """

    encoder_out_BTD: Tensor
    samples_B: Tensor
    frames_B: Tensor
    tasks: Sequence[Task]
    open_BS: Tensor
    ctc_log_probs: Sequence[Tensor] | None = None

    def __len__(self) -> int:
        return len(self.tasks)


def stack(utterances: Sequence[tuple[Encoded, int]], with_ctc: bool = True) -> Encoded:
    """A batch of some rows of others, no longer padded than they need."""
    frames_B = torch.stack([encoded.frames_B[row] for encoded, row in utterances])
    longest = int(frames_B.max())
    log_probs = [each.ctc_log_probs[row] for each, row in utterances if with_ctc and each.ctc_log_probs is not None]
    return Encoded(
        torch.stack([first(encoded.encoder_out_BTD[row], 0, longest) for encoded, row in utterances]),
        torch.stack([encoded.samples_B[row] for encoded, row in utterances]),
        frames_B,
        [encoded.tasks[row] for encoded, row in utterances],
        torch.stack([encoded.open_BS[row] for encoded, row in utterances]),
        [first(each, 0, longest) for each in log_probs] or None,
    )
