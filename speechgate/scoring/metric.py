"""A metric as per-utterance statistics that can be summed: corpus scores and bootstraps come from the same sums.

U utterances, K statistics, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

NORMALIZER = "speechgate.text.normalize.normalize_for_scoring"

# Languages written without spaces between words: a "word" error rate would measure the segmenter.
UNSEGMENTED = frozenset({"zho", "cmn", "yue", "jpn", "tha", "lao", "khm", "mya"})


@dataclass(frozen=True)
class MetricStatistics:
    """What one metric knows about the utterances of one task.

    ``statistics_UK`` holds integer counts; ``score_sums`` turns sums of them, (R, K), into R scores in percent.
    ``signature`` says how the numbers were made, so that two scores can be told comparable or not.
    """

    metric: str
    signature: str
    statistics_UK: np.ndarray
    score_sums: Callable[[np.ndarray], np.ndarray]

    @property
    def value(self) -> float:
        """The corpus score, in percent."""
        return float(self.score_sums(self.statistics_UK.sum(axis=0, keepdims=True))[0])

    @property
    def utterances(self) -> int:
        return len(self.statistics_UK)


def pool(parts: Sequence[MetricStatistics]) -> MetricStatistics:
    """One metric over the utterances of several tasks, in their order.

    Raises:
        ValueError: they are not of one metric, made in one way.
    """
    made = {(part.metric, part.signature) for part in parts}
    if len(made) != 1:
        raise ValueError(f"cannot pool {', '.join(sorted(' '.join(each) for each in made)) or 'nothing'}")
    return replace(parts[0], statistics_UK=np.concatenate([part.statistics_UK for part in parts]))


def lower_is_better(metric: str) -> bool:
    return metric in ("wer", "cer")


def primary_metric(metrics: list[str]) -> str:
    """The metric that a summary shows when a task has several: WER before CER, BLEU before chrF."""
    return next(name for name in ("wer", "bleu", "cer", "chrf") if name in metrics)
