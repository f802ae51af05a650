"""What is logged, on Weights & Biases too: one run there for a training, however often that is interrupted."""

import json
import secrets
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from speechgate.errors import ConfigError
from speechgate.files import write_text


class WandbRun(WandbLogger):
    """A run that is there when it is made and ends with the session; a later session goes on with it.

    Whether it is sent or kept for ``wandb sync`` is said by WANDB_MODE or ``wandb offline``, as everywhere.
    """

    def __init__(self, project: str, work: Path) -> None:
        """``work`` is the training's folder; its parents name the run, its ``description.json`` has the settings.

        Raises:
            ConfigError: wandb is not installed, or refuses to begin: without an account, say.
        """
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("train.wandb needs wandb: install speechgate[wandb]") from error
        experiment = work.parent
        super().__init__(
            project=project,
            name=f"{experiment.parent.name}/{experiment.name}",
            id=_kept_id(work / "wandb_id"),
            save_dir=work,
            config=json.loads((work / "description.json").read_text()),
        )
        try:
            _ = self.experiment
        except wandb.Error as error:
            raise ConfigError(
                f"train.wandb: Weights & Biases cannot begin a run in {project!r}: {error}; "
                "WANDB_MODE=offline keeps it here"
            ) from error

    def finalize(self, status: str) -> None:
        super().finalize(status)
        run: Any = self.experiment
        run.finish(exit_code=0 if status == "success" else 1)


def _kept_id(path: Path) -> str:
    if not path.is_file():
        write_text(path, secrets.token_hex(4))
    return path.read_text()
