"""What a checkpoint is for: its tasks and the longest recordings it has heard, from its config.yaml and run.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechgate.config import load_yaml
from speechgate.errors import ConfigError
from speechgate.runinfo import read_description
from speechgate.task import KINDS, Task, to_iso3
from speechgate.text.tokenizer import Tokens

WINDOW_SECONDS = 30.0  # OWSM's and Whisper's, where a checkpoint does not tell


@dataclass(frozen=True)
class Known:
    """``tasks`` that the model knows; ``window_seconds``, the longest recording it takes."""

    tasks: tuple[Task, ...]
    window_seconds: float

    @classmethod
    def of(cls, folder: Path, tokenizer: Tokens) -> "Known":
        """Read the folder of a checkpoint.

        A specialised one knows its one task; one that was trained elsewhere knows all that its tokens can say.

        Raises:
            CheckpointError: run.json is damaged.
            ConfigError: config.yaml is missing or damaged.
        """
        description = read_description(folder)
        specialised = load_yaml(folder / "config.yaml").get("specialised")
        told = [specialised["task"]] if specialised else description.get("tasks", ())
        tasks = [Task.parse(text) for text in told] or _all_tasks(tokenizer)
        return cls(tuple(tasks), description.get("train", {}).get("max_seconds", WINDOW_SECONDS))

    @property
    def languages(self) -> list[str]:
        return sorted({task.src for task in self.tasks})

    def choose(self, kind: str | None, src: str | None, tgt: str | None) -> list[Task]:
        """The tasks that a request leaves open, one for each language that may be spoken.

        Args:
            kind: "asr" or "st"; None for st if ``tgt`` is given, asr otherwise.
            src: the spoken language; None if it is to be found out.
            tgt: the language to translate into; may be None if the model has one only.

        Raises:
            ConfigError: the model knows none such; the message lists what it knows.
        """
        kind = kind or ("st" if tgt else "asr")
        if kind not in KINDS:
            raise ConfigError(f"unknown task {kind!r}: use one of {', '.join(KINDS)}")
        if kind == "asr" and tgt:
            raise ConfigError(f"--task asr excludes --tgt {tgt}: recognition writes the language it hears")
        spoken, written = src and to_iso3(src), tgt and to_iso3(tgt)
        if spoken and spoken not in self.languages:
            raise ConfigError(
                f"language {src!r} is not one that the model hears; it hears: {', '.join(self.languages)}"
            )
        found = [
            task
            for task in self.tasks
            if task.kind == kind and task.src == (spoken or task.src) and task.tgt == (written or task.tgt)
        ]
        if not found:
            asked = f"{kind} from {spoken or 'any language'}" + (f" into {written}" if written else "")
            raise ConfigError(f"the model has no {asked}; it has: {', '.join(map(str, self.tasks))}")
        if kind == "st" and len({task.tgt for task in found}) > 1:
            raise ConfigError(f"give --tgt: the model translates into {', '.join(sorted({t.tgt for t in found}))}")
        return found

    def by_language(self) -> Sequence[Task]:
        """One task for each language that the model hears, asr where it has it."""
        return list({task.src: task for task in sorted(self.tasks, reverse=True)}.values())[::-1]


def _all_tasks(tokenizer: Tokens) -> list[Task]:
    spoken = [symbol[1:-1] for symbol in tokenizer.languages]
    written = [symbol.removeprefix("<st_")[:-1] for symbol in tokenizer.tasks if symbol.startswith("<st_")]
    asr = [Task.asr(src) for src in spoken] if "<asr>" in tokenizer.tasks else []
    return asr + [Task.st(src, tgt) for src in spoken for tgt in written if src != tgt]
