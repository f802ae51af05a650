"""Reading a decode directory: decode.json (how it was decoded) and hypotheses.jsonl (one line an utterance)."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechgate.errors import ConfigError, ManifestError
from speechgate.gates.sites import GateSite, stacks_of
from speechgate.task import Task
from speechgate.text.normalize import fold


@dataclass(frozen=True)
class Utterance:
    """One decoded utterance; ``gates`` has a character a site, "1" open.  MACs are of this utterance as it was run.

    Texts have the spelling of the corpus: a model that writes accents is not scored by texts that lack them.
    """

    id: str
    task: Task
    reference: str
    hypothesis: str
    ctc_hypothesis: str | None
    audio_seconds: float
    macs: float
    macs_dense: float
    gates: str


@dataclass(frozen=True)
class Decoded:
    """A decode directory.  ``deaf`` maps a condition ("shuffled", "silent") to the utterances decoded under it."""

    directory: Path
    corpus: str
    split: str
    checkpoint: str
    stack: str
    sparsity_target: float
    sites: tuple[GateSite, ...]
    options: dict[str, Any]
    device: str
    threads: int
    seconds_per_utterance: dict[str, float]
    time_vs_dense: dict[str, float]
    run: dict[str, Any]
    utterances: tuple[Utterance, ...]
    deaf: dict[str, tuple[Utterance, ...]]

    @property
    def is_dense(self) -> bool:
        return self.stack == "none"

    @property
    def gated_sites(self) -> list[int]:
        """Indices of the sites whose stack has gates; the others are open in every utterance."""
        return [index for index, site in enumerate(self.sites) if site.stack in stacks_of(self.stack)]

    @property
    def label(self) -> str:
        if self.is_dense:
            return "dense"
        return f"{self.stack} {self.sparsity_target:.0%}" + (f", {self.variant}" if self.variant else "")

    @property
    def variant(self) -> str:
        return variant_of(self.checkpoint, self.stack)


def variant_of(checkpoint: str, stack: str) -> str:
    """Which gates, by the name of their experiment: "dial" of gates_dial_decoder, "" of gates_decoder_0.50."""
    name = Path(checkpoint).name
    words = re.sub(rf"_{stack}(_\d\.\d\d)?$", "", name).split("_")
    return " ".join(word for word in words if word != "gates")


def by_task(utterances: Iterable[Utterance]) -> dict[Task, list[Utterance]]:
    """Group utterances by task, tasks in order, utterances by cut id (so that two systems pair up)."""
    groups: dict[Task, list[Utterance]] = {}
    for utterance in sorted(utterances, key=lambda utterance: (utterance.task, utterance.id)):
        groups.setdefault(utterance.task, []).append(utterance)
    return groups


def read_decoded(directory: Path) -> Decoded:
    """Read a decode directory.

    Raises:
        ConfigError: decode.json is missing, or lacks a key.
        ManifestError: a hypotheses file is missing, empty, or has a line that cannot be used; the message says which.
    """
    path = directory / "decode.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if (directory / "parts").is_dir():
            raise ConfigError(f"{directory} is decoded in part only: the same `speechgate decode` goes on") from error
        raise ConfigError(f"{path}: not found; decode into this directory first") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not JSON ({error}); decode again") from error
    try:
        sites = tuple(GateSite(*site) for site in info["sites"])
        corpus = _corpus_of(info["corpus"], info["split"])
        deaf_files = {c: entry["path"] for tasks in info.get("deaf", {}).values() for c, entry in tasks.items()}
        return Decoded(
            directory=directory,
            **{key: info[key] for key in ("corpus", "split", "checkpoint", "stack", "sparsity_target", "options")},
            **{key: info[key] for key in ("device", "threads", "seconds_per_utterance", "time_vs_dense", "run")},
            sites=sites,
            utterances=_read_utterances(directory / "hypotheses.jsonl", len(sites), corpus),
            deaf={
                condition: _read_utterances(directory / name, len(sites), corpus)
                for condition, name in deaf_files.items()
            },
        )
    except KeyError as error:
        raise ConfigError(f"{path}: the key {error} is missing; decode again") from error


def _corpus_of(corpus: str, split: str) -> str:
    """The corpus that a split is of: "covost2" of the mix "covost2+mtedx" has the split covost2_test."""
    return next((name for name in corpus.split("+") if split.startswith(f"{name}_")), corpus)


def _read_utterances(path: Path, sites: int, corpus: str) -> tuple[Utterance, ...]:
    if not path.is_file():
        raise ManifestError(f"{path}: not found; decode again")
    utterances: dict[tuple[str, str], Utterance] = {}
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
            task = Task.parse(entry["task"])
            texts = {"reference": task.tgt, "hypothesis": task.tgt, "ctc_hypothesis": task.src}
            values = {key: entry[key] for key in Utterance.__dataclass_fields__ if key != "task"}
            folded = {key: fold(values[key], language, corpus) for key, language in texts.items() if values[key]}
            utterance = Utterance(task=task, **values | folded)
        except (json.JSONDecodeError, KeyError) as error:
            raise ManifestError(f"{where}: no usable entry ({error!r}); decode again") from error
        if len(utterance.gates) != sites or set(utterance.gates) - {"0", "1"}:
            raise ManifestError(f"{where}: cut {utterance.id} needs {sites} gates of 0 or 1, has {utterance.gates!r}")
        key = (entry["task"], utterance.id)
        if key in utterances:
            raise ManifestError(f"{where}: cut {utterance.id} was decoded twice for {entry['task']}; decode again")
        utterances[key] = utterance
    if not utterances:
        raise ManifestError(f"{path}: no utterances; decode again")
    return tuple(utterances.values())


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, ended by line feeds only (splitlines would cut at a U+2028 inside a transcript)."""
    with path.open(encoding="utf-8") as handle:
        yield from handle
