"""Data loaders: tasks mixed by temperature, batches filled by seconds of audio (lhotse)."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, cycle, islice
from typing import Any

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from lhotse.dataset.sampling.simple import SimpleCutSampler
from lhotse.utils import Seconds
from torch.utils.data import DataLoader

from speechgate.config import TrainConfig
from speechgate.data.augment import Augmentation
from speechgate.data.batch import ExampleDataset
from speechgate.data.join import joined
from speechgate.data.recombine import Recombiner
from speechgate.data.tasks import as_example, expand, expanded, has_task
from speechgate.errors import ManifestError
from speechgate.manifests.filters import DurationBetween
from speechgate.manifests.large import LargeCuts
from speechgate.task import Task
from speechgate.text.tokenizer import Tokens

HARDEST_AMONG = 5_000  # examples of a task: all of a small corpus, and the first ones of a manifest that is streamed
SHUFFLE_BUFFER = 1_000  # cuts a task; the shards of large manifests are in a random order already


def mixing_weights(seconds: Sequence[float], temperature: float) -> list[float]:
    """Sampling weights of the tasks: hours ** (1 / temperature), summing to 1; 1 is proportional, infinity uniform."""
    raw = [value ** (1 / temperature) for value in seconds]
    return [value / sum(raw) for value in raw]


def usable(cuts: Iterable[Cut], config: TrainConfig) -> list[Cut]:
    """The cuts of trainable length.

    Raises:
        ManifestError: none is left.
    """
    kept = [cut for cut in cuts if config.min_seconds <= cut.duration <= config.max_seconds]
    if not kept:
        raise ManifestError(f"no cut lasts between {config.min_seconds} and {config.max_seconds} s")
    return kept


def task_sets(cuts: Iterable[Cut], tasks: Sequence[Task], config: TrainConfig) -> tuple[list[CutSet], list[Seconds]]:
    """The trainable examples of each task, lazily where the manifest is large, and their audio.

    Raises:
        ManifestError: a task has none.
    """
    if not isinstance(cuts, LargeCuts):
        kept = usable(cuts, config)
        sets = [expanded(kept, task) for task in tasks]
        return sets, [sum(cut.duration for cut in examples) for examples in sets]
    fits = DurationBetween(config.min_seconds, config.max_seconds)
    seconds = [cuts.seconds_of(task, config.min_seconds, config.max_seconds) for task in tasks]
    for task, amount in zip(tasks, seconds, strict=True):
        if not amount:
            raise ManifestError(f"no cut of task {task} lasts between {config.min_seconds} and {config.max_seconds} s")
    sets = [
        cuts.of_language(task.src).filter(fits).filter(partial(has_task, task=task)).map(partial(as_example, task=task))
        for task in tasks
    ]
    return sets, seconds


def train_sampler(
    sets: Sequence[CutSet], seconds: Sequence[Seconds], config: TrainConfig, rank: int = 0, world_size: int = 1
) -> DynamicBucketingSampler:
    """An endless sampler of the examples of a batch: tasks by temperature, similar lengths together."""
    weights = mixing_weights(seconds, config.task_temperature)
    # A set in memory is shuffled as a whole, whatever the buffer.
    orders = [each.shuffle(random.Random(config.seed), buffer_size=SHUFFLE_BUFFER).repeat() for each in sets]
    streams = [joined(each, config) for each in orders]
    mixed = CutSet.mux(*streams, weights=weights, seed=config.seed) if len(streams) > 1 else streams[0]
    return DynamicBucketingSampler(
        mixed,
        max_duration=config.max_duration,
        num_buckets=config.buckets,
        shuffle=True,
        seed=config.seed,
        buffer_size=4000,
        num_cuts_for_bins_estimate=2000,
        sync_buckets=False,
        rank=rank,
        world_size=world_size,
    )


def train_loader(
    cuts: Iterable[Cut],
    tasks: Sequence[Task],
    tokenizer: Tokens,
    config: TrainConfig,
    min_seconds: float,
    recombine: Recombiner | None = None,
    vectors: Mapping[str, int] | None = None,
    rank: int = 0,
    world_size: int = 1,
    skip: int = 0,
    augment: Augmentation | None = None,
) -> DataLoader:
    """An endless loader of batches of about ``config.max_duration`` seconds, examples of similar length together.

    The first updates take the most demanding batches, so that a lack of memory shows at once.  All processes draw the
    same stream of batches in turn: whatever their number, the mix of tasks is the same, and none runs out first.

    Args:
        vectors: of the cuts (see ``load_vectors``), to go along, here and in ``eval_loader``.
        skip: batches of this process to pass over, used before a resumption.
    """
    sets, seconds = task_sets(cuts, tasks, config)
    sampler = train_sampler(sets, seconds, config, rank, world_size)
    examples = chain.from_iterable(islice(joined(each, config), HARDEST_AMONG) for each in sets)
    first = list(islice(cycle(hardest(examples, config.max_duration)), max(2, world_size * config.accumulate)))
    order = DataOrder(first[rank::world_size], sampler, skip)
    dataset = ExampleDataset(tokenizer, min_seconds, config.cache, recombine, vectors, augment)
    return _loader(order, dataset, config.workers)


class DataOrder:
    """The batches ``first`` and then those of ``sampler``, from number ``skip`` on."""

    def __init__(self, first: Sequence[CutSet], sampler: Iterable[CutSet], skip: int) -> None:
        self.first, self.sampler, self.skip = first, sampler, skip

    def __iter__(self) -> Iterator[CutSet]:
        return islice(chain(self.first, self.sampler), self.skip, None)


def hardest(examples: Iterable[Cut], max_duration: float) -> list[CutSet]:
    """Two batches of ``max_duration`` seconds: of the longest examples, and of those with most text a second."""

    def filled(ordered: Sequence[Cut]) -> CutSet:
        count, longest = 0, 0.0
        for cut in ordered:
            longest = max(longest, cut.duration)
            if count and (count + 1) * longest > max_duration:
                break
            count += 1
        return CutSet.from_cuts(ordered[:count])

    examples = list(examples)
    by_length = sorted(examples, key=lambda cut: (-cut.duration, cut.id))
    by_text = sorted(examples, key=lambda cut: (-len(cut.supervisions[0].text or "") / cut.duration, cut.id))
    return [filled(by_length), filled(by_text)]


def eval_loader(
    cuts: Iterable[Cut],
    tasks: Sequence[Task],
    tokenizer: Tokens,
    max_duration: float,
    min_seconds: float,
    workers: int = 0,
    vectors: Mapping[str, int] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """One pass over all examples, sorted by length so that batches hold little padding.

    Several processes share them; where fewer are left than processes, some are seen twice, for all must keep step.
    """
    examples = sorted(expand(cuts, tasks), key=lambda cut: (-cut.duration, cut.id))
    if not examples:
        raise ManifestError(f"no cut of the manifest fits any of: {', '.join(map(str, tasks))}")
    sampler = SimpleCutSampler(
        CutSet.from_cuts(examples), max_duration=max_duration, shuffle=False, rank=rank, world_size=world_size
    )
    return _loader(sampler, ExampleDataset(tokenizer, min_seconds, vectors=vectors), workers)


def _loader(sampler: Any, dataset: ExampleDataset, workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        prefetch_factor=8 if workers > 0 else None,
        pin_memory=torch.cuda.is_available(),
    )
