"""What a result was made with: commit, command, versions, machine, configuration."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from speechgate.errors import CheckpointError
from speechgate.shard import local_processes, local_rank

PACKAGES = ("torch", "espnet", "lhotse", "lightning", "sentencepiece", "jiwer", "sacrebleu")
REPOSITORY = Path(__file__).resolve().parents[1]


def _git(*arguments: str) -> str | None:
    result = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def device_name(device: torch.device | str) -> str:
    """The accelerator's name, or the processor's architecture with the number of threads that torch uses."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def run_info(device: torch.device | str, seed: int | None = None) -> dict[str, Any]:
    """A JSON-ready record of this run.

    ``commit`` is None outside a git checkout, unless the variable SPEECHGATE_COMMIT names it.
    """
    commit = os.environ.get("SPEECHGATE_COMMIT") or _git("rev-parse", "HEAD")
    program = Path(sys.argv[0]).name
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "command": shlex.join([program, *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": device_name(device),
        "seed": seed,
    }


def read_description(folder: Path) -> dict[str, Any]:
    """What ``folder``'s run.json tells of the training; empty for a checkpoint that was trained elsewhere.

    Raises:
        CheckpointError: run.json is damaged.
    """
    path = folder / "run.json"
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    return run.get("description", {})


def pick_device() -> torch.device:
    """CUDA where it is to be had, else the CPU; of processes side by side on a machine each takes the next GPU.

    Where torchrun started more processes than there are GPUs, some share one, and the first process says so.

    On CUDA, PyTorch is kept from cuDNN's attention: it plans anew for every shape, and hardly two batches of speech
    are alike.  A training step of Whisper-base took 0.52 s with it and 0.08 s without (RESULTS.md, "Whisper").
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    gpus, rank, processes = torch.cuda.device_count(), local_rank(), local_processes()
    if processes > gpus and rank == 0:
        print(f"{processes} processes share the {gpus} GPUs of this machine: --nproc-per-node {gpus}", file=sys.stderr)
    device = torch.device("cuda", rank % gpus)  # of Slurm's tasks with a GPU each, every one sees its own alone
    torch.cuda.set_device(device)
    torch.backends.cuda.enable_cudnn_sdp(False)
    return device
