"""Decode a split with a checkpoint: hypotheses.jsonl, decode.json, and the deaf baselines beside them.

The deaf baselines decode the same tasks from another utterance's audio ("shuffled") or from silence ("silent"): a
model that listens is much worse there.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Literal

import torch
from lhotse.cut import Cut
from rich.progress import track

from speechgate.data.batch import load_audio, pad_speech
from speechgate.data.tasks import expand, reference
from speechgate.data.vectors import load_vectors
from speechgate.decoding.engine import Decoded, Engine
from speechgate.decoding.search import SearchOptions
from speechgate.decoding.timing import times_against_dense
from speechgate.errors import ManifestError
from speechgate.files import atomic_path, write_json
from speechgate.gates.allocation import spread_dither
from speechgate.gates.context import Context, join
from speechgate.model.checkpoint import Checkpoint
from speechgate.runinfo import device_name, run_info
from speechgate.task import Task

Audio = Literal["real", "shuffled", "silent"]
BATCH_SECONDS = 60.0  # padded audio a batch


def examples_of(cuts: Iterable[Cut], tasks: Sequence[Task]) -> list[Cut]:
    """The examples to decode: by task, then longest first, so that a batch shares its task and holds little padding."""
    examples = sorted(expand(cuts, tasks), key=lambda cut: (cut.custom["task"], -cut.duration, cut.id))
    if not examples:
        raise ManifestError(f"no cut of the manifest fits any of: {', '.join(map(str, tasks))}")
    return examples


def batches_of(examples: Sequence[Cut], seconds: float = BATCH_SECONDS) -> list[list[Cut]]:
    """Cut the list into batches of at most ``seconds``, padding included, of one task each."""
    batches: list[list[Cut]] = []
    for cut in examples:
        last = batches[-1] if batches else None
        if last and last[0].custom["task"] == cut.custom["task"] and last[0].duration * (len(last) + 1) <= seconds:
            last.append(cut)
        else:
            batches.append([cut])
    return batches


def waveform(cuts: Sequence[Cut], at: int, audio: Audio) -> torch.Tensor:
    """The samples heard for ``cuts[at]``: its own, those of the next cut in its task, or silence of its length."""
    if audio == "silent":
        return torch.zeros(cuts[at].num_samples)
    if audio == "real":
        return load_audio(cuts[at])
    same = [i for i, cut in enumerate(cuts) if cut.custom["task"] == cuts[at].custom["task"]]
    return load_audio(cuts[same[(same.index(at) + 1) % len(same)]])


def contexts_of(examples: Sequence[Cut], vectors: Mapping[str, int]) -> dict[str, Context]:
    """What gates are to know of each example, by its id.

    Utterances of a task round their budgets evenly, in the order of the examples, so that the task keeps to the budget.
    """
    number: Counter[str] = Counter()
    contexts = {}
    for cut in examples:
        task = cut.custom["task"]
        dither_1 = spread_dither(torch.tensor([number[task]]))
        number[task] += 1
        contexts[cut.id] = Context([Task.parse(task)], load_vectors([cut], vectors), dither_1)
    return contexts


def decode_examples(
    engine: Engine, examples: Sequence[Cut], min_seconds: float, audio: Audio = "real", label: str = "decoding"
) -> Iterator[tuple[Cut, Decoded, float]]:
    """Decode all examples, with a progress bar; yields each with its result and the seconds it took (batch's share)."""
    device = next(engine.model.parameters()).device
    place = {cut.id: i for i, cut in enumerate(examples)}
    contexts = contexts_of(examples, {} if engine.gates is None else engine.gates.config.vectors)
    for batch in track(batches_of(examples), label):
        recordings = [waveform(examples, place[cut.id], audio) for cut in batch]
        started = time.perf_counter()
        speech_BN, lengths_B = pad_speech(recordings, min_seconds)
        context = join([contexts[cut.id] for cut in batch])
        tasks = [Task.parse(cut.custom["task"]) for cut in batch]
        results = engine.decode(speech_BN.to(device), lengths_B, tasks, context)
        seconds = (time.perf_counter() - started) / len(batch)
        for cut, result in zip(batch, results, strict=True):
            yield cut, result, seconds


def gates_of(engine: Engine, examples: Sequence[Cut], min_seconds: float) -> Iterator[tuple[list[Cut], torch.Tensor]]:
    """What the gates decide for all examples, a batch after the other with its (B, S), without a search."""
    device = next(engine.model.parameters()).device
    contexts = contexts_of(examples, {} if engine.gates is None else engine.gates.config.vectors)
    for batch in batches_of(examples):
        speech_BN, lengths_B = pad_speech([load_audio(cut) for cut in batch], min_seconds)
        tasks = [Task.parse(cut.custom["task"]) for cut in batch]
        context = join([contexts[cut.id] for cut in batch])
        yield batch, engine.encode(speech_BN.to(device), lengths_B, tasks, context)[2]


def is_decoded(
    folder: Path, inputs: Iterable[Path], tasks: Sequence[Task], options: SearchOptions, *, timed: bool, deaf: bool
) -> bool:
    """Whether ``folder`` holds a whole decoding like that, made after the files ``inputs``."""
    path = folder / "decode.json"
    if not path.is_file() or any(each.stat().st_mtime > path.stat().st_mtime for each in inputs):
        return False
    record = json.loads(path.read_text(encoding="utf-8"))
    same = record.get("tasks") == [str(task) for task in tasks] and record["options"] == _recorded(options)
    return same and (not timed or bool(record["time_vs_dense"])) and (not deaf or bool(record["deaf"]))


def decode_split(
    checkpoint: Checkpoint,
    name: str,
    cuts: Iterable[Cut],
    tasks: Sequence[Task],
    options: SearchOptions,
    folder: Path,
    *,
    corpus: str,
    split: str,
    dense: Checkpoint | None = None,
    deaf: bool = False,
    budget: float | None = None,
) -> Path:
    """Decode ``tasks`` of ``cuts`` into ``folder``; decode.json is written last, so a folder that has it is complete.

    Args:
        name: the checkpoint's path, as it is to stand in the results.
        dense: the dense model to time against, side by side in this run.
        deaf: also decode with the audio of another utterance of the task, and with silence.
        budget: the share to skip, for gates with a budget dial.
    """
    if budget is not None:
        checkpoint.turn(budget)
    engine = Engine(checkpoint, options)
    examples = examples_of(cuts, tasks)
    for earlier in ("decode.json", "scores.json"):
        (folder / earlier).unlink(missing_ok=True)
    started = time.perf_counter()
    seconds: dict[str, list[float]] = {}
    with atomic_path(folder / "hypotheses.jsonl") as temporary, temporary.open("w", encoding="utf-8") as out:
        for cut, result, spent in decode_examples(
            engine, examples, checkpoint.config.min_seconds, label=f"decoding {name}"
        ):
            seconds.setdefault(cut.custom["task"], []).append(spent)
            out.write(_line(cut, result))
    wall_seconds = time.perf_counter() - started
    device = next(engine.model.parameters()).device
    record: dict[str, Any] = {
        "schema": 1,
        "corpus": corpus,
        "split": split,
        "tasks": [str(task) for task in tasks],
        "checkpoint": name,
        "stack": checkpoint.stack,
        "sparsity_target": checkpoint.sparsity_target,
        "sites": [[part for part in astuple(site) if part != ""] for site in engine.cost.sites],
        "options": _recorded(options),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "wall_seconds": wall_seconds,
        "seconds_per_utterance": {task: sum(values) / len(values) for task, values in seconds.items()},
        "time_vs_dense": {},
        "deaf": {},
        "run": run_info(device),
    }
    if dense is not None:
        record["time_vs_dense"] = times_against_dense(checkpoint, dense, examples, options)
    if deaf:
        record["deaf"] = _decode_deaf(engine, examples, checkpoint.config.min_seconds, folder)
    write_json(folder / "decode.json", record)
    return folder


def _recorded(options: SearchOptions) -> dict[str, Any]:
    return {**asdict(options), "batch_seconds": BATCH_SECONDS}


def _decode_deaf(engine: Engine, examples: Sequence[Cut], min_seconds: float, folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = {}
    audios: tuple[Audio, ...] = ("shuffled", "silent")
    utterances = Counter(cut.custom["task"] for cut in examples)
    for audio in audios:
        # A task's only utterance has no other audio to be given.
        chosen = [cut for cut in examples if audio == "silent" or utterances[cut.custom["task"]] > 1]
        path = folder / f"hypotheses_{audio}.jsonl"
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as out:
            for cut, result, _ in decode_examples(engine, chosen, min_seconds, audio, f"decoding {audio} audio"):
                out.write(_line(cut, result))
                record.setdefault(cut.custom["task"], {})[audio] = {"path": path.name}
    return record


def _line(cut: Cut, result: Decoded) -> str:
    task = Task.parse(cut.custom["task"])
    best = result.hypotheses[0] if result.hypotheses else None
    values = {
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
    return json.dumps(values, ensure_ascii=False) + "\n"
