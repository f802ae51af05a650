"""Shards: every piece of work belongs to exactly one, whoever counts."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.errors import ConfigError
from speechgate.shard import WHOLE, Shard, cores, deal, local_rank, started_shard

ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "8", "SLURM_ARRAY_TASK_COUNT": "8"}


@given(costs=st.lists(st.floats(0.1, 60.0), max_size=60), count=st.integers(1, 20))
def test_each_piece_is_dealt_once_and_fairly(costs: list[float], count: int) -> None:
    shards = deal(costs, count)
    assert len(shards) == count
    assert sorted(piece for shard in shards for piece in shard) == list(range(len(costs)))
    assert all(shard == sorted(shard) for shard in shards)
    loads = [sum(costs[piece] for piece in shard) for shard in shards]
    assert max(loads) - min(loads) <= max(costs, default=0.0) + 1e-6
    assert deal(costs, count) == shards


@given(first=st.integers(0, 5), step=st.integers(1, 4), elements=st.integers(1, 9), processes=st.integers(1, 5))
def test_the_processes_of_an_array_are_all_shards(first: int, step: int, elements: int, processes: int) -> None:
    ids = range(first, first + step * elements, step)
    array = {
        "SLURM_ARRAY_TASK_MIN": str(ids[0]),
        "SLURM_ARRAY_TASK_MAX": str(ids[-1]),
        "SLURM_ARRAY_TASK_STEP": str(step),
        "SLURM_ARRAY_TASK_COUNT": str(elements),
    }
    found = [
        started_shard(array | {"SLURM_ARRAY_TASK_ID": str(id_), "RANK": str(rank), "WORLD_SIZE": str(processes)})
        for id_ in ids
        for rank in range(processes)
    ]
    assert found == [Shard(index, elements * processes) for index in range(elements * processes)]


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({}, WHOLE),
        ({"RANK": "1", "WORLD_SIZE": "4"}, Shard(1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3"}, Shard(2, 3)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, WHOLE),  # in a batch script, without srun
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "RANK": "1", "WORLD_SIZE": "2"}, Shard(1, 2)),
        ({"SLURM_ARRAY_TASK_ID": "8", **ARRAY}, Shard(7, 8)),
    ],
)
def test_how_a_process_was_started(environment: dict[str, str], shard: Shard) -> None:
    assert started_shard(environment) == shard


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", **ARRAY, "SLURM_ARRAY_TASK_COUNT": "2"}, r"without holes, such as --array=1-2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN is None"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "shard 3 of 2"),
    ],
)
def test_what_cannot_be_shards(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        started_shard(environment)


def test_names_count_from_one() -> None:
    assert (str(Shard(0, 12)), Shard(0, 12).name) == ("1 of 12", "001-of-012")


def test_neighbours_share_a_machine() -> None:
    assert local_rank({"LOCAL_RANK": "3", "SLURM_LOCALID": "0"}) == 3
    assert local_rank({"SLURM_LOCALID": "2"}) == 2
    assert local_rank({}) == 0
    assert cores({"LOCAL_WORLD_SIZE": "1000"}) == 1
    assert 1 <= cores({}) <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from speechgate.shard import cores; "
        run = subprocess.run([sys.executable, "-c", f"{one} print(cores({{}}))"], capture_output=True, text=True)
        assert run.stdout.split() == ["1"], run.stderr
