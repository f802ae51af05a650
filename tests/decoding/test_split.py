"""A split by one process, by shards and by processes side by side: the same files; what is killed goes on."""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from speechgate.decoding import parts, split
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.split import Decoding, decode_split
from speechgate.errors import BusyError, ConfigError, ManifestError
from speechgate.locks import exclusive
from speechgate.manifests.cuts import read_cuts, write_cuts
from speechgate.model.checkpoint import save_checkpoint
from speechgate.scoring.decoded import read_decoded
from speechgate.shard import Shard, started_shard
from tests.data.dummies import dummy_cut, write_audio
from tests.gates.gated import gated_model
from tests.model.tiny import TASKS, checkpoint_of, random_model, searchable, tiny_config

CONTEXT = multiprocessing.get_context("forkserver")  # which imports the package once, for all processes
CONTEXT.set_forkserver_preload(["tests.decoding.test_split"])
OPTIONS = SearchOptions(beam_size=2, max_length_ratio=-6)
FILES = ("hypotheses.jsonl", "hypotheses_shuffled.jsonl", "hypotheses_silent.jsonl")
TIMES = ("run", "wall_seconds", "seconds_per_utterance", "time_vs_dense")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny checkpoints, dense and gated with a dial, and a manifest of seven recordings in two languages."""
    home = tmp_path_factory.mktemp("split")
    config = tiny_config()
    save_checkpoint(home / "dense", checkpoint_of(searchable(random_model(config)), config), {})
    gated, _ = gated_model(config, rule="budget", budget=(0.0, 0.7), context=("task", "budget"))
    save_checkpoint(home / "dial", checkpoint_of(searchable(gated), config), {})
    cuts = []
    for number in range(7):
        seconds = 0.4 + 0.1 * number
        path = write_audio(home / f"{number}.flac", seconds)
        cuts.append(dummy_cut(f"cut{number}", seconds, ("eng", "rus")[number % 2], {"eng": "thank you"}, path))
    write_cuts(cuts, home / "cuts_test.jsonl.gz")
    return home


def decoding_of(home: Path, out: Path, name: str = "dense") -> Decoding:
    """Of the dense model with its deaf baselines, or of the dial at 0.4."""
    manifest, dial = home / "cuts_test.jsonl.gz", 0.4 if name == "dial" else None
    return Decoding(out, home / name, "tiny", "test", manifest, TASKS, OPTIONS, deaf=name == "dense", budget=dial)


def decode(decoding: Decoding, shard: Shard = split.WHOLE) -> list[str]:
    return [cut.id for cut in decode_split(decoding, read_cuts(decoding.manifest), shard=shard)]


def run(
    home: Path, out: Path, name: str, environment: dict[str, str], die_at: int, in_write: bool, threads: int
) -> None:
    """Decode as a process of its own, which is killed within piece ``die_at`` of its shard (0: never).

    Or, with ``in_write``, when half of that piece's line is on the disk.
    """
    os.environ |= environment
    whole, calls = split.decode_batch, [0]

    def decode_or_die(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == die_at and not in_write:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments)

    def sync_or_die(file: int) -> None:
        if calls[0] == die_at and in_write:
            os.truncate(file, os.fstat(file).st_size - 40)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(file)

    fsync = os.fsync
    split.decode_batch, parts.os.fsync = decode_or_die, sync_or_die
    torch.set_num_threads(threads)  # sums over other numbers of threads differ in the last bits
    decode(decoding_of(home, out, name), started_shard())


def start(
    home: Path, out: Path, name: str, environment: dict[str, str], die_at: int = 0, in_write: bool = False
) -> Any:
    arguments = (home, out, name, environment, die_at, in_write, torch.get_num_threads())
    process = CONTEXT.Process(target=run, args=arguments)
    process.start()
    return process


def contents(folder: Path) -> dict[str, Any]:
    """All results, without the times and circumstances."""
    record = json.loads((folder / "decode.json").read_text())
    assert {path.name for path in folder.iterdir()} <= {"decode.json", *FILES}
    results = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES}
    return results | {key: value for key, value in record.items() if key not in TIMES}


@pytest.fixture(scope="module", params=["dense", "dial"])
def whole(home: Path, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The name of a checkpoint, and what one process makes of it."""
    out = home / f"whole_{request.param}"
    assert decode(decoding_of(home, out, request.param)) == []
    return request.param, contents(out)


def test_three_shards_one_after_the_other_give_the_files_of_one_process(
    home: Path, tmp_path: Path, whole: tuple[str, dict[str, Any]]
) -> None:
    name, expected = whole
    decoding = decoding_of(home, tmp_path, name)
    lacking = [decode(decoding, Shard(index, 3)) for index in (2, 0, 1)]
    assert len(lacking[0]) > len(lacking[1]) > len(lacking[2]) == 0
    assert contents(tmp_path) == expected
    assert len(read_decoded(tmp_path).utterances) == 7 + 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert decode(decoding, Shard(0, 3)) == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_two_processes_side_by_side(home: Path, tmp_path: Path, whole: tuple[str, dict[str, Any]]) -> None:
    name, expected = whole
    processes = [start(home, tmp_path, name, {"RANK": str(rank), "WORLD_SIZE": "2"}) for rank in (0, 1)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("again", [Shard(1, 3), Shard(0, 1), Shard(0, 2)], ids=["itself", "alone", "others"])
def test_a_killed_shard_goes_on_where_it_was(
    home: Path, tmp_path: Path, again: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, or by any number of processes: finished pieces are never decoded again."""
    decode(decoding_of(home, tmp_path / "whole"))
    decoding = decoding_of(home, out := tmp_path / "killed")
    array = {
        f"SLURM_ARRAY_TASK_{key}": value for key, value in (("ID", "2"), ("MIN", "1"), ("MAX", "3"), ("COUNT", "3"))
    }
    killed = start(home, out, "dense", array, die_at=3)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    for index in (0, 2):
        assert decode(decoding, Shard(index, 3))
    with pytest.raises(ConfigError, match="decoded in part only"):
        read_decoded(out)
    decoded, decode_batch = [], split.decode_batch
    monkeypatch.setattr(split, "decode_batch", lambda *these: decoded.append(these) or decode_batch(*these))
    for index in range(again.count):
        decode(decoding, Shard(index, again.count))
    assert len(decoded) == 1
    assert contents(out) == contents(tmp_path / "whole")


def test_kills_at_random(home: Path, tmp_path: Path) -> None:
    """Of one to three processes, over and over: the files of one that was left alone.

    SPEECHGATE_KILLS=100 does it at length.
    """
    decode(decoding_of(home, tmp_path / "whole"))
    kills, wanted, rng = 0, int(os.environ.get("SPEECHGATE_KILLS", "4")), random.Random(0)
    for number in count():
        decoding = decoding_of(home, out := tmp_path / str(number))
        while not decoding.is_done():
            world = rng.randint(1, 3)
            processes = [
                start(
                    home,
                    out,
                    "dense",
                    {"RANK": str(rank), "WORLD_SIZE": str(world)},
                    rng.choice((0, 1, 2, 3)) if kills < wanted else 0,
                    rng.random() < 0.5,
                )
                for rank in range(world)
            ]
            for process in processes:
                process.join()
            assert {process.exitcode for process in processes} <= {0, -signal.SIGKILL}
            kills += sum(process.exitcode != 0 for process in processes)
        assert contents(out) == contents(tmp_path / "whole")
        if kills >= wanted:
            return


def test_a_finished_shard_is_not_decoded_again_and_a_busy_one_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding = decoding_of(home, tmp_path)
    first = decode(decoding, Shard(0, 2))
    monkeypatch.setattr(split, "decode_batch", None)
    assert decode(decoding, Shard(0, 2)) == first
    hold = CONTEXT.Process(target=held, args=(decoding.parts / "002-of-002.lock", tmp_path / "held"))
    hold.start()
    while not (tmp_path / "held").exists():
        hold.join(0.01)
    with pytest.raises(BusyError, match=rf"{tmp_path} is in use: process {hold.pid} on .* decodes shard 2 of 2 since"):
        decode(decoding, Shard(1, 2))
    hold.kill()
    hold.join()


def held(lock: Path, sign: Path) -> None:
    with exclusive(lock, sign.parent, "decodes shard 2 of 2", "wait"):
        sign.touch()
        signal.pause()


def test_parts_of_other_inputs_are_not_joined(home: Path, tmp_path: Path) -> None:
    """Nor are results of another checkpoint taken for new ones while shards are missing."""
    decoding = decoding_of(home, tmp_path)
    assert decode(decoding) == []
    other = dataclasses.replace(decoding, options=dataclasses.replace(OPTIONS, beam_size=1))
    assert decode(other, Shard(0, 2))
    assert not (tmp_path / "decode.json").exists()
    assert decode(decoding, Shard(1, 2))
    assert decode(other, Shard(1, 2)) == []
    assert json.loads((tmp_path / "decode.json").read_text())["options"]["beam_size"] == 1
    assert not other.is_done() or not decoding.is_done()


def test_settings_of_a_dial_that_share_a_folder_are_told_apart(home: Path, tmp_path: Path) -> None:
    decoding = decoding_of(home, tmp_path, "dial")
    assert decoding.budget is not None
    decode(decoding)
    assert decoding.is_done()
    assert not dataclasses.replace(decoding, budget=decoding.budget + 0.002).is_done()


def test_a_part_that_was_decoded_twice_stops_the_joining(home: Path, tmp_path: Path) -> None:
    decoding = decoding_of(home, tmp_path)
    decode(decoding, Shard(0, 2))
    part = decoding.parts / "001-of-002.jsonl"
    (decoding.parts / "001-of-003.jsonl").write_bytes(part.read_bytes())
    with pytest.raises(ManifestError, match=r"decoded twice, in .*001-of-002.jsonl and in .*001-of-003.jsonl"):
        decode(decoding, Shard(1, 2))


def test_only_the_process_that_joins_times_the_model_against_the_dense_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = []
    monkeypatch.setattr(split, "times_against_dense", lambda *these: timed.append(these) or {"asr:eng": 0.5})
    decoding = dataclasses.replace(decoding_of(home, tmp_path, "dial"), dense=home / "dense")
    for index in range(3):
        assert len(timed) == 0
        decode(decoding, Shard(index, 3))
    assert len(timed) == 1
    assert json.loads((tmp_path / "decode.json").read_text())["time_vs_dense"] == {"asr:eng": 0.5}
    assert decoding.is_done()
