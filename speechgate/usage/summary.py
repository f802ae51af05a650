"""The usage statistics of one decode directory as plain JSON values."""

from typing import Any

import numpy as np

from speechgate.scoring.decoded import Decoded
from speechgate.usage.masks import masks_by_context, read_masks
from speechgate.usage.statistics import context_usage, distances, factor_effects
from speechgate.usage.variance import explain_variance


def summarize_usage(decoded: Decoded) -> dict[str, Any]:
    """Sites, the usage of every context, the distances between contexts at each level, and what each factor does.

    Raises:
        ValueError: the model is dense and has no gates to speak of.
    """
    if decoded.is_dense:
        raise ValueError(f"{decoded.directory}: a dense model uses every module")
    masks = masks_by_context(decoded)
    variance = explain_variance(masks["task x language"])
    everything = context_usage(read_masks(decoded.utterances, decoded.gated_sites))
    return {
        "stack": decoded.stack,
        "checkpoint": decoded.checkpoint,
        "sparsity_target": decoded.sparsity_target,
        "sites": [str(decoded.sites[index]) for index in decoded.gated_sites],
        "utterances": everything.utterances,
        "distinct_masks": everything.distinct_masks,
        "contexts": {
            level: {
                context: {key: _plain(value) for key, value in vars(context_usage(masks_US)).items()}
                for context, masks_US in contexts.items()
            }
            for level, contexts in masks.items()
        },
        "distances": {
            level: {key: _plain(value) for key, value in vars(distances(contexts)).items()}
            for level, contexts in masks.items()
        },
        "factor_effects": factor_effects(masks["task x language"]),
        "variance": {
            "total": variance.total and {factor: round(share, 6) for factor, share in variance.total.items()},
            "sites": {factor: _plain(share_S) for factor, share_S in variance.shares.items()},
        },
    }


def _plain(value: Any) -> Any:
    """Arrays as nested lists, NaN (no pair to measure) as null: JSON knows neither."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.floating):
        return None if np.isnan(value) else round(float(value), 6)
    return list(value) if isinstance(value, tuple) else value
