"""A corpus prepared by one process, by shards and by processes side by side: the same bytes; what is killed goes on."""

import multiprocessing
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.corpus import audio, frame, prompts
from speechgate.corpus.stream import recordings
from speechgate.corpus.utterance import Utterance
from speechgate.manifests.cuts import read_cuts
from speechgate.manifests.quality import Quality
from speechgate.preparation import prepare
from speechgate.recipe import Recipe
from speechgate.shard import Shard, started_shard
from tests.corpus.clips import Clip, clip_of
from tests.corpus.layouts import LAYOUTS

CONTEXT = multiprocessing.get_context("forkserver")  # which imports the package once, for all processes
CONTEXT.set_forkserver_preload(["tests.test_preparation"])


def adapt() -> None:
    """Convert in this process; and two bad ones in ten are more than the thresholds of real corpora allow."""
    frame.cores = lambda: 1
    frame.load_quality = lambda path: Quality(max_bad_percent=40)


@pytest.fixture(scope="module", autouse=True)
def adapted() -> Iterator[None]:
    before = frame.cores, frame.load_quality
    adapt()
    yield
    frame.cores, frame.load_quality = before


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CoVoST 2, with a recording that is missing and one that is empty, not prepared."""
    home = tmp_path_factory.mktemp("preparation")
    prompts.download(home, "bundled")
    cuts = [cut for path in prompts.prepare(home, workers=1).values() for cut in read_cuts(path)]
    clips: list[Clip] = [clip for cut in cuts if len((clip := clip_of(cut)).texts) == 5]
    (home / "raw").mkdir()
    LAYOUTS["covost2"](home / "raw", clips)
    return home


@pytest.fixture(scope="module")
def recipe(home: Path) -> Recipe:
    return Recipe("covost2", home / "data", home / "exp")


@pytest.fixture(scope="module")
def whole(recipe: Recipe, home: Path) -> dict[str, bytes]:
    """What one process makes of it."""
    assert prepare(recipe, str(home / "raw"))
    return contents(recipe)


@pytest.fixture
def raw(recipe: Recipe, whole: dict[str, bytes], home: Path) -> str:
    """The source, with nothing prepared from it yet."""
    shutil.rmtree(recipe.data / "covost2")
    return str(home / "raw")


def contents(recipe: Recipe) -> dict[str, bytes]:
    """Every file of a preparation but the index, which has the time of its manifest, by its path."""
    home = recipe.data / "covost2"
    paths = [path for path in home.rglob("*") if path.is_file() and not path.name.endswith(".index.json")]
    assert not [path for path in paths if path.name.startswith(".")]
    return {str(path.relative_to(home)): path.read_bytes() for path in paths}


def flacs(recipe: Recipe) -> list[Path]:
    return sorted((recipe.data / "covost2").rglob("*.flac"))


@given(audio_ids=st.lists(st.integers(0, 9), max_size=40), shards=st.integers(1, 12))
def test_any_number_of_shards_covers_each_recording_once(audio_ids: list[int], shards: int) -> None:
    """Those of one recording lie next to each other."""
    utterances = [
        Utterance(str(number), "train", Path(f"raw/{id_}.wav"), "text", "eng")
        for number, id_ in enumerate(sorted(audio_ids))
    ]
    jobs = [
        job
        for index in range(shards)
        for job in islice(recordings(utterances, Path("raw"), Path("home")), index, None, shards)
    ]
    assert Counter(jobs) == Counter(
        {(Path(f"raw/{id_}.wav"), Path(f"home/audio/{id_}.flac")): 1 for id_ in set(audio_ids)}
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_one_after_the_other_give_the_bytes_of_one_process(
    recipe: Recipe, whole: dict[str, bytes], raw: str, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    converted: list[Path] = []
    convert = audio.convert
    monkeypatch.setattr(audio, "convert", lambda *paths: converted.append(paths[1]) or convert(*paths))
    for index in order[:-1]:
        assert not prepare(recipe, raw, Shard(index, 3))
        assert not recipe.is_prepared
    assert prepare(recipe, raw, Shard(order[-1], 3))
    assert contents(recipe) == whole
    assert sorted(path for path in converted if path.is_file()) == flacs(recipe)  # each once
    assert prepare(recipe, raw, Shard(0, 3))  # nothing to do
    assert contents(recipe) == whole


def run(home: Path, environment: dict[str, str], die_at: int) -> None:
    """Prepare as a process of its own, which is killed within the conversion ``die_at`` of its shard (0: never)."""
    os.environ |= environment
    adapt()
    convert, calls = audio.convert, [0]

    def convert_or_die(*paths: Any) -> Any:
        calls[0] += 1
        if calls[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return convert(*paths)

    audio.convert = convert_or_die
    prepare(Recipe("covost2", home / "data", home / "exp"), str(home / "raw"), started_shard())


def start(home: Path, environment: dict[str, str], die_at: int = 0) -> Any:
    process = CONTEXT.Process(target=run, args=(home, environment, die_at))
    process.start()
    return process


def test_two_processes_side_by_side(home: Path, recipe: Recipe, whole: dict[str, bytes], raw: str) -> None:
    processes = [start(home, {"RANK": str(rank), "WORLD_SIZE": "2"}) for rank in (0, 1)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(recipe) == whole


@pytest.mark.parametrize("again", [Shard(0, 2), Shard(0, 1)], ids=["itself", "alone"])
def test_a_killed_shard_goes_on_where_it_was(
    home: Path, recipe: Recipe, whole: dict[str, bytes], raw: str, again: Shard
) -> None:
    killed = start(home, {"RANK": "0", "WORLD_SIZE": "2"}, die_at=2)
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in flacs(recipe)}
    assert len(kept) == 1
    assert not prepare(recipe, raw, Shard(1, 2))
    assert prepare(recipe, raw, again)
    assert contents(recipe) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_small_corpus_is_prepared_by_whoever_comes_first(tmp_path: Path) -> None:
    recipe = Recipe("prompts", tmp_path)
    assert prepare(recipe, "bundled", Shard(1, 2))
    assert recipe.is_prepared
    assert prepare(recipe, "bundled", Shard(0, 2))
