"""Joining the translation directions of one spoken language: the same segment comes once for each target language."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from speechgate.corpus.utterance import Utterance

HELD_OUT_ELSEWHERE = "held out in another direction"


def join_directions(utterances: Iterable[Utterance]) -> Iterator[Utterance]:
    """Yield each segment once, with the translations of all directions, segments of a speech next to each other.

    Segments are the same where split, speech, start and duration are.  A speech that is held out in one direction
    does not train in another: such segments get a ``problem``.  Needs the texts of the language in memory.
    """
    segments: dict[tuple, Utterance] = {}
    splits: dict[str | None, set[str]] = defaultdict(set)
    for utterance in utterances:
        key = (utterance.speech, utterance.start, utterance.duration, utterance.split)
        first = segments.setdefault(key, utterance)
        if first is not utterance:
            segments[key] = replace(first, translations={**utterance.translations, **first.translations})
        splits[utterance.speech].add(utterance.split)
    for key in sorted(segments):
        utterance = segments[key]
        held_out = {split for split in splits[utterance.speech] if not split.startswith("train")}
        if held_out and utterance.split.startswith("train"):
            utterance = replace(utterance, problem=HELD_OUT_ELSEWHERE)
        yield utterance
