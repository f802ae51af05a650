"""Batches that do not fit in memory are worked off in halves."""

import warnings
from collections.abc import Callable

import torch

# Without the batch's size: Python's filters take warnings of different texts for different ones, and it is said once.
SAID = "a batch does not fit in memory and is decoded in halves, as others will be that do not fit"


class BatchHalvedWarning(UserWarning):
    """A batch did not fit in memory and was decoded in halves; smaller batches would save the time of the attempt."""


def halving[T](work: Callable[[slice], list[T]], count: int, free: Callable[[], None]) -> list[T]:
    """Return ``work(slice(0, count))``, in as many parts as memory asks for; ``free`` gives back what can be spared.

    Raises:
        torch.OutOfMemoryError, RuntimeError: an item does not fit alone.
    """

    def part(begin: int, end: int) -> list[T]:
        try:
            return work(slice(begin, end))
        except RuntimeError as error:
            if not is_out_of_memory(error) or end - begin == 1:
                raise
        # Out of the handler, where the error no longer holds the frames, and they their tensors.
        make_room(free)
        middle = (begin + end) // 2
        return part(begin, middle) + part(middle, end)

    return part(0, count)


def make_room(free: Callable[[], None]) -> None:
    """Free what can be spared, and say that batches are halved."""
    free()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    warnings.warn(SAID, BatchHalvedWarning, stacklevel=3)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory does not suffice."""
    # On the CPU PyTorch raises a plain RuntimeError; during the capture of a CUDA graph another hides the cause.
    if isinstance(error.__context__, torch.OutOfMemoryError):
        return True
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
