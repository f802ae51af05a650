"""Room for a search of constant shapes: a little more than it needs, so that many searches have the same.

Shapes: B utterances, T frames; R >= B rows, F >= T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from speechgate.decoding.search.hypothesis import SearchOptions

LEAST_FRAMES, LEAST_STEPS = 64, 16


@dataclass(frozen=True)
class Room:
    """The utterances, frames and steps that there is room for."""

    batch: int
    frames: int
    steps: int

    @classmethod
    def of(cls, lengths: Sequence[int], options: SearchOptions, most_steps: int | None) -> "Room":
        """Room for utterances of so many frames, with a decoder that can take ``most_steps`` (None: any number)."""
        steps = _rounded(max(options.step_limits(frames, most_steps)[1] for frames in lengths), LEAST_STEPS)
        return cls(
            batch=_rounded(len(lengths), 1),
            frames=_rounded(max(lengths), LEAST_FRAMES),
            steps=steps if most_steps is None else min(steps, most_steps),
        )

    def rows(self, values_B: Tensor) -> Tensor:
        """A copy of ``values_B`` with the last row repeated: the utterances in excess end when it does."""
        return values_B[torch.arange(self.batch, device=values_B.device).clamp_(max=len(values_B) - 1)]

    def fill(self, values_BTX: Tensor) -> Tensor:
        """A copy with rows repeated and frames of zeros added, (R, F, X)."""
        batch, frames, width = values_BTX.shape
        filled_RFX = values_BTX.new_zeros(self.batch, self.frames, width)
        filled_RFX[:batch, :frames] = values_BTX
        filled_RFX[batch:, :frames] = values_BTX[-1]
        return filled_RFX


def _rounded(count: int, least: int) -> int:
    """The next of least * 1, 2, 3, 4, 6, 8, 12, 16... from ``count`` on."""
    power = least
    while power < count:
        power *= 2
    between = power // 4 * 3
    return between if between >= max(count, 2 * least) else power
