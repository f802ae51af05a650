"""Percentile bootstrap over utterances (Koehn, EMNLP 2004; Bisani and Ney, ICASSP 2004).

U utterances, K statistics, R resamples.  A resample of U utterances with replacement is a multinomial count per
utterance, so that all resampled sums are one matrix product.  The seed is fixed: the same outputs, the same interval.
"""

from dataclasses import dataclass

import numpy as np

from speechgate.scoring.metric import MetricStatistics

RESAMPLES = 1000
SEED = 202611


@dataclass(frozen=True)
class Comparison:
    """``system`` minus ``baseline`` in points of the metric, with its 95% interval and two-sided p-value."""

    delta: float
    ci95: tuple[float, float]
    p_value: float


def interval(statistics: MetricStatistics) -> tuple[float, float]:
    """The 95% interval of the corpus score, in percent."""
    low, high = np.percentile(_resampled_scores(statistics), (2.5, 97.5))
    return float(low), float(high)


def compare(baseline: MetricStatistics, system: MetricStatistics) -> Comparison:
    """Paired bootstrap of two systems on the same utterances in the same order.

    The p-value is the share of resamples whose difference strays from the mean difference by at least what was observed
    (Riezler and Maxwell, 2005), with the observed sample counted as one of them.

    Raises:
        ValueError: the two differ in metric or in the number of utterances.
    """
    if (baseline.metric, baseline.utterances) != (system.metric, system.utterances):
        system_is, baseline_is = (f"{side.metric} of {side.utterances} utterances" for side in (system, baseline))
        raise ValueError(f"cannot pair {system_is} with {baseline_is}")
    observed = system.value - baseline.value
    deltas = _resampled_scores(system) - _resampled_scores(baseline)
    low, high = np.percentile(deltas, (2.5, 97.5))
    # Sums in another order differ in the last digit; identical systems must still give p = 1.
    as_extreme = np.abs(deltas - deltas.mean()) >= abs(observed) - 1e-9
    return Comparison(observed, (float(low), float(high)), float((as_extreme.sum() + 1) / (RESAMPLES + 1)))


def _resampled_scores(statistics: MetricStatistics) -> np.ndarray:
    utterances = statistics.utterances
    draws_RU = np.random.default_rng(SEED).multinomial(utterances, np.full(utterances, 1 / utterances), size=RESAMPLES)
    return statistics.score_sums(draws_RU @ statistics.statistics_UK)
