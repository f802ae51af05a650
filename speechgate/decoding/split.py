"""Decode a split with a checkpoint: hypotheses.jsonl, decode.json, and the deaf baselines beside them.

The deaf baselines decode the same tasks from another utterance's audio ("shuffled") or from silence ("silent"): a
model that listens is much worse there.

Any number of processes may share the work, at once or one after the other.  Each writes what it has decoded to
<results>/parts; the one that finds everything there joins it to the results.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from lhotse.cut import Cut
from rich.progress import track

from speechgate.data.batch import load_audio
from speechgate.data.tasks import reference
from speechgate.decoding.decode import BATCH_SECONDS, contexts_of, decode_batch, examples_of
from speechgate.decoding.engine import Decoded, Engine
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.decoding.parts import Found, Piece, join, missing, open_part, pieces_of, read_parts
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.timing import times_against_dense
from speechgate.files import write_json
from speechgate.locks import exclusive, in_turn
from speechgate.model.checkpoint import Checkpoint, load_checkpoint
from speechgate.runinfo import REPOSITORY, device_name, run_info
from speechgate.shard import WHOLE, Shard, deal
from speechgate.task import Task
from speechgate.text.vocabulary import load_vocabulary

SCHEMA = 1


@dataclass(frozen=True)
class Decoding:
    """What a folder of results holds: the ``tasks`` of a split, decoded by a checkpoint.

    ``checkpoint`` and ``dense``, which it is timed against, are folders; ``deaf`` adds the deaf baselines; ``budget``
    is the share to skip, for gates with a budget dial; ``vocabulary`` is a file with the tokens of each language;
    ``execution`` is how the engine computes.
    """

    folder: Path
    checkpoint: Path
    corpus: str
    split: str
    manifest: Path
    tasks: Sequence[Task]
    options: SearchOptions
    dense: Path | None = None
    deaf: bool = False
    budget: float | None = None
    vocabulary: Path | None = None
    execution: Execution = DEFAULT

    @property
    def inputs(self) -> tuple[Path, ...]:
        learnt = () if self.vocabulary is None else (self.vocabulary,)
        return self.checkpoint / "config.yaml", self.checkpoint / "model.safetensors", self.manifest, *learnt

    def is_done(self) -> bool:
        """Whether the folder holds all of this already, made after its inputs."""
        path = self.folder / "decode.json"
        if not path.is_file() or any(each.stat().st_mtime > path.stat().st_mtime for each in self.inputs):
            return False
        record = json.loads(path.read_text(encoding="utf-8"))
        same = record.get("tasks") == [str(task) for task in self.tasks] and record["options"] == self.recorded_options
        same = same and (record.get("vocabulary") is None) == (self.vocabulary is None)
        same = same and (self.budget is None or record["sparsity_target"] == self.budget)
        same = same and asdict(DEFAULT) | record.get("execution", {}) == asdict(self.execution)
        return (
            same and (self.dense is None or bool(record["time_vs_dense"])) and (not self.deaf or bool(record["deaf"]))
        )

    @property
    def recorded_options(self) -> dict[str, Any]:
        return {**asdict(self.options), "batch_seconds": BATCH_SECONDS}

    @property
    def parts(self) -> Path:
        """Where the parts lie: a folder for these very inputs and options, so that no others get in."""
        inputs = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self.inputs]
        made_from = [
            inputs,
            [str(task) for task in self.tasks],
            self.recorded_options,
            self.budget,
            asdict(self.execution),
        ]
        return self.folder / "parts" / hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:12]


def decode_split(
    decoding: Decoding, cuts: Iterable[Cut], device: torch.device | str = "cpu", shard: Shard = WHOLE
) -> list[Cut]:
    """Decode this process's ``shard`` of the split, but for what is there already.

    The process that finds all shards there writes the results, decode.json last: a folder that has it is complete.

    Returns:
        The examples that other shards have yet to decode; empty if the results are complete.

    Raises:
        ManifestError: no cut fits a task, or the parts are damaged or were decoded twice.
        BusyError: another process decodes this shard.
    """
    checkpoint = load_checkpoint(decoding.checkpoint, device)
    if decoding.budget is not None:
        checkpoint.turn(decoding.budget)
    vocabulary = None if decoding.vocabulary is None else load_vocabulary(decoding.vocabulary, checkpoint.tokenizer)
    engine = Engine(checkpoint, decoding.options, decoding.execution, vocabulary)
    examples = examples_of(cuts, decoding.tasks)
    pieces = pieces_of(examples, decoding.deaf)
    parts, turn = decoding.parts, decoding.folder / "parts" / "lock"
    with in_turn(turn):
        if decoding.is_done():  # another shard's process was faster
            _remove_parts(decoding)
            return []
        for earlier in ("decode.json", "scores.json"):
            (decoding.folder / earlier).unlink(missing_ok=True)
    with exclusive(parts / f"{shard.name}.lock", decoding.folder, f"decodes shard {shard}", "wait for it, or stop it"):
        _decode_shard(engine, examples, pieces, checkpoint.config.min_seconds, parts, shard, decoding.checkpoint.name)
    with in_turn(turn):
        if not decoding.is_done():
            found = read_parts(parts)
            left = missing(pieces, found)
            if left and shard.count > 1:
                return left
            _write_results(decoding, engine, checkpoint, examples, pieces, found)
        _remove_parts(decoding)
    return []


def _remove_parts(decoding: Decoding) -> None:
    shutil.rmtree(decoding.folder / "parts", ignore_errors=True)  # NFS keeps what another process has open


def _decode_shard(
    engine: Engine,
    examples: Sequence[Cut],
    pieces: Sequence[Piece],
    min_seconds: float,
    parts: Path,
    shard: Shard,
    name: str,
) -> None:
    """Append the pieces of a shard that nobody has decoded yet to its part."""
    device = next(engine.model.parameters()).device
    contexts = contexts_of(examples, {} if engine.gates is None else engine.gates.config.vectors)
    costs = [max(piece.examples[0].duration, min_seconds) * len(piece.examples) for piece in pieces]
    found = read_parts(parts)
    todo = [pieces[at] for at in deal(costs, shard.count)[shard.index] if pieces[at].key not in found]
    label = f"decoding {name}" + (f", shard {shard}" if shard.count > 1 else "")
    with open_part(parts / f"{shard.name}.jsonl") as append:
        for piece in track(todo, label, disable=shard.index > 0):
            began = time.perf_counter()
            recordings = [
                torch.zeros(cut.num_samples) if heard is None else load_audio(heard)
                for cut, heard in zip(piece.examples, piece.heard, strict=True)
            ]
            loaded = time.perf_counter()
            results = decode_batch(engine, piece.examples, recordings, contexts, min_seconds)
            ended = time.perf_counter()
            append(
                {
                    "piece": piece.key,
                    "device": device_name(device),
                    "wall_seconds": ended - began,
                    "seconds": ended - loaded,
                    "hypotheses": [_entry(*pair) for pair in zip(piece.examples, results, strict=True)],
                }
            )


def _write_results(
    decoding: Decoding,
    engine: Engine,
    checkpoint: Checkpoint,
    examples: Sequence[Cut],
    pieces: Sequence[Piece],
    found: Found,
) -> None:
    join(pieces, found, "real", decoding.folder / "hypotheses.jsonl")
    deaf: dict[str, dict[str, Any]] = {}
    for audio in ("shuffled", "silent") if decoding.deaf else ():
        path = decoding.folder / f"hypotheses_{audio}.jsonl"
        join(pieces, found, audio, path)
        for piece in pieces:
            if piece.audio == audio:
                deaf.setdefault(piece.examples[0].custom["task"], {})[audio] = {"path": path.name}
    device = next(engine.model.parameters()).device
    real = [(piece, found[piece.key]) for piece in pieces if piece.audio == "real"]
    seconds: dict[str, list[float]] = {}
    for piece, line in real:
        share = line["seconds"] / len(piece.examples)
        seconds.setdefault(piece.examples[0].custom["task"], []).extend([share] * len(piece.examples))
    times = {}
    if decoding.dense is not None:
        dense = load_checkpoint(decoding.dense, device)
        times = times_against_dense(checkpoint, dense, examples, decoding.options, engine.execution, engine.vocabulary)
    path = decoding.checkpoint
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "corpus": decoding.corpus,
        "split": decoding.split,
        "tasks": [str(task) for task in decoding.tasks],
        "checkpoint": str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path),
        "stack": checkpoint.stack,
        "sparsity_target": checkpoint.sparsity_target,
        "sites": [[part for part in astuple(site) if part != ""] for site in engine.cost.sites],
        "options": decoding.recorded_options,
        "execution": asdict(decoding.execution),
        "vocabulary": None if engine.vocabulary is None else engine.vocabulary.summary(),
        "device": ", ".join(sorted({line["device"] for _, line in real})),
        "threads": torch.get_num_threads(),
        "wall_seconds": sum(line["wall_seconds"] for _, line in real),
        "seconds_per_utterance": {task: sum(values) / len(values) for task, values in seconds.items()},
        "time_vs_dense": times,
        "deaf": deaf,
        "run": run_info(device),
    }
    write_json(decoding.folder / "decode.json", record)


def _entry(cut: Cut, result: Decoded) -> dict[str, Any]:
    """A line of hypotheses.jsonl."""
    task = Task.parse(cut.custom["task"])
    best = result.hypotheses[0] if result.hypotheses else None
    return {
        "id": cut.custom["cut_id"],
        "task": str(task),
        "src": task.src,
        "tgt": task.tgt,
        "reference": reference(cut, task),
        "hypothesis": result.text,
        "ctc_hypothesis": result.ctc_text,
        "score": None if best is None else best.score,  # JSON has no infinity
        "steps": 0 if best is None else best.steps,
        "audio_seconds": cut.duration,
        "macs": result.macs,
        "macs_dense": result.macs_dense,
        "gates": "".join("1" if is_open else "0" for is_open in result.open_S),
    }
