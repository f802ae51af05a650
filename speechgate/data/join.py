"""Several recordings as one example: a corpus of short utterances teaches a decoder to write short texts.

Whisper's published training hears 30 s at a time; a decoder that is trained on prompts and single sentences, and has
modules closed, loses its way in what lasts longer (RESULTS.md, "Gates with a transfer set of 117 hours").  lhotse's
CutConcatenate joins what a batch happens to hold, of whatever task, after the sampler has counted its seconds; here the
examples of one task are joined before, so that batches keep to their seconds and the tasks to their shares.
"""

import random
from collections.abc import Iterable, Iterator, Sequence

from lhotse import CutSet
from lhotse.cut import Cut

from speechgate.config import TrainConfig
from speechgate.data.chain import Fragment, as_chain
from speechgate.data.tasks import reference
from speechgate.task import Task

NEIGHBOURS = 200  # examples that the next part is drawn from, so that every pass through the corpus has other joints


class Joined:
    """The examples of one task, a ``share`` of them followed by others up to a length drawn for each.

    The length is uniform between the first example's own and ``longest`` seconds; what does not fit begins the next.
    """

    def __init__(self, examples: Iterable[Cut], share: float, longest: float, seed: int) -> None:
        self.examples, self.share, self.longest, self.seed = examples, share, longest, seed

    def __iter__(self) -> Iterator[Cut]:
        rng = random.Random(f"join {self.seed}")
        parts: list[Cut] = []
        room = 0.0
        for example in self.examples:
            if parts and example.duration > room:
                yield join(parts)
                parts = []
            if not parts:
                room = rng.uniform(example.duration, self.longest) if rng.random() < self.share else example.duration
            parts.append(example)
            room -= example.duration
        if parts:
            yield join(parts)


def joined(examples: CutSet, config: TrainConfig) -> CutSet:
    """The examples of a task, or of an endless stream of them, as ``train.join`` wants them."""
    if config.join == 0.0:
        return examples
    mixed = examples.shuffle(random.Random(config.seed), buffer_size=NEIGHBOURS)
    longest = min(config.max_seconds, config.max_duration)
    return CutSet(Joined(mixed, config.join, longest, config.seed))


def join(parts: Sequence[Cut]) -> Cut:
    """One example of what the examples ``parts`` of a task say, with the first one's speaker and vectors."""
    first = parts[0]
    if len(parts) == 1:
        return first
    task = Task.parse(first.custom["task"])
    text = " ".join(each.supervisions[0].text for each in parts)
    translations = None if task.kind == "asr" else {task.tgt: " ".join(reference(each, task) for each in parts)}
    whole = [Fragment(each, 0.0, each.duration) for each in parts]
    name, seconds = "+".join(each.id for each in parts), sum(each.duration for each in parts)
    made = as_chain(first, whole, text, translations, id=name, duration=seconds)
    made.custom["cut_id"] = "+".join(each.custom["cut_id"] for each in parts)
    return made
