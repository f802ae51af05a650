"""The processes that train together, as torchrun or Slurm's srun started them."""

import os
from dataclasses import dataclass

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)


@dataclass(frozen=True)
class Processes:
    """This process has number ``rank`` among ``local`` processes on each of ``nodes`` machines."""

    rank: int
    local: int
    nodes: int
    environment: ClusterEnvironment

    @property
    def world(self) -> int:
        return self.local * self.nodes


def started() -> Processes:
    """How this process was started; alone, if neither torchrun nor srun with several tasks did it."""
    if TorchElasticEnvironment.detect():
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return Processes(int(os.environ["RANK"]), local, world // local, TorchElasticEnvironment())
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if tasks > 1 and SLURMEnvironment.detect():
        nodes = int(os.environ["SLURM_NNODES"])
        # Lightning would requeue the job by itself; scripts/slurm.sh does, when the run has stopped in good order
        return Processes(int(os.environ["SLURM_PROCID"]), tasks // nodes, nodes, SLURMEnvironment(auto_requeue=False))
    return Processes(0, 1, 1, LightningEnvironment())
