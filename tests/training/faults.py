"""Runs of the debug model that are killed and started again, to be compared with one that is not.

``python -m tests.training.faults --kills 40`` does it at length; test_resume.py does a few.
"""

import argparse
import csv
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")  # which imports the packages once, for all the runs
CONTEXT.set_forkserver_preload(["speechgate.training.run", "librosa.filters", "torch.utils.tensorboard"])
# Everything that draws random numbers: dropout, speed perturbation, gates; and all that a resumption has to restore.
OVERRIDES = (
    "train.updates=12",
    "train.validate_every=6",
    "train.checkpoint_every=2",
    "train.log_every=1",
    "train.average=2",
    "train.patience=50",
    "train.max_duration=6",
    "train.speed_perturb=[0.9,1.0,1.1]",
    "model.encoder.dropout_rate=0.1",
    "gates.stack=both",
)
# Times differ.  Of a task that a batch lacks, Lightning logs again the sparsity that it saw last in this session.
NOT_COMPARED = ("speed/", "train/sparsity/")


def run(home: Path, name: str, overrides: tuple[str, ...] = (), die_in_write: int = 0) -> None:
    """Train the debug model into ``home``/exp/prompts/``name``, as a process of its own.

    Args:
        die_in_write: kill the process halfway through the so many-th file of a checkpoint; 0: never.
    """
    import torch

    from speechgate.config import load_experiment
    from speechgate.errors import SpeechgateError, Stopped
    from speechgate.recipe import Recipe

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    # Workers of a data loader end when their parent is gone; a fork server's never would.
    multiprocessing.set_start_method("fork", force=True)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    whole, written = torch.save, Counter[str]()

    def save_or_die(value: Any, handle: Any) -> None:
        written["files"] += 1
        whole(value, handle)
        if written["files"] == die_in_write:
            handle.flush()
            os.truncate(handle.name, handle.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_or_die
    try:
        experiment = load_experiment("debug", [f"name={name}", *OVERRIDES, *overrides])
        Recipe("prompts", home / "data", home / "exp").train(experiment)
    except Stopped as stop:
        os._exit(128 + stop.signal)
    except SpeechgateError as error:
        print(error, file=sys.stderr)
        os._exit(2)


def start(home: Path, name: str, overrides: tuple[str, ...] = (), die_in_write: int = 0) -> Any:
    process = CONTEXT.Process(target=run, args=(home, name, overrides, die_in_write))
    process.start()
    return process


def run_rank(home: Path, name: str, overrides: tuple[str, ...], rank: int, port: int) -> None:
    """One of two processes, with the environment that torchrun gives it."""
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
    }
    run(home, name, overrides)


def start_two(home: Path, name: str, overrides: tuple[str, ...] = ()) -> list[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=run_rank, args=(home, name, overrides, rank, port)) for rank in (0, 1)]
    for process in processes:
        process.start()
    return processes


def finish(home: Path, name: str, overrides: tuple[str, ...] = ()) -> int:
    """Run to the end; returns the exit status."""
    process = start(home, name, overrides)
    process.join()
    return process.exitcode


def result(home: Path, name: str) -> tuple[list[dict[str, str]], bytes]:
    """The logged losses of a finished run, times aside, and its weights."""
    folder = home / "exp" / "prompts" / name
    with (folder / "losses.csv").open(newline="") as handle:
        rows = [
            {key: value for key, value in row.items() if value and not key.startswith(NOT_COMPARED)}
            for row in csv.DictReader(handle)
        ]
    return rows, (folder / "model.safetensors").read_bytes()


def differences(home: Path, one: str, two: str) -> list[str]:
    """What differs between two finished runs, empty if nothing does."""
    (rows, weights), (other_rows, other_weights) = result(home, one), result(home, two)
    found = [f"{a} != {b}" for a, b in zip(rows, other_rows, strict=False) if a != b]
    if len(rows) != len(other_rows):
        found.append(f"{len(rows)} rows of losses, {len(other_rows)} in the other")
    if weights != other_weights:
        found.append("the weights differ")
    return found


def inject(home: Path, name: str, kills: int, rng: random.Random, overrides: tuple[str, ...] = ()) -> Counter[str]:
    """Start the run again and again, killed ``kills`` times or until it ends; returns how often each fault struck."""
    struck: Counter[str] = Counter()
    for _ in range(kills):
        fault = rng.choice(("SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGKILL within a checkpoint"))
        if fault == "SIGKILL within a checkpoint":
            process = start(home, name, overrides, die_in_write=rng.randint(1, 3))
            process.join()
        else:
            process = start(home, name, overrides)
            wait_for_rows(home, name, process, rng.randint(0, 10))
            process.join(rng.uniform(0.0, 0.3))
            if process.is_alive():
                os.kill(process.pid, getattr(signal, fault))
            process.join()
        if process.exitcode == 0:
            return struck
        # negative, or 1 for Python's KeyboardInterrupt: the signal came before the training began
        expected = {"SIGTERM": (143, -15), "SIGINT": (130, 1)}.get(fault, (-9,))
        if process.exitcode not in expected:
            raise RuntimeError(f"{fault}: exit status {process.exitcode}")
        struck[fault] += 1
    if finish(home, name, overrides):
        raise RuntimeError("the last run, left alone, failed")
    return struck


def wait_for_rows(home: Path, name: str, process: Any, rows: int) -> None:
    """Wait until the run, in all its sessions, has logged so many rows, or has ended."""
    logs = home / "exp" / "prompts" / name / "training" / "metrics"
    while process.is_alive() and sum(log.read_bytes().count(b"\n") for log in logs.glob("*/metrics.csv")) < rows:
        time.sleep(0.01)


def prepare(home: Path) -> None:
    from speechgate import preparation
    from speechgate.recipe import Recipe

    preparation.prepare(Recipe("prompts", home / "data", home / "exp"), "bundled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, struck, runs = random.Random(options.seed), Counter[str](), 0
    with TemporaryDirectory() as folder:
        home = Path(folder)
        process = CONTEXT.Process(target=partial(prepare, home))
        process.start()
        process.join()
        finish(home, "whole")
        while struck.total() < options.kills:
            began = time.monotonic()
            workers = rng.choice((0, 2))
            faults = inject(home, f"run-{runs}", 5, rng, (f"train.workers={workers}",))
            found = differences(home, "whole", f"run-{runs}")
            struck, runs = struck + faults, runs + 1
            print(f"run {runs}: {workers} workers, {dict(faults)}, {time.monotonic() - began:.0f} s: {found or 'same'}")
            if found:
                sys.exit(1)
    print(f"{runs} runs survived {struck.total()} faults with the losses and weights of an uninterrupted one: {struck}")


if __name__ == "__main__":
    main()
