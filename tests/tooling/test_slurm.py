"""scripts/slurm.sh with a sbatch that writes jobs down; the test then runs them as Slurm would."""

import os
import shutil
from pathlib import Path

import pytest

from tests.tooling.checkout import ROOT, Checkout, write_program

SCRIPT = "scripts/slurm.sh"
FAKE_SBATCH = """#!/bin/sh
for word in sbatch "$@"; do printf '%s\\n' "$word"; done >>calls.txt
echo >>calls.txt
[ "$(grep -c '^sbatch$' calls.txt)" != "${FAIL:-}" ] && echo "10$(grep -c '^sbatch$' calls.txt);cluster"
"""
# srun runs what it is given; the CLI ends as STATUS says
FAKE_SRUN = """#!/bin/sh
shift
"$@"
exit "${STATUS:-0}"
"""
FAKE_SCONTROL = """#!/bin/sh
printf '%s\\n' scontrol "$@" >>calls.txt
echo >>calls.txt
"""


@pytest.fixture
def cluster(checkout: Checkout) -> Checkout:
    shutil.copy(ROOT / SCRIPT, checkout.root / SCRIPT)
    for name, text in {"sbatch": FAKE_SBATCH, "srun": FAKE_SRUN, "scontrol": FAKE_SCONTROL}.items():
        write_program(checkout.root / "slurm" / name, text)
    return checkout


def start(cluster: Checkout, *words: str, check: bool = True, **environment: str):
    path = f"{cluster.root / 'slurm'}:{os.environ['PATH']}"
    return cluster.run(f"./{SCRIPT}", *words, environment={"PATH": path, **environment}, check=check)


def jobs(cluster: Checkout) -> list[tuple[list[str], list[str]]]:
    """The options of each sbatch, and the words after the script's name."""
    found = []
    for _, *words in cluster.calls:
        at = words.index(SCRIPT)
        found.append((words[:at], words[at + 1 :]))
    return found


def value(options: list[str], name: str) -> str | None:
    return next((option.partition("=")[2] for option in options if option.startswith(f"--{name}=")), None)


def test_all_stages_each_after_the_one_before(cluster: Checkout) -> None:
    out = start(cluster, "--corpus", "mls", "--lang", "de, it", DECODE_GPUS="16").stdout
    assert out.splitlines() == ["prepare: job 101", "train: job 102", "decode: job 103", "score: job 104"]
    submitted = jobs(cluster)
    assert [words[:2] for _, words in submitted] == [["run", each] for each in ("prepare", "train", "decode", "score")]
    assert all(words[2:] == ["--corpus", "mls", "--lang", "de, it"] for _, words in submitted)
    options = [options for options, _ in submitted]
    assert [value(each, "array") for each in options] == ["1-8", None, "1-16", None]
    assert [value(each, "dependency") for each in options] == [None, "afterok:101", "afterok:102", "afterok:103"]
    assert (cluster.root / "exp").is_dir()  # where the logs go


def test_some_stages(cluster: Checkout) -> None:
    start(cluster, "train", "decode", "--corpus", "mls", "--sparsity", "0.5")
    assert [words for _, words in jobs(cluster)] == [
        ["run", stage, "--corpus", "mls", "--sparsity", "0.5"] for stage in ("train", "decode")
    ]


def test_a_job_that_cannot_be_submitted_ends_the_chain(cluster: Checkout) -> None:
    assert start(cluster, check=False, FAIL="2").returncode != 0
    assert len(jobs(cluster)) == 2


def test_an_unknown_stage_is_refused(cluster: Checkout) -> None:
    result = start(cluster, "prepare", "tarin", check=False)
    assert result.returncode == 2
    assert "unknown stage tarin" in result.stderr
    assert not (cluster.root / "calls.txt").exists()


@pytest.mark.parametrize(
    ("stage", "calls"),
    [
        ("prepare", [["prepare", "--corpus", "mls"]]),
        ("train", [["train", "--corpus", "mls", "--lang", "de, it"]]),
        ("decode", [["decode", "--corpus", "mls", "--lang", "de, it"]]),
        (
            "score",
            [["decode", "--corpus", "mls", "--lang", "de, it"], ["score", "--corpus", "mls", "--lang", "de, it"]],
        ),
    ],
)
def test_what_a_job_runs(cluster: Checkout, stage: str, calls: list[list[str]], tmp_path: Path) -> None:
    submitted = {"SLURM_SUBMIT_DIR": str(cluster.root), "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    start(cluster, "run", stage, "--corpus", "mls", "--lang", "de, it", **submitted)
    assert cluster.calls == [["speechgate", *call] for call in calls]
    assert cluster.environment["SLURM_ARRAY_TASK_ID"] == "2"


@pytest.mark.parametrize(
    ("given", "prepared", "scored"),
    [
        (["--corpus=mls", "--lang=de"], ["--corpus=mls"], ["--corpus=mls", "--lang=de"]),
        (["--data", "my data", "--corpus", "mls"], ["--data", "my data", "--corpus", "mls"], ["--corpus", "mls"]),
        (["--lang", "de", "--data=my data"], ["--data=my data"], ["--lang", "de"]),
        (["--corpus", "own", "--data-augment"], ["--corpus", "own"], ["--corpus", "own", "--data-augment"]),
    ],
)
def test_options_in_both_forms_reach_the_commands_that_have_them(
    cluster: Checkout, given: list[str], prepared: list[str], scored: list[str]
) -> None:
    for stage in ("prepare", "train", "score"):
        start(cluster, "run", stage, *given, SLURM_SUBMIT_DIR=str(cluster.root), SLURM_JOB_ID="7")
    calls = [["prepare", *prepared], ["train", *given], ["decode", *given], ["score", *scored]]
    assert cluster.calls == [["speechgate", *call] for call in calls]


def test_prepare_of_the_default_corpus(cluster: Checkout) -> None:
    start(cluster, "run", "prepare", "--lang", "de", SLURM_SUBMIT_DIR=str(cluster.root))
    assert cluster.calls == [["speechgate", "prepare"]]


@pytest.mark.parametrize(("status", "requeued"), [(143, True), (0, False), (1, False)])
def test_a_training_that_ran_out_of_time_is_put_back_into_the_queue(
    cluster: Checkout, status: int, requeued: bool
) -> None:
    job = {"SLURM_SUBMIT_DIR": str(cluster.root), "SLURM_JOB_ID": "7", "STATUS": str(status)}
    assert start(cluster, "run", "train", check=False, **job).returncode == status
    assert (["scontrol", "requeue", "7"] in cluster.calls) == requeued
