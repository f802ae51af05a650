"""How the masks of contexts differ: use and consistency of each module, and distances between contexts.

U utterances, S gated sites, C contexts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from speechgate.task import Task


@dataclass(frozen=True)
class ContextUsage:
    """One context's use of its modules.

    ``usage_S`` is the share of utterances that run each module, ``agreement_S`` the share that decide like the
    majority (0.5 to 1), ``entropy_bits_S`` the entropy of the decision (0 to 1), ``distinct_masks`` how many different
    masks there are.
    """

    utterances: int
    usage_S: np.ndarray
    agreement_S: np.ndarray
    entropy_bits_S: np.ndarray
    distinct_masks: int


@dataclass(frozen=True)
class Distances:
    """Distances between contexts, in shares of modules (0 to 1).

    ``usage_CC`` is the mean absolute difference of the shares in use.  ``hamming_CC`` is the mean share of modules on
    which two utterances differ, one from each context; its diagonal is over pairs of different utterances of one
    context, NaN where there is a single one.
    """

    contexts: tuple[str, ...]
    usage_CC: np.ndarray
    hamming_CC: np.ndarray


def context_usage(masks_US: np.ndarray) -> ContextUsage:
    """Describe the masks of one context."""
    usage_S = masks_US.mean(axis=0)
    agreement_S = np.maximum(usage_S, 1 - usage_S)
    split_2S = np.stack([usage_S, 1 - usage_S])
    logs_2S = np.log2(split_2S, out=np.zeros_like(split_2S), where=split_2S > 0)
    entropy_bits_S = np.abs((split_2S * logs_2S).sum(axis=0))
    return ContextUsage(len(masks_US), usage_S, agreement_S, entropy_bits_S, len(np.unique(masks_US, axis=0)))


def distances(masks: Mapping[str, np.ndarray]) -> Distances:
    """Distances between the contexts of one level.

    The expected Hamming distance of two random utterances needs no pairs: at a site it is p(1-q) + q(1-p).  Within a
    context the utterance itself is not its own partner, hence the factor n/(n-1).
    """
    usage_CS = np.stack([masks_US.mean(axis=0) for masks_US in masks.values()])
    usage_CC = np.abs(usage_CS[:, None] - usage_CS[None]).mean(axis=-1)
    hamming_CC = (usage_CS @ (1 - usage_CS).T + (1 - usage_CS) @ usage_CS.T) / usage_CS.shape[1]
    for index, masks_US in enumerate(masks.values()):
        utterances = len(masks_US)
        hamming_CC[index, index] *= utterances / (utterances - 1) if utterances > 1 else np.nan
    return Distances(tuple(masks), usage_CC, hamming_CC)


def factor_effects(masks: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """How far the masks move when only one factor of the context changes: mean ``usage`` distance over such pairs.

    Args:
        masks: masks by task and language ("asr:deu", "st:deu-eng").

    Returns:
        {"task": same spoken language and another kind of task, "language": same kind and another spoken language};
        None where there is no such pair.
    """
    tasks = [Task.parse(context) for context in masks]
    usage_CC = distances(masks).usage_CC
    moved: dict[str, list[float]] = {"task": [], "language": []}
    for i, j in combinations(range(len(tasks)), 2):
        same_language, same_kind = tasks[i].src == tasks[j].src, tasks[i].kind == tasks[j].kind
        if same_language != same_kind:
            moved["task" if same_language else "language"].append(float(usage_CC[i, j]))
    return {factor: float(np.mean(values)) if values else None for factor, values in moved.items()}
