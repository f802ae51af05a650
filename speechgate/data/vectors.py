"""Named vectors that a manifest gives its cuts, such as a speaker embedding: ``cut.custom[NAME]``.

A list of numbers, or lhotse's ``Array``, which points into a file of many.

Shapes: B batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lhotse.array import Array
from lhotse.cut import Cut
from torch import Tensor

from speechgate.errors import ManifestError


def load_vectors(cuts: Sequence[Cut], sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The vectors ``sizes`` ({name: size}) of a batch, (B, size) each; NaN where a cut has none.

    Raises:
        ManifestError: a cut's vector is not finite numbers, or of another size.
    """
    return {name: torch.stack([_vector(cut, name, size) for cut in cuts]) for name, size in sizes.items()}


def _vector(cut: Cut, name: str, size: int) -> Tensor:
    value: Any = (cut.custom or {}).get(name)
    if value is None:
        return torch.full((size,), float("nan"))
    try:
        vector = torch.as_tensor(value.load() if isinstance(value, Array) else value, dtype=torch.float32)
    except (TypeError, ValueError, OSError) as error:
        raise ManifestError(
            f"cut {cut.id}: custom[{name!r}] is no vector ({error}): write the manifest again"
        ) from error
    if vector.shape != (size,) or not vector.isfinite().all():
        raise ManifestError(
            f"cut {cut.id}: custom[{name!r}] has shape {tuple(vector.shape)} or numbers that are not finite; the gates "
            f"were configured for vector:{name}:{size}"
        )
    return vector
