"""What changes over a run: learning rate, the weight of the sparsity penalty, noise and temperature of the gates."""

import math

from speechgate.config import GatesConfig, TrainConfig
from speechgate.gates.module import Gates


def learning_rate_scale(update: int, progress: float, config: TrainConfig) -> float:
    """Linear warm-up over ``warmup`` updates, times half a cosine over the run down to ``final_scale``."""
    warm = min(1.0, (update + 1) / config.warmup) if config.warmup else 1.0
    return warm * (config.final_scale + (1 - config.final_scale) * 0.5 * (1 + math.cos(math.pi * progress)))


def penalty_scale(progress: float, config: GatesConfig) -> float:
    """Rises linearly from 0 to 1 over the share ``ramp``: gates collapse when the penalty starts at full strength."""
    return 1.0 if config.ramp == 0 else min(1.0, progress / config.ramp)


def gate_noise(progress: float, config: GatesConfig) -> float:
    """1 until the last ``settle`` share, then down to 0 over its first half, and 0 after.

    With noise the sampled sparsity meets the target and the thresholded one misses it; without, both are the same.
    """
    if config.settle == 0:
        return 1.0
    return min(1.0, max(0.0, (1 - config.settle / 2 - progress) / (config.settle / 2)))


def gate_temperature(progress: float, config: GatesConfig) -> float:
    """From ``temperature`` to ``final_temperature`` by a constant factor an update."""
    return config.temperature * (config.final_temperature / config.temperature) ** progress


def has_settled(progress: float, config: GatesConfig) -> bool:
    """Whether gates have nothing left to learn: the noise is gone and a budget keeps the target, or a policy decides.

    Under a threshold the penalty holds the target, to the end.  Modules in groups are never skipped while training: an
    open part is a copy of its weights.
    """
    decided = config.policy != "learned" or gate_noise(progress, config) == 0
    return decided and config.rule == "budget" and not config.groups


def anneal(gates: Gates, progress: float, sharded: bool = False) -> None:
    """Set what the gates need to know of the schedule for the next update.

    Where the model is ``sharded`` no module is skipped: the processes gather a layer's gradients together, and what is
    closed for the batch of one may be open for that of another.
    """
    gates.noise = gate_noise(progress, gates.config)
    gates.temperature = gate_temperature(progress, gates.config)
    gates.ramp = penalty_scale(progress, gates.config)
    gates.settled = has_settled(progress, gates.config) and not sharded
