"""The exponential moving average of the trained weights: less noisy than those of the last update."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from speechgate.training.sharding import gathered, shared


class MovingAverage(L.Callback):
    """Averages the trained parameters over updates; validations run on the average, and ``keep`` leaves it.

    After n updates the decay is at most (1 + n) / (10 + n), so that a short run forgets where it began.  Frozen
    parameters cost nothing.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.update = 0
        self.mean: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"update": self.update, "mean": gathered(self.mean)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.update, self.mean = state["update"], dict(state["mean"])

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        current = _trained(module)
        mean = self.mean or current
        self.mean = {name: shared(mean[name].to(each.device), each).detach().clone() for name, each in current.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if trainer.global_step == self.update:  # gradients are still being accumulated
            return
        self.update = trainer.global_step
        decay = min(self.decay, (1 + self.update) / (10 + self.update))
        get_ema_multi_avg_fn(decay)(list(self.mean.values()), list(_trained(module).values()), None)

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._swap(module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._swap(module)

    @torch.no_grad()
    def keep(self, module: L.LightningModule) -> None:
        """Give ``module`` the average; after a run that was cut off once its last update was made, too."""
        for name, parameter in _trained(module).items():
            parameter.copy_(shared(self.mean[name], parameter))

    @torch.no_grad()
    def _swap(self, module: L.LightningModule) -> None:
        for name, parameter in _trained(module).items():  # by value: of a sharded parameter FSDP knows the memory
            current = parameter.clone()
            parameter.copy_(self.mean[name])
            self.mean[name].copy_(current)


def _trained(module: L.LightningModule) -> dict[str, Tensor]:
    return {name: each for name, each in module.named_parameters() if each.requires_grad}
