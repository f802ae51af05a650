"""How much speech a manifest holds: utterances, hours and speakers by language."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lhotse.cut import Cut
from rich.table import Table


@dataclass
class Amount:
    """The speech of one language in one split."""

    utterances: int = 0
    seconds: float = 0.0
    speakers: set[str] = field(default_factory=set)

    @property
    def hours(self) -> float:
        return self.seconds / 3600


def summarize(cuts: Iterable[Cut]) -> dict[str, Amount]:
    """Sum up cuts by the spoken language."""
    amounts: dict[str, Amount] = {}
    for cut in cuts:
        supervision = cut.supervisions[0]
        amount = amounts.setdefault(supervision.language or "und", Amount())
        amount.utterances += 1
        amount.seconds += cut.duration
        if supervision.speaker:
            amount.speakers.add(supervision.speaker)
    return dict(sorted(amounts.items()))


def manifest_table(splits: Mapping[str, Iterable[Cut]]) -> Table:
    """A table of every language and split."""
    table = Table("language", "split")
    for column in ("utterances", "hours", "speakers"):
        table.add_column(column, justify="right")
    for split, cuts in splits.items():
        for language, amount in summarize(cuts).items():
            table.add_row(
                language, split, str(amount.utterances), f"{amount.hours:.2f}", str(len(amount.speakers) or "unknown")
            )
    return table
