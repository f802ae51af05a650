"""Which batches come after a resumption: the history of the data order, kept beside the checkpoints.

A run's batches are one stream, set by a seed and by the seconds of a batch.  Going on means passing over what was used;
another stream begins where the seconds of a batch change, after running out of memory, or at every resumption if the
run asks for it (``exact_resume: false``).  The history tells each of them apart, so that falling back to an earlier
checkpoint also falls back to the stream that it was made in.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from speechgate.config import TrainConfig
from speechgate.files import write_json

HISTORY = "data_order.json"


@dataclass(frozen=True)
class Stream:
    """Batches from ``from_update`` on; ``asked`` is the configured ``max_duration``, halved ``halvings`` times."""

    from_update: int
    seed: int
    asked: float
    halvings: int = 0

    @property
    def max_duration(self) -> float:
        """Seconds of audio a batch."""
        return self.asked / 2**self.halvings

    def to_pass_over(self, update: int, accumulate: int) -> int:
        """Batches of one process that were used before ``update``."""
        return (update - self.from_update) * accumulate


def stream_at(work: Path, update: int, config: TrainConfig) -> Stream:
    """The stream to go on with at ``update``, as the history in the folder ``work`` and the configuration say."""
    past = [stream for stream in _read(work) if stream.from_update <= update]
    if not past:
        return Stream(update, config.seed, config.max_duration)
    last = past[-1]
    if last.asked != config.max_duration:
        return Stream(update, _fresh_seed(config, update, 0), config.max_duration)
    if not config.exact_resume and update > last.from_update:
        return replace(last, from_update=update, seed=_fresh_seed(config, update, last.halvings))
    return last


def halved(stream: Stream, update: int, config: TrainConfig) -> Stream:
    """The stream that follows at ``update`` with half the seconds a batch."""
    halvings = stream.halvings + 1
    return Stream(update, _fresh_seed(config, update, halvings), stream.asked, halvings)


def record(work: Path, stream: Stream) -> None:
    """Add ``stream`` to the history, and drop what came at or after its update, for that was undone."""
    past = [each for each in _read(work) if each.from_update < stream.from_update]
    write_json(work / HISTORY, [asdict(each) for each in [*past, stream]])


def _read(work: Path) -> list[Stream]:
    path = work / HISTORY
    return [Stream(**values) for values in json.loads(path.read_text())] if path.is_file() else []


def _fresh_seed(config: TrainConfig, update: int, halvings: int) -> int:
    return config.seed + 1_000_003 * update + 7919 * halvings + 1
