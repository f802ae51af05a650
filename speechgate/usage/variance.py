"""Which factor of the context explains how a gate varies: task, language, both together, or the recording.

U utterances, S gated sites, C contexts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speechgate.scoring.decoded import Decoded
from speechgate.task import Task
from speechgate.usage.masks import read_masks


@dataclass(frozen=True)
class Variance:
    """Shares (S,) of each gate's variance by factor, which sum to 1 (NaN for a gate that never varies); ``total`` is
    the same over all gates, None where none varies."""

    shares: dict[str, np.ndarray]
    total: dict[str, float] | None


def explain_variance(masks: Mapping[str, np.ndarray]) -> Variance:
    """Split the variance of each gate by the factors of its context.

    Every context (a task in a language) counts alike, however many utterances it has.  A gate that is open in a share
    p of a context's utterances varies by p (1 - p) within it: the part of the audio, which is all that differs there
    (and the dither, under the budget rule).  The rest is between contexts, and is explained by two factors as
    regressors.  These overlap where not all combinations exist, so each gets the mean of what it adds when it comes
    first and when it comes last (Lindeman, Merenda and Gold, 1980).  What both together leave is their interaction.

    Args:
        masks: masks (U, S) by task and language ("asr:deu", "st:deu-eng").
    """
    tasks = [Task.parse(context) for context in masks]
    usage_CS = np.stack([masks_US.mean(axis=0) for masks_US in masks.values()])
    within_S = (usage_CS * (1 - usage_CS)).mean(axis=0)
    between_S = usage_CS.var(axis=0)
    kinds, languages = [task.kind for task in tasks], [task.src for task in tasks]
    kind_S, language_S = _explained(usage_CS, kinds), _explained(usage_CS, languages)
    both_S = _explained(usage_CS, kinds, languages)
    parts = {
        "task": (kind_S + both_S - language_S) / 2,
        "language": (language_S + both_S - kind_S) / 2,
        "interaction": between_S - both_S,
        "audio": within_S,
    }
    total_S = within_S + between_S
    varies_S = total_S > 1e-12
    shares = {
        factor: np.divide(part_S, total_S, out=np.full_like(total_S, np.nan), where=varies_S)
        for factor, part_S in parts.items()
    }
    if not varies_S.any():
        return Variance(shares, None)
    return Variance(shares, {factor: float(part_S.sum() / total_S.sum()) for factor, part_S in parts.items()})


def _explained(usage_CS: np.ndarray, *factors: Sequence[str]) -> np.ndarray:
    """(S,) variance between contexts that a sum of effects of these factors explains (least squares)."""
    columns = [np.ones(len(usage_CS))]
    for factor in factors:
        columns += [np.array([float(value == level) for value in factor]) for level in sorted(set(factor))]
    design_CF = np.stack(columns, axis=1)
    effects_FS = np.linalg.lstsq(design_CF, usage_CS, rcond=None)[0]
    return (design_CF @ effects_FS).var(axis=0)


@dataclass(frozen=True)
class Stability:
    """How alike two trainings (of two seeds) use their modules, over the utterances that both decoded.

    ``same`` is the share of equal decisions, ``chance`` what it would be if each run kept how often it opens every
    module and drew the rest at random, ``usage_correlation`` the correlation of the use of modules over contexts and
    sites (None where a run's use is constant).
    """

    utterances: int
    same: float
    chance: float
    usage_correlation: float | None


def stability(first: Decoded, second: Decoded) -> Stability:
    """Compare two decodings of the same utterances with gates on the same sites.

    Raises:
        ValueError: other sites, or no utterance in common.
    """
    if [first.sites[i] for i in first.gated_sites] != [second.sites[i] for i in second.gated_sites]:
        raise ValueError(f"{first.directory} and {second.directory} have gates on different sites")
    by_key = {(utterance.task, utterance.id): utterance for utterance in second.utterances}
    common = [utterance for utterance in first.utterances if (utterance.task, utterance.id) in by_key]
    if not common:
        raise ValueError(f"{first.directory} and {second.directory} have no utterance in common")
    one_US = read_masks(common, first.gated_sites)
    two_US = read_masks([by_key[utterance.task, utterance.id] for utterance in common], second.gated_sites)
    one_S, two_S = one_US.mean(axis=0), two_US.mean(axis=0)
    contexts = [str(utterance.task) for utterance in common]
    usages = [
        np.concatenate([masks_US[[c == context for c in contexts]].mean(axis=0) for context in sorted(set(contexts))])
        for masks_US in (one_US, two_US)
    ]
    constant = any(float(usage.std()) == 0 for usage in usages)
    return Stability(
        utterances=len(common),
        same=float((one_US == two_US).mean()),
        chance=float((one_S * two_S + (1 - one_S) * (1 - two_S)).mean()),
        usage_correlation=None if constant else float(np.corrcoef(np.stack(usages))[0, 1]),
    )
