"""Recorded gates as arrays, grouped by the context whose use of modules is compared.

U utterances, S gated sites; True is an open module.
"""

from collections.abc import Sequence

import numpy as np

from speechgate.scoring.decoded import Decoded, Utterance, by_task


def read_masks(utterances: Sequence[Utterance], sites: Sequence[int]) -> np.ndarray:
    """The gates of utterances at some sites as booleans (U, S)."""
    gates_US = np.frombuffer("".join(utterance.gates for utterance in utterances).encode("ascii"), dtype=np.uint8)
    return gates_US.reshape(len(utterances), -1)[:, list(sites)] == ord("1")


def masks_by_context(decoded: Decoded) -> dict[str, dict[str, np.ndarray]]:
    """Masks at the gated sites: {"task": {"asr": mask_US, ...}, "language": {"deu": ...}, "task x language": {...}}.

    The contexts of each level share out all utterances.
    """
    levels: dict[str, dict[str, list[Utterance]]] = {"task": {}, "language": {}, "task x language": {}}
    for task, utterances in by_task(decoded.utterances).items():
        for level, context in zip(levels, (task.kind, task.src, str(task)), strict=True):
            levels[level].setdefault(context, []).extend(utterances)
    return {
        level: {context: read_masks(group, decoded.gated_sites) for context, group in contexts.items()}
        for level, contexts in levels.items()
    }
