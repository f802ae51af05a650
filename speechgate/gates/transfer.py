"""From the host to where the model runs, without a wait.

Shapes: B batch, T frames.
"""

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """``values`` on ``device``.

    A copy from ordinary memory to a GPU waits for all work queued there, and the host then has no lead over it; one
    from pinned memory does not.
    """
    if device.type != "cuda" or values.is_cuda:
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def real_frames(lengths_B: Tensor, frames: int, device: torch.device) -> Tensor:
    """(B, T) of so many ``frames`` on ``device``, True on those before each length."""
    return torch.arange(frames, device=device) < send(lengths_B, device)[:, None]
