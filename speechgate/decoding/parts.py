"""A decoding in pieces: what each process has decoded, kept until all is there.

A piece is a batch, for texts and scores may depend on the padding of a batch: so the results are the same however many
processes share them out.  Each process appends its pieces to a file of its own, a line of JSON a piece.
"""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lhotse.cut import Cut

from speechgate.decoding.decode import batches_of
from speechgate.errors import ManifestError
from speechgate.files import atomic_path, naming

Audio = Literal["real", "shuffled", "silent"]
Found = Mapping[str, dict[str, Any]]  # the line of each piece, by its key


@dataclass(frozen=True)
class Piece:
    """A batch of examples, and the cuts whose audio is heard for them; None is silence."""

    audio: Audio
    number: int
    examples: Sequence[Cut]
    heard: Sequence[Cut | None]

    @property
    def key(self) -> str:
        return f"{self.audio} {self.number}"


def pieces_of(examples: Sequence[Cut], deaf: bool) -> list[Piece]:
    """The batches of ``examples`` in order; with ``deaf`` also those of the deaf baselines.

    "shuffled" hears the next utterance of the task, so a task's only one is left out; "silent" hears silence.
    """
    real = [Piece("real", number, batch, batch) for number, batch in enumerate(batches_of(examples))]
    if not deaf:
        return real
    same_task: dict[str, list[Cut]] = defaultdict(list)
    for cut in examples:
        same_task[cut.custom["task"]].append(cut)
    following = {cut.id: same[(at + 1) % len(same)] for same in same_task.values() for at, cut in enumerate(same)}
    others = batches_of([cut for cut in examples if following[cut.id] is not cut])
    shuffled = [Piece("shuffled", i, batch, [following[cut.id] for cut in batch]) for i, batch in enumerate(others)]
    silent = [Piece("silent", piece.number, piece.examples, [None] * len(piece.examples)) for piece in real]
    return [*real, *shuffled, *silent]


@contextmanager
def open_part(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Give a function that appends a line to a process's part, and has it on the disk when it returns.

    What a killed process left of a line is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a+b") as handle:
        handle.seek(0)
        handle.truncate(handle.read().rfind(b"\n") + 1)

        def append(line: dict[str, Any]) -> None:
            handle.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

        yield append


def read_parts(folder: Path) -> dict[str, dict[str, Any]]:
    """The pieces that any process has decoded: the lines of all parts, by the key of their piece.

    Raises:
        ManifestError: a line is damaged, or two processes decoded the same piece; the message names the files.
    """
    found: dict[str, dict[str, Any]] = {}
    place: dict[str, Path] = {}
    for path in sorted(folder.glob("*.jsonl")):
        content = path.read_bytes()
        for number, line in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
            try:
                entry = json.loads(line)
                key, ids = entry["piece"], [f"{each['id']} for {each['task']}" for each in entry["hypotheses"]]
            except (ValueError, KeyError, TypeError) as error:
                raise ManifestError(f"{path}, line {number} is damaged: remove the file and decode again") from error
            if key in place:
                raise ManifestError(
                    f"cut {ids[0]} was decoded twice, in {place[key]} and in {path}, by processes started for other "
                    f"numbers of shards: remove one of the files and decode again"
                )
            found[key], place[key] = entry, path
    return found


def missing(pieces: Sequence[Piece], found: Found) -> list[Cut]:
    """The examples that nobody has decoded yet."""
    return [cut for piece in pieces if piece.key not in found for cut in piece.examples]


def join(pieces: Sequence[Piece], found: Found, audio: Audio, path: Path) -> None:
    """Write the hypotheses of one kind of audio to ``path``, in the order of the pieces.

    Raises:
        ManifestError: not every (cut, task) was decoded exactly once; the message names the first that was not.
    """
    pieces = [piece for piece in pieces if piece.audio == audio]
    wanted = {(cut.custom["cut_id"], cut.custom["task"]) for piece in pieces for cut in piece.examples}
    entries = [entry for piece in pieces if piece.key in found for entry in found[piece.key]["hypotheses"]]
    times = Counter((entry["id"], entry["task"]) for entry in entries)
    if odd := sorted(key for key in wanted | times.keys() if times[key] != (key in wanted)):
        cut_id, task = odd[0]
        raise ManifestError(
            f"{path}: {len(odd)} of {len(wanted)} utterances were not decoded exactly once; the first is cut {cut_id} "
            f"for {task}, decoded {times[odd[0]]} times. Remove {path.parent / 'parts'} and decode again"
        )
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        for entry in entries:
            out.write(json.dumps(entry, ensure_ascii=False) + "\n")
