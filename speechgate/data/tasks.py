"""Expand cuts into examples: one cut serves ASR and every translation that it carries."""

from collections.abc import Iterable, Iterator, Sequence

from lhotse import CutSet
from lhotse.cut import Cut

from speechgate.errors import ConfigError, ManifestError
from speechgate.task import Task, to_iso3


def parse_tasks(kinds: Iterable[str], languages: Iterable[str], available: Sequence[Task]) -> tuple[Task, ...]:
    """Choose among the tasks that a corpus offers: ``kinds`` such as asr or st:eng, ``languages`` spoken ones.

    Empty ``kinds`` or ``languages`` stand for all.

    Raises:
        ConfigError: nothing matches; the message lists what exists.
    """
    kinds, wanted = list(kinds), [to_iso3(code) for code in languages]
    spoken = sorted({task.src for task in available})
    for code in wanted:
        if code not in spoken:
            raise ConfigError(f"language {code!r} is not in this corpus; it has: {', '.join(spoken)}")
    chosen = []
    for kind in kinds or sorted({task.kind for task in available}):
        name, _, target = kind.partition(":")
        matches = [t for t in available if t.kind == name and (not target or t.tgt == to_iso3(target))]
        if not matches:
            known = sorted({t.kind for t in available} | {f"st:{t.tgt}" for t in available if t.kind == "st"})
            raise ConfigError(f"task {kind!r} is not in this corpus; it has: {', '.join(known)}")
        chosen += [t for t in matches if not wanted or t.src in wanted]
    if not chosen:
        raise ConfigError(f"no task is left of {', '.join(map(str, available))} for {kinds} in {wanted}")
    return tuple(dict.fromkeys(chosen))


def reference(cut: Cut, task: Task) -> str:
    """The text that ``task`` asks for, as written in the manifest.

    Raises:
        ManifestError: the cut has no translation into the task's target language.
    """
    supervision = cut.supervisions[0]
    if task.kind == "asr":
        return supervision.text
    translations = (supervision.custom or {}).get("translated_text", {})
    if task.tgt not in translations:
        raise ManifestError(
            f"cut {cut.id}: no translation into {task.tgt!r}, only: {', '.join(translations) or 'none'}"
        )
    return translations[task.tgt]


def has_task(cut: Cut, task: Task) -> bool:
    """Whether the cut is in the task's spoken language and has the text that it asks for."""
    supervision = cut.supervisions[0]
    if supervision.language != task.src:
        return False
    return task.kind == "asr" or bool((supervision.custom or {}).get("translated_text", {}).get(task.tgt))


def expand(cuts: Iterable[Cut], tasks: Sequence[Task]) -> Iterator[Cut]:
    """Yield an example for each (cut, task) that fits."""
    for cut in cuts:
        for task in tasks:
            if has_task(cut, task):
                yield as_example(cut, task)


def as_example(cut: Cut, task: Task) -> Cut:
    """The cut as an example of ``task``, with ``custom["task"]`` set and the task in its id."""
    example = cut.with_id(f"{cut.id}:{task}")
    example.custom = {**(cut.custom or {}), "task": str(task), "cut_id": cut.id}
    return example


def expanded(cuts: Iterable[Cut], task: Task) -> CutSet:
    """The examples of one task.

    Raises:
        ManifestError: there are none.
    """
    examples = CutSet.from_cuts(expand(cuts, [task]))
    if len(examples) == 0:
        raise ManifestError(f"no cut of the manifest fits task {task}")
    return examples
