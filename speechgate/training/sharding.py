"""Fully sharded training (FSDP2): of weights, gradients and optimizer states each process keeps its share.

A layer's weights are gathered from all processes for its forward and its backward pass, one layer after the other, and
its gradients are shared out again (Rajbhandari et al., SC 2020; Zhao et al., VLDB 2023).  Checkpoints are gathered
whole on the first process: they are those of any other training, and go on with any number of processes, sharded or
not.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from speechgate.training.trained import numbered_layers


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with whole checkpoints in the form that an unsharded training gives them."""

    lightning_restore_optimizer = True

    def __init__(self, processes: int) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights on the first process; all have to ask for them."""
        assert self.model is not None
        return gathered(self.model.state_dict())

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        return gathered(optimizer.state_dict())

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        # By pages as they are needed, which the processes of a machine share: whole it is 12 bytes a parameter.
        return torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.model is not None
        own = self.model.state_dict()
        whole = checkpoint["state_dict"]
        state = {name: shared(value, own[name]) if name in own else value for name, value in whole.items()}
        self.model.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [each for group in optimizer.param_groups for each in group["params"]]
            state = {
                number: {
                    key: shared(value, parameters[number]) if value.shape == parameters[number].shape else value
                    for key, value in values.items()
                }
                for number, values in whole["state"].items()
            }
            optimizer.load_state_dict({**whole, "state": state})


def shard(module: Any, mesh: DeviceMesh, half: bool) -> None:
    """Share out the parameters of a TrainingModule over the processes of ``mesh``, in place; their names stay.

    Each numbered layer is gathered by itself, and all the rest for as long as a step lasts.  Outside of a step every
    parameter is this process's share of it.  Teachers stay whole everywhere.

    Args:
        half: gather the layers' weights in bfloat16, for training in mixed precision; gradients are summed in float32.

    Raises:
        ConfigError: the model has no numbered layers.
    """
    teachers = [part for part in (module.teacher, module.dense) if part is not None]
    options: dict[str, Any] = {
        "mesh": mesh,
        "reshard_after_forward": True,
        "ignored_params": {each for teacher in teachers for each in teacher.parameters()},
    }
    # Autocast decides what is computed in which precision, as it does unsharded: so inputs are not cast, and embeddings
    # and gates stay in float32.
    mixed = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for layer in numbered_layers(module.model, "train.sharding"):
        fully_shard(layer, mp_policy=mixed if half else MixedPrecisionPolicy(), **options)
    fully_shard(module, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), **options)
    for step in ("training_step", "validation_step"):
        register_fsdp_forward_method(module, step)
    for buffer in module.buffers():  # such as measured costs, which differ from process to process
        first = buffer.contiguous()  # NCCL takes nothing else
        torch.distributed.broadcast(first, src=0)
        buffer.copy_(first)


def gathered(values: Any) -> Any:
    """``values`` with whole tensors, on the CPU, in the place of shares; on any process but the first, None.

    All processes have to call it alike.
    """

    def gather(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        full = whole(value.detach())
        return full.cpu() if torch.distributed.get_rank() == 0 else None

    return tree_map(gather, values)


def shared(value: Any, like: Tensor) -> Any:
    """This process's share of a whole tensor, which every process has, where ``like`` is a share."""
    if isinstance(value, DTensor) or not isinstance(like, DTensor):
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole(value: Tensor) -> Tensor:
    """A tensor that all processes can read, of one that is a share."""
    return value.full_tensor() if isinstance(value, DTensor) else value
