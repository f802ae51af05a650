"""A split decoded in two ways, turn by turn: how many hypotheses change, and the time of both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lhotse.cut import Cut
from rich.progress import track
from rich.table import Table

from speechgate.bench.timing import Parts, Stopwatch
from speechgate.data.batch import load_audio
from speechgate.data.tasks import parse_tasks
from speechgate.decoding.decode import batches_of, contexts_of, decode_batch, examples_of
from speechgate.decoding.engine import Decoded, Engine
from speechgate.decoding.execution import DEFAULT, Execution
from speechgate.errors import ConfigError
from speechgate.files import write_json
from speechgate.hypotheses import decode_options, usual_search
from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe
from speechgate.runinfo import pick_device, run_info
from speechgate.text.vocabulary import load_vocabulary


@dataclass
class Changes:
    """Of one task, two ways of decoding.

    Attributes:
        times: milliseconds of "usual" and "other", encoder and search together: wall-clock time (``usual_ms``), and
            processor time (``usual_cpu_ms``), which other processes hardly change.
        changed: ids, hypotheses and scores of the utterances whose best hypotheses are not the same text.
    """

    utterances: int = 0
    times: Parts = field(default_factory=dict)
    changed: list[dict[str, Any]] = field(default_factory=list)

    def add(self, more: "Changes") -> None:
        self.utterances += more.utterances
        for name, milliseconds in more.times.items():
            self.times[name] = self.times.get(name, 0.0) + milliseconds
        self.changed += more.changed

    def ratio(self, times: str) -> float:
        """The other way's time over the usual one's, ``times`` being "ms" or "cpu_ms"."""
        return self.times[f"other_{times}"] / self.times[f"usual_{times}"]


def count_changes(engine: Engine, other: Engine, examples: Sequence[Cut], min_seconds: float) -> dict[str, Changes]:
    """Decode ``examples`` by both; they take turns at every batch, and at being the first."""
    found: dict[str, Changes] = {}
    device = next(engine.model.parameters()).device
    contexts = contexts_of(examples, {} if engine.gates is None else engine.gates.config.vectors)
    for turn, cuts in enumerate(track(batches_of(examples), "counting changes")):
        recordings = [load_audio(cut) for cut in cuts]
        engines = [engine, other] if turn % 2 == 0 else [other, engine]
        if turn == 0:
            for each in engines:  # warm up
                decode_batch(each, cuts, recordings, contexts, min_seconds)
        watch, results = Stopwatch(device), {}
        for each in engines:
            results[each] = decode_batch(each, cuts, recordings, contexts, min_seconds)
            watch.lap("other" if each is other else "usual")
        changed = [
            {"id": cut.custom["cut_id"]} | _told(mine, "usual") | _told(theirs, "other")
            for cut, mine, theirs in zip(cuts, results[engine], results[other], strict=True)
            if mine.text != theirs.text
        ]
        found.setdefault(cuts[0].custom["task"], Changes()).add(Changes(len(cuts), watch.parts, changed))
    return found


def _told(decoded: Decoded, way: str) -> dict[str, Any]:
    score = decoded.hypotheses[0].score if decoded.hypotheses else None
    return {way: decoded.text, f"{way}_score": score}


def decoding_changes(
    recipe: Recipe,
    folder: Path,
    split: str,
    kinds: Sequence[str],
    languages: Sequence[str],
    conf: str,
    execution: Execution,
    vocabulary: bool,
) -> tuple[Path, dict[str, Changes]]:
    """Decode a split with the checkpoint in ``folder`` as usual, and with ``execution`` and its learnt vocabulary.

    Returns:
        The file written, changes_<split>.json, and what was found for each task.

    Raises:
        ConfigError: the other way is the usual one.
        CheckpointError: the vocabulary was not learnt.
    """
    if execution == DEFAULT and not vocabulary:
        raise ConfigError("nothing to count: give --vocabulary, or another way to compute")
    checkpoint = load_checkpoint(folder, pick_device())
    place = recipe.vocabulary_of(folder)
    learnt = load_vocabulary(place, checkpoint.tokenizer) if vocabulary else None
    options = decode_options(conf or usual_search(folder))
    examples = examples_of(recipe.cuts(split), parse_tasks(kinds, languages, recipe.available_tasks()))
    found = count_changes(
        Engine(checkpoint, options),
        Engine(checkpoint, options, execution, learnt),
        examples,
        checkpoint.config.min_seconds,
    )
    values = {
        "schema": 1,
        "checkpoint": str(folder),
        "split": split,
        "options": asdict(options),
        "other": {"execution": asdict(execution), "vocabulary": None if learnt is None else learnt.summary()},
        "tasks": {task: asdict(changes) for task, changes in found.items()},
        "run": run_info(pick_device()),
    }
    path = place.with_name(f"changes_{split}.json")
    write_json(path, values)
    return path, found


def changes_table(found: dict[str, Changes]) -> Table:
    """Every task's utterances, changed hypotheses and time, and the sums."""
    table = Table(title="decoded as usual and otherwise", caption="ratios: other / usual, of wall-clock and CPU time")
    for name in ("task", "utterances", "changed", "usual s", "other s", "ratio", "CPU ratio"):
        table.add_column(name, justify="left" if name == "task" else "right")
    everything = Changes()
    for changes in found.values():
        everything.add(changes)
    for task, each in [*found.items(), ("all", everything)]:
        table.add_row(
            task,
            str(each.utterances),
            f"{len(each.changed)} ({len(each.changed) / each.utterances:.1%})",
            *(f"{each.times[way] / 1e3:.1f}" for way in ("usual_ms", "other_ms")),
            *(f"{each.ratio(times):.2f}" for times in ("ms", "cpu_ms")),
        )
    return table
