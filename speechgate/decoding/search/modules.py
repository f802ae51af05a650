"""The decoder's modules at work: each with what it remembers of the hypotheses, for the utterances that opened it.

Shapes: B utterances, Q positions computed at once (the prompt's, then one for each of K hypotheses), T frames,
D width, H heads, E width of a head, S cache slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speechgate.decoding.search.blocks import Block, FeedForward, SelfAttention, SourceAttention
from speechgate.decoding.search.compiled import CompiledModule
from speechgate.decoding.search.exchange import Exchange, first, last

WORTH_LEAVING_OUT = 0.75  # attention to less than this share of the slots is computed utterance by utterance


@dataclass
class Masks:
    """What may be attended to.

    Attributes:
        own: cache slots, as addends: 0 or -inf, (Q, S) or (B, 1, K, S); None where all are seen.
        frames: encoder frames, (B, 1, 1, T); None where all are seen.
        slots: where a static decoder's step writes, (K,); elsewhere it is after what was written before.
        hidden_B: how many of the first slots none of an utterance's hypotheses sees; told, on a CPU, to be left out.
        lengths_B: how many frames each utterance has; told, on a CPU, for the others to be left out.
    """

    own: Tensor | None
    frames: Tensor | None
    slots: Tensor | None = None
    hidden_B: Tensor | None = None
    lengths_B: Tensor | None = None

    def of(self, rows: Tensor) -> "Masks":
        """Those of some utterances."""
        return Masks(
            self.own if self.own is None or self.own.dim() == 2 else self.own[rows],
            None if self.frames is None else self.frames[rows],
            self.slots,
            None if self.hidden_B is None else self.hidden_B[rows],
            None if self.lengths_B is None else self.lengths_B[rows],
        )


class RunningSelfAttention:
    """Self-attention and its cache, (B, 2, H, S, E): keys, then values, of which ``begin`` to ``filled`` are in use."""

    def __init__(self, weights: SelfAttention, batch: int, slots: int) -> None:
        width = weights.out.weight.shape[1]  # of the heads that there are
        self._weights = weights
        self._compiled = CompiledModule.of(weights.norm, weights.query_key_value, weights.out, heads=weights.heads)
        # Not left empty: what a mask hides is still multiplied, by zero.
        self._cache = weights.out.weight.new_zeros(batch, 2, weights.heads, slots, width // weights.heads)
        self._begin = self._filled = 0

    def __call__(self, x_BQD: Tensor, masks: Masks) -> Tensor:
        weights = self._weights
        if self._compiled is not None and masks.slots is None:
            self._make_room(x_BQD.shape[1])
            self._filled += x_BQD.shape[1]
            return self._compiled.attend(x_BQD, self._in_use(), masks.own, begins_B=masks.hidden_B)
        qkv = weights.query_key_value(weights.norm(x_BQD)).unflatten(2, (3, weights.heads, -1)).permute(0, 2, 3, 1, 4)
        if masks.slots is not None:
            self._cache.index_copy_(3, masks.slots, qkv[:, 1:])
            keys, values = self._cache.unbind(1)
            return weights.out(_attend(qkv[:, 0], keys, values, masks.own, None))
        self._make_room(x_BQD.shape[1])
        self._filled += x_BQD.shape[1]
        self._cache[:, :, :, self._filled - x_BQD.shape[1] : self._filled] = qkv[:, 1:]
        keys, values = self._in_use().unbind(1)
        spans = None if masks.hidden_B is None else [(hidden, keys.shape[2]) for hidden in masks.hidden_B.tolist()]
        return weights.out(_attend(qkv[:, 0], keys, values, masks.own, spans))

    def exchange(self, exchange: Exchange, fresh: "RunningSelfAttention | None", frames: int, slots: int) -> None:
        """Go on with other utterances, which need the last ``slots`` slots: all end in the same one."""
        held = self._in_use()
        window = last(held, 3, slots)
        merged = exchange.into(window, None if fresh is None else last(fresh._in_use(), 3, slots))
        if merged is window and held.shape[3] >= slots:
            self._begin = self._filled - slots
        else:
            self._cache, self._begin, self._filled = merged, 0, slots

    def _in_use(self) -> Tensor:
        return self._cache[:, :, :, self._begin : self._filled]

    def _make_room(self, slots: int) -> None:
        batch, two, heads, room, width = self._cache.shape
        if self._filled + slots > room:
            held = self._in_use()
            used = held.shape[3]
            self._cache = self._cache.new_empty(batch, two, heads, max(used + slots, 2 * used), width)
            self._cache[:, :, :, :used] = held
            self._begin, self._filled = 0, used


class RunningSourceAttention:
    """Attention to the encoder output, whose keys and values are computed here, once an utterance."""

    def __init__(self, weights: SourceAttention, encoder_out_BTD: Tensor) -> None:
        self._weights = weights
        self._compiled = CompiledModule.of(weights.norm, weights.query, weights.out, heads=weights.heads)
        self._frames = encoder_out_BTD.shape[1]
        projected = weights.key_value(encoder_out_BTD).unflatten(2, (2, weights.heads, -1))
        self._keys_values = projected.permute(0, 2, 3, 1, 4).contiguous()

    def __call__(self, x_BQD: Tensor, masks: Masks) -> Tensor:
        weights = self._weights
        if self._compiled is not None:
            cache = self._keys_values[:, :, :, : self._frames]
            return self._compiled.attend(x_BQD, cache, masks.frames, ends_B=masks.lengths_B)
        queries_BHQE = weights.query(weights.norm(x_BQD)).unflatten(2, (weights.heads, -1)).transpose(1, 2)
        keys, values = self._keys_values[:, :, :, : self._frames].unbind(1)
        spans = None if masks.lengths_B is None else [(0, length) for length in masks.lengths_B.tolist()]
        return weights.out(_attend(queries_BHQE, keys, values, masks.frames, spans))

    def exchange(self, exchange: Exchange, fresh: "RunningSourceAttention | None", frames: int, slots: int) -> None:
        """Go on with other utterances, the longest of ``frames`` frames."""
        self._frames = frames
        held = self._keys_values
        if fresh is None:
            self._keys_values = exchange.rows(first(held, 3, frames), None)
            return
        # Behind an utterance's frames there are zeros, not another's: what a mask hides is still multiplied, by zero.
        room = max(frames, held.shape[3])
        self._keys_values = exchange.into(first(held, 3, room), first(fresh._keys_values, 3, room))


class RunningFeedForward:
    """A feed-forward module, which remembers nothing."""

    def __init__(self, weights: FeedForward) -> None:
        self._weights = weights
        self._compiled = CompiledModule.of(weights.norm, weights.up, weights.down, activation=weights.activation)

    def __call__(self, x_BQD: Tensor, masks: Masks) -> Tensor:
        weights = self._weights
        if self._compiled is not None:
            return self._compiled.feed_forward(x_BQD)
        return weights.down(weights.activation(weights.up(weights.norm(x_BQD))))

    def exchange(self, exchange: Exchange, fresh: "RunningFeedForward | None", frames: int, slots: int) -> None:
        pass


Running = RunningSelfAttention | RunningSourceAttention | RunningFeedForward


class OnRows:
    """A module that runs for the utterances that opened it, and adds nothing to the others."""

    def __init__(self, block: Block, encoder_out_BTD: Tensor, slots: int, open_B: Sequence[bool]) -> None:
        self.block = block
        self._device = encoder_out_BTD.device
        self._serve(open_B)
        self._running = _run(block, encoder_out_BTD if self._rows is None else encoder_out_BTD[self._rows], slots)

    def __call__(self, x_BQD: Tensor, masks: Masks) -> Tensor:
        if self._rows is None:
            return self._running(x_BQD, masks)
        added_BQD = torch.zeros_like(x_BQD)
        added_BQD[self._rows] = self._running(x_BQD[self._rows], masks.of(self._rows))
        return added_BQD

    def exchange(
        self, exchange: Exchange, fresh: "OnRows | None", batches: tuple[int, int], frames: int, slots: int
    ) -> None:
        """Go on with other utterances: of a batch of ``batches[0]``, and of one of ``batches[1]`` that enters.

        ``fresh`` is the same module at work on those that enter; None if none of them opened it.
        """
        open_N = (False,) * batches[1] if fresh is None else fresh.open_B
        own = exchange.among(self.open_B, open_N)
        entering: Any = None if fresh is None else fresh._running  # of the same kind, since it is of the same weights
        self._running.exchange(own, entering, frames, slots)
        self._serve(exchange.pick(self.open_B, open_N))

    def enter(self, exchange: Exchange, batches: tuple[int, int], frames: int, slots: int) -> None:
        """Go on as a module that nobody in the batch of ``batches[0]`` had opened, with those who enter it."""
        closed_B = (False,) * batches[0]
        self._running.exchange(exchange.among(closed_B, self.open_B), None, frames, slots)
        self._serve(exchange.pick(closed_B, self.open_B))

    def _serve(self, open_B: Sequence[bool]) -> None:
        self.open_B = tuple(open_B)
        rows = [row for row, is_open in enumerate(open_B) if is_open]
        self._rows = None if all(open_B) else torch.tensor(rows, dtype=torch.int64, device=self._device)


class ForSome:
    """A module that runs for all utterances and counts for some: shapes do not depend on which."""

    def __init__(self, block: Block, encoder_out_BTD: Tensor, slots: int, open_B: Tensor) -> None:
        self.block = block
        self._closed_B11 = ~open_B[:, None, None].to(encoder_out_BTD.device)
        self._running = _run(block, encoder_out_BTD, slots)

    def __call__(self, x_BQD: Tensor, masks: Masks) -> Tensor:
        return self._running(x_BQD, masks).masked_fill(self._closed_B11, 0.0)


def _run(block: Block, encoder_out_BTD: Tensor, slots: int) -> Running:
    match block:
        case SelfAttention():
            return RunningSelfAttention(block, len(encoder_out_BTD), slots)
        case SourceAttention():
            return RunningSourceAttention(block, encoder_out_BTD)
        case FeedForward():
            return RunningFeedForward(block)


def _attend(
    queries_BHQE: Tensor,
    keys_BHSE: Tensor,
    values_BHSE: Tensor,
    mask: Tensor | None,
    spans: Sequence[tuple[int, int]] | None,
) -> Tensor:
    """Attention of each utterance to its span of the slots.

    What a mask hides is computed like the rest; if it is much, a call for each utterance is faster on a CPU.
    """
    seen = 0 if spans is None else sum(end - begin for begin, end in spans)
    if spans is None or seen > WORTH_LEAVING_OUT * len(spans) * keys_BHSE.shape[2]:
        attended_BHQE = F.scaled_dot_product_attention(queries_BHQE, keys_BHSE, values_BHSE, attn_mask=mask)
        return attended_BHQE.transpose(1, 2).flatten(2)
    parts, at = [], 0
    for (begin, end), same in groupby(spans):
        rows = slice(at, at + len(list(same)))
        at = rows.stop
        own = None if mask is None else mask[rows, ..., begin:end]
        parts.append(
            F.scaled_dot_product_attention(
                queries_BHQE[rows], keys_BHSE[rows, :, begin:end], values_BHSE[rows, :, begin:end], attn_mask=own
            )
        )
    return torch.cat(parts).transpose(1, 2).flatten(2)
