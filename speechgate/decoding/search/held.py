"""The hypotheses that a search holds.

Shapes: B utterances, J hypotheses held of each.
"""

from dataclasses import dataclass

from torch import Tensor

from speechgate.decoding.search.exchange import Exchange


@dataclass
class Beam:
    """The hypotheses held.

    ``last_BJ`` is the output layer's row of the last token.  ``decoder_BJ`` is -inf where a slot holds none, which
    keeps it from being chosen.
    """

    last_BJ: Tensor
    decoder_BJ: Tensor
    parents_BJ: Tensor
    ctc_BJ: Tensor
    total_BJ: Tensor

    def become(self, other: "Beam") -> None:
        vars(self).update(vars(other))

    def exchange(self, exchange: Exchange, fresh: "Beam | None") -> "Beam":
        entering = [None] * len(vars(self)) if fresh is None else vars(fresh).values()
        return Beam(*(exchange.rows(*pair) for pair in zip(vars(self).values(), entering, strict=True)))

    def at(self, slots_BJ: Tensor) -> "Beam":
        return Beam(*(value.gather(1, slots_BJ) for value in vars(self).values()))

    def first(self, count: int) -> "Beam":
        return Beam(*(value[:, :count] for value in vars(self).values()))
