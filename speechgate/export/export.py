"""Write a checkpoint for one task in one of the formats."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lhotse.cut import Cut

from speechgate.config import choices
from speechgate.errors import ConfigError
from speechgate.export.espnet import write_espnet
from speechgate.export.onnx import write_onnx
from speechgate.export.specialise import closed_for
from speechgate.model.checkpoint import Specialised, load_checkpoint, save_checkpoint
from speechgate.runinfo import read_description, run_info
from speechgate.task import Task
from speechgate.whisper.config import WhisperConfig

FORMATS = ("speechgate", "espnet", "onnx", "transformers")


@dataclass(frozen=True)
class Exported:
    """What was written: the files with weights, what is closed in them, and of how many sites."""

    files: tuple[Path, ...]
    specialised: Specialised
    sites: int

    def __str__(self) -> str:
        closed, heard = len(self.specialised.closed), self.specialised.utterances
        by = f", by {heard} utterances (they agree in {self.specialised.agreement:.1%} of the gates)" if heard else ""
        sizes = ", ".join(f"{path} ({path.stat().st_size / 1e6:.1f} MB)" for path in self.files)
        return f"{self.specialised.task}: {closed} of {self.sites} modules closed{by}\n{sizes}"


def export(
    source: Path, task: Task, form: str, folder: Path, cuts: Sequence[Cut] = (), sparsity: float | None = None
) -> Exported:
    """Write the checkpoint in ``source`` for ``task`` to ``folder``.

    Args:
        source: a checkpoint folder, gated or dense.
        task: what the exported model is for.
        form: one of ``FORMATS``.
        folder: a new or empty folder.
        cuts: utterances to fix the gates by, where the task alone does not (see ``closed_for``).
        sparsity: where to turn the budget dial, for gates that have one.

    Raises:
        ConfigError: an unknown format or one for other models, a folder that holds something, or gates that the task
            alone does not fix.
        CheckpointError: the source is no checkpoint, is damaged, or is specialised already.
        ManifestError: no cut fits the task.
    """
    choices("--format", form, FORMATS)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty: give --out another folder, or clear this one")
    checkpoint = load_checkpoint(source)
    if form == "transformers" and not isinstance(checkpoint.config, WhisperConfig):
        raise ConfigError("--format transformers is for a Whisper, and this model is of ESPnet's classes")
    if form in ("espnet", "onnx"):
        checkpoint.of_espnet(f"--format {form}")
    if sparsity is not None:
        checkpoint.turn(sparsity)
    specialised = closed_for(checkpoint, task, cuts)
    sites = len(checkpoint.model.gates.sites) if checkpoint.gates else 0
    folder.mkdir(parents=True, exist_ok=True)
    if form == "espnet":
        return Exported((write_espnet(checkpoint, specialised, folder),), specialised, sites)
    if form == "transformers":
        from speechgate.export.transformers import write_transformers  # here, because transformers is an extra

        return Exported((write_transformers(checkpoint, specialised, folder),), specialised, sites)
    checkpoint.specialise(specialised)
    if form == "onnx":
        return Exported(write_onnx(checkpoint, folder), specialised, sites)
    run = run_info("cpu") | {"source": str(source)}
    if description := read_description(source):
        run["description"] = description | {"tasks": [str(task)]}
    save_checkpoint(folder, checkpoint, run)
    return Exported((folder / "model.safetensors",), specialised, sites)
