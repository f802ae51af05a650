"""What a manifest holds by task, found in one pass and kept beside it; a large one is also split up by language.

So a training knows its tasks and their hours at once, and the stream of a task reads only its own language's cuts.
"""

import gzip
import json
import random
import re
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse.utils import Seconds

from speechgate.errors import ManifestError
from speechgate.files import atomic_path, write_json
from speechgate.manifests.cuts import check_cut, is_packed, read_cuts
from speechgate.manifests.leaks import Repeats
from speechgate.task import Task

SCHEMA = 1
LARGE = 100_000  # cuts; up to here a manifest is read into memory
_PILE = 50_000  # lines that are shuffled in memory at once
_LANGUAGE = re.compile(rb'"language": "(\w+)"')


@dataclass(frozen=True)
class ManifestIndex:
    """The counts of one manifest.

    ``seconds`` is, for each task ("st:deu-eng"), the audio of its cuts by their length in whole seconds.  ``shards``
    are manifests of one language each, in a random order; a small manifest has none.
    """

    path: Path
    cuts: int
    seconds: dict[str, dict[int, Seconds]]
    shards: dict[str, Path]

    @property
    def tasks(self) -> list[Task]:
        return sorted(Task.parse(task) for task in self.seconds)

    def seconds_of(self, task: Task, shortest: Seconds, longest: Seconds) -> Seconds:
        """The audio of a task in cuts of ``shortest`` to ``longest`` seconds, to a whole second."""
        lengths = self.seconds.get(str(task), {})
        return sum(seconds for length, seconds in lengths.items() if int(shortest) <= length < longest)


def index_manifest(path: Path, large: int = LARGE) -> ManifestIndex:
    """Return the index of a manifest, from the file beside it where that is of this very manifest.

    Raises:
        ManifestError: no manifest, or a cut is not what it should be.
    """
    kept = path.with_name(f"{path.name.removesuffix('.jsonl.gz')}.index.json")
    if not path.is_file():
        raise ManifestError(f"{path} is missing: run speechgate prepare first")
    status = path.stat()
    made_from = {"schema": SCHEMA, "bytes": status.st_size, "time_ns": status.st_mtime_ns, "large": large}
    try:
        plain = json.loads(kept.read_text(encoding="utf-8"))
        if plain["made_from"] == made_from:
            return _from_plain(path, plain)
    except (OSError, ValueError, KeyError):
        pass  # none yet, or an older form
    plain = _count(path) | {"made_from": made_from, "shards": []}
    if plain["cuts"] > large:
        plain["shards"] = _split(path) if is_packed(path) else _shard(path)
    write_json(kept, plain)
    return _from_plain(path, plain)


def _from_plain(path: Path, plain: dict[str, Any]) -> ManifestIndex:
    seconds = {
        task: {int(length): value for length, value in lengths.items()} for task, lengths in plain["seconds"].items()
    }
    return ManifestIndex(path, plain["cuts"], seconds, {lang: _shard_path(path, lang) for lang in plain["shards"]})


def _count(path: Path) -> dict[str, Any]:
    """Check every cut and sum up the audio of each task."""
    seconds: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    repeats, cuts = Repeats(), 0
    try:
        for cut in read_cuts(path):
            check_cut(cut)
            repeats.add_id(cut, "this")
            cuts += 1
            supervision = cut.supervisions[0]
            names = [f"asr:{supervision.language}"]
            for tgt, text in ((supervision.custom or {}).get("translated_text") or {}).items():
                if text and tgt != supervision.language:
                    names.append(f"st:{supervision.language}-{tgt}")
            for name in names:
                seconds[name][int(cut.duration)] += cut.duration
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    if count := repeats.repeated_ids()["this"]:
        raise ManifestError(f"{path}: {count} ids occur twice in the manifest")
    return {"cuts": cuts, "seconds": {name: dict(lengths) for name, lengths in sorted(seconds.items())}}


def _shard_path(path: Path, language: str) -> Path:
    return path.with_name(f"{path.name.removesuffix('.jsonl.gz')}.{language}.jsonl.gz")


def _split(path: Path) -> list[str]:
    """Write the lines of each language of a packed manifest as they come; return the languages.

    Their order is random already, and the one in which their recordings are read fastest.
    """
    with ExitStack() as files, gzip.open(path, "rb") as lines:
        opened: dict[str, gzip.GzipFile] = {}
        for line in lines:
            language = _language(line, path)
            if language not in opened:
                temporary = files.enter_context(atomic_path(_shard_path(path, language)))
                opened[language] = files.enter_context(gzip.GzipFile(temporary, "wb", 1))
            opened[language].write(line)
    return sorted(opened)


def _shard(path: Path) -> list[str]:
    """Write the lines of each language to a manifest of their own, shuffled; return the languages.

    Lines are dealt at random to piles on disk, each of which is shuffled in memory; so any size needs the same memory,
    and a reader with a small buffer sees a fair sample from the beginning.
    """
    deal = random.Random(0)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".shards-") as folder:
        counts = _deal(path, Path(folder), deal)
        for language, piles in counts.items():
            with atomic_path(_shard_path(path, language)) as temporary, gzip.open(temporary, "wb", 1) as packed:
                for pile in range(piles):
                    lines = (Path(folder) / f"{language}.{pile}").read_bytes().splitlines(keepends=True)
                    deal.shuffle(lines)
                    packed.writelines(lines)
    return sorted(counts)


def _deal(path: Path, folder: Path, deal: random.Random) -> dict[str, int]:
    """Deal lines to files <language>.<pile>; return the number of piles of each language."""
    sizes: dict[str, int] = defaultdict(int)
    with gzip.open(path, "rb") as lines:
        for line in lines:
            sizes[_language(line, path)] += 1
    piles = {language: -(-size // _PILE) for language, size in sizes.items()}
    with ExitStack() as files, gzip.open(path, "rb") as lines:
        opened = {
            (language, pile): files.enter_context((folder / f"{language}.{pile}").open("wb"))
            for language, count in piles.items()
            for pile in range(count)
        }
        for line in lines:
            language = _language(line, path)
            opened[language, deal.randrange(piles[language])].write(line)
    return piles


def _language(line: bytes, path: Path) -> str:
    """The language of a line of JSON as `write_cuts` writes it; reading it all takes ten times as long."""
    found = _LANGUAGE.search(line)
    return found[1].decode() if found else json.loads(line)["supervisions"][0]["language"]
