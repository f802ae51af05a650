"""Leaving out cuts that training cannot use."""

from dataclasses import dataclass

from lhotse.cut import Cut
from lhotse.utils import Seconds


@dataclass(frozen=True)
class DurationBetween:
    """Whether a cut is between two lengths, both allowed; a class, since a data loader's workers pickle it."""

    min_duration: Seconds
    max_duration: Seconds

    def __call__(self, cut: Cut) -> bool:
        return self.min_duration <= cut.duration <= self.max_duration
