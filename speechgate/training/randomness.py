"""Random numbers of a training: a function of the seed, the process and the batch, and of nothing else.

So a resumed run needs no saved generator states, the processes of one run draw different dropout masks, and what is
drawn between two updates (validation, logging) changes nothing.
"""

import random

import numpy as np
import torch


def seed_batch(seed: int, rank: int, batch: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators (on all devices) for one batch of one process."""
    random.seed(f"{seed} {rank} {batch}")
    np.random.seed(random.getrandbits(32))
    torch.manual_seed(random.getrandbits(63))
