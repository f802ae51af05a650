"""Examples whose audio is a chain of fragments: pieces of recordings, one after the other.

Shapes: N samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lhotse.cut import Cut
from lhotse.utils import Seconds, fastcopy
from torch import Tensor

FADE_SECONDS = 0.005  # at both ends of a fragment, so that the joints do not click


@dataclass(frozen=True)
class Fragment:
    """A piece of one recording, or all of it."""

    cut: Cut
    start: Seconds
    end: Seconds


def as_chain(
    cut: Cut, fragments: Sequence[Fragment], text: str, translations: Mapping[str, str] | None = None, **changes: Any
) -> Cut:
    """``cut`` with the audio of ``fragments`` (see ``load_chain``), another text, and what else ``changes``.

    Args:
        translations: of the text, by language; those of ``cut`` stay where they are not given.
    """
    supervision = fastcopy(cut.supervisions[0], text=text)
    if translations is not None:
        supervision.custom = {**(supervision.custom or {}), "translated_text": dict(translations)}
    return fastcopy(cut, supervisions=[supervision], custom={**cut.custom, "fragments": list(fragments)}, **changes)


def load_chain(cut: Cut, load: Callable[[Cut], Tensor]) -> Tensor:
    """The samples (N,) of a cut: its own, or those of its fragments one after the other.

    Args:
        load: gives the samples of a recorded cut.
    """
    if "fragments" not in cut.custom:
        return load(cut)
    pieces = []
    for fragment in cut.custom["fragments"]:
        rate = fragment.cut.sampling_rate
        piece = load(fragment.cut)[int(fragment.start * rate) : int(fragment.end * rate)].clone()
        ramp = torch.linspace(0, 1, min(int(FADE_SECONDS * rate), len(piece) // 2))
        piece[: len(ramp)] *= ramp
        piece[len(piece) - len(ramp) :] *= ramp.flip(0)
        pieces.append(piece)
    return torch.cat(pieces)
