"""The decoder at work on the hypotheses of a batch: caches of keys and values, one step at a time.

Shapes: B utterances, Q positions computed at once (the prompt's, then one for each of K hypotheses), T frames,
D width, H heads, E width of a head, S cache slots, R tokens that the output layer has rows for.

The keys and values of all hypotheses of an utterance lie side by side in one cache: first the prompt's, which they
share, then K slots a step.  When the beam is reordered no cache moves; a mask says which slots are a hypothesis' own.

A static decoder has all its slots from the start, and attends to all of them: its steps have equal shapes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from speechgate.decoding.search.compiled import CompiledModule
from speechgate.decoding.search.linear import at_least_float32
from speechgate.decoding.search.weights import Block, DecoderWeights, FeedForward, SelfAttention, SourceAttention

HIDDEN = float("-inf")
SLOTS_TOGETHER = 8  # masks whose rows are not aligned so are copied by the GPU's attention kernels, every time
FIRST_STEPS = 16  # the cache begins with room for so many steps and doubles when it is full


@dataclass
class _Masks:
    """What may be attended to, as addends: 0 or HIDDEN; None where everything may.

    ``own``: cache slots, (Q, S) or (B, 1, K, S).  ``frames``: encoder frames, (B, 1, 1, T).
    ``slots``: where a static decoder's step writes, (K,); elsewhere it is after what was written before.
    """

    own: Tensor | None
    frames: Tensor | None
    slots: Tensor | None = None

    def of(self, rows: Tensor) -> "_Masks":
        """Those of some utterances."""
        own = self.own if self.own is None or self.own.dim() == 2 else self.own[rows]
        return _Masks(own, None if self.frames is None else self.frames[rows], self.slots)


class RunningDecoder:
    """Decoder, encoder output and the hypotheses so far, which begin as one prompt an utterance.

    Args:
        weights: the open modules; only they cost time and memory.
        encoder_out_BTD: encoder output, padded.
        lengths_B: its frames.
        prompts_BP: token ids of the prompt, <sos> first.
        beam_size: K, the hypotheses of an utterance after the prompt.
        max_steps: the most tokens that will follow the prompt.
        static: let shapes not change from step to step.
        open_BM: booleans, which of the M modules of ``weights`` run for which utterance; None: all for all.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        encoder_out_BTD: Tensor,
        lengths_B: Tensor,
        prompts_BP: Tensor,
        beam_size: int,
        max_steps: int,
        static: bool = False,
        open_BM: Tensor | None = None,
    ) -> None:
        prompt_length = prompts_BP.shape[1]
        slots = prompt_length + beam_size * (max_steps if static else FIRST_STEPS)
        slots += -slots % SLOTS_TOGETHER
        self._static = static
        self._weights = weights
        self._prompts_BP = prompts_BP
        self._positions_PD = weights.positions(prompt_length + max_steps)
        self._position = torch.zeros(1, dtype=torch.int64, device=prompts_BP.device)
        encoder_out_BTD = encoder_out_BTD.to(self._positions_PD.dtype)
        self._running = [
            _run(block, encoder_out_BTD, slots)
            if open_BM is None
            else _run_for(open_BM[:, index], block, encoder_out_BTD, slots, static)
            for index, block in enumerate(weights.blocks)
        ]
        self._masks = _Masks(own=None, frames=_frame_mask(lengths_B, encoder_out_BTD, static))
        self._siblings_KK = self._positions_PD.new_full((beam_size, beam_size), HIDDEN).fill_diagonal_(0.0)
        self._slots = slots

    def start(self) -> Tensor:
        """Read the prompts; returns the logits of the first token, (B, 1, R)."""
        batch, length = self._prompts_BP.shape
        self._masks.own = self._positions_PD.new_full((length, length), HIDDEN).triu(1)
        logits_B1R = self._output(self._advance(self._prompts_BP, self._positions_PD[:length])[:, -1:])
        self._position += length
        self._masks.own = None
        if self._static:
            beam_size = len(self._siblings_KK)
            self._masks.own = self._positions_PD.new_full((batch, 1, beam_size, self._slots), HIDDEN)
            self._masks.own[..., :length] = 0.0
            self._masks.slots = length + torch.arange(beam_size, device=self._prompts_BP.device)
        elif len(self._siblings_KK) > 1:
            self._masks.own = self._positions_PD.new_zeros(batch, 1, 1, length)
        return logits_B1R

    def step(self, parents_BK: Tensor, tokens_BK: Tensor) -> Tensor:
        """Go on with the hypotheses at ``parents_BK``, ``tokens_BK`` appended; returns the next logits, (B, K, R)."""
        own = self._masks.own
        if own is not None:
            inherited_B1KS = own.gather(2, parents_BK[:, None, :, None].expand(-1, 1, -1, own.shape[3]))
            siblings_B1KK = self._siblings_KK.expand(len(parents_BK), 1, -1, -1)
            if self._masks.slots is None:
                self._masks.own = torch.cat([inherited_B1KS, siblings_B1KK], dim=3)
            else:
                own.copy_(inherited_B1KS.index_copy_(3, self._masks.slots, siblings_B1KK))
        logits_BKR = self._output(self._advance(tokens_BK, self._positions_PD[self._position]))
        self._position += 1
        if self._masks.slots is not None:
            self._masks.slots += len(self._siblings_KK)
        return logits_BKR

    def keep(self, rows: Tensor, frames: int) -> None:
        """Go on with these utterances, whose longest has ``frames`` frames."""
        for running in self._running:
            running.keep(rows, frames)
        if self._masks.own is not None:
            self._masks.own = self._masks.own[rows]
        if self._masks.frames is not None:
            self._masks.frames = self._masks.frames[rows, ..., :frames]

    def _advance(self, tokens_BQ: Tensor, positions: Tensor) -> Tensor:
        x_BQD = F.embedding(tokens_BQ, self._weights.embedding_VD) * self._weights.embedding_scale + positions
        for running in self._running:
            x_BQD = x_BQD + running(x_BQD, self._masks)
        return x_BQD

    def _output(self, x_BQD: Tensor) -> Tensor:
        return at_least_float32(self._weights.output(self._weights.norm(x_BQD)))


class _RunningSelfAttention:
    """Self-attention and its cache, (B, 2, H, S, E): keys, then values."""

    def __init__(self, weights: SelfAttention, batch: int, slots: int) -> None:
        width = weights.out.weight.shape[1]  # of the heads that there are
        self._weights = weights
        self._compiled = CompiledModule.of(weights.norm, weights.query_key_value, weights.out, heads=weights.heads)
        # Not left empty: what a mask hides is still multiplied, by zero.
        self._cache = weights.out.weight.new_zeros(batch, 2, weights.heads, slots, width // weights.heads)
        self._filled = 0

    def __call__(self, x_BQD: Tensor, masks: _Masks) -> Tensor:
        weights = self._weights
        if self._compiled is not None and masks.slots is None:
            self._make_room(self._filled + x_BQD.shape[1])
            self._filled += x_BQD.shape[1]
            return self._compiled.attend(x_BQD, self._cache[:, :, :, : self._filled], masks.own)
        qkv = weights.query_key_value(weights.norm(x_BQD)).unflatten(2, (3, weights.heads, -1)).permute(0, 2, 3, 1, 4)
        if masks.slots is not None:
            self._cache.index_copy_(3, masks.slots, qkv[:, 1:])
            keys, values = self._cache.unbind(1)
            return weights.out(_attend(qkv[:, 0], keys, values, masks.own))
        begin, end = self._filled, self._filled + x_BQD.shape[1]
        self._make_room(end)
        self._cache[:, :, :, begin:end] = qkv[:, 1:]
        self._filled = end
        keys, values = self._cache[:, :, :, :end].unbind(1)
        return weights.out(_attend(qkv[:, 0], keys, values, masks.own))

    def keep(self, rows: Tensor, frames: int) -> None:
        self._cache = self._cache[rows]

    def _make_room(self, slots: int) -> None:
        batch, two, heads, room, width = self._cache.shape
        if slots > room:
            grown = self._cache.new_empty(batch, two, heads, max(slots, 2 * room), width)
            grown[:, :, :, : self._filled] = self._cache[:, :, :, : self._filled]
            self._cache = grown


class _RunningSourceAttention:
    """Attention to the encoder output, whose keys and values are computed here, once an utterance."""

    def __init__(self, weights: SourceAttention, encoder_out_BTD: Tensor) -> None:
        self._weights = weights
        self._compiled = CompiledModule.of(weights.norm, weights.query, weights.out, heads=weights.heads)
        projected = weights.key_value(encoder_out_BTD).unflatten(2, (2, weights.heads, -1))
        self._keys_values = projected.permute(0, 2, 3, 1, 4).contiguous()

    def __call__(self, x_BQD: Tensor, masks: _Masks) -> Tensor:
        weights = self._weights
        if self._compiled is not None:
            return self._compiled.attend(x_BQD, self._keys_values, masks.frames)
        queries_BHQE = weights.query(weights.norm(x_BQD)).unflatten(2, (weights.heads, -1)).transpose(1, 2)
        keys, values = self._keys_values.unbind(1)
        return weights.out(_attend(queries_BHQE, keys, values, masks.frames))

    def keep(self, rows: Tensor, frames: int) -> None:
        self._keys_values = self._keys_values[rows, :, :, :frames]


class _RunningFeedForward:
    """A feed-forward module, which remembers nothing."""

    def __init__(self, weights: FeedForward) -> None:
        self._weights = weights
        self._compiled = CompiledModule.of(weights.norm, weights.up, weights.down, activation=weights.activation)

    def __call__(self, x_BQD: Tensor, masks: _Masks) -> Tensor:
        weights = self._weights
        if self._compiled is not None:
            return self._compiled.feed_forward(x_BQD)
        return weights.down(weights.activation(weights.up(weights.norm(x_BQD))))

    def keep(self, rows: Tensor, frames: int) -> None:
        pass


class _OnRows:
    """A module that runs for some utterances, ``rows``, and adds nothing to the others."""

    def __init__(self, block: Block, encoder_out_BTD: Tensor, slots: int, rows: Tensor) -> None:
        self._rows = rows.to(encoder_out_BTD.device)
        self._running = _run(block, encoder_out_BTD[self._rows], slots)

    def __call__(self, x_BQD: Tensor, masks: _Masks) -> Tensor:
        added_BQD = torch.zeros_like(x_BQD)
        if len(self._rows):
            added_BQD[self._rows] = self._running(x_BQD[self._rows], masks.of(self._rows))
        return added_BQD

    def keep(self, rows: Tensor, frames: int) -> None:
        same = self._rows[:, None] == rows
        self._running.keep(same.any(1).nonzero()[:, 0], frames)
        self._rows = same.any(0).nonzero()[:, 0]


class _ForSome:
    """A module that runs for all utterances and counts for some: shapes do not depend on which."""

    def __init__(self, block: Block, encoder_out_BTD: Tensor, slots: int, open_B: Tensor) -> None:
        self._closed_B11 = ~open_B[:, None, None].to(encoder_out_BTD.device)
        self._running = _run(block, encoder_out_BTD, slots)

    def __call__(self, x_BQD: Tensor, masks: _Masks) -> Tensor:
        return self._running(x_BQD, masks).masked_fill(self._closed_B11, 0.0)

    def keep(self, rows: Tensor, frames: int) -> None:
        self._running.keep(rows, frames)
        self._closed_B11 = self._closed_B11[rows]


def _run(
    block: Block, encoder_out_BTD: Tensor, slots: int
) -> _RunningSelfAttention | _RunningSourceAttention | _RunningFeedForward:
    match block:
        case SelfAttention():
            return _RunningSelfAttention(block, len(encoder_out_BTD), slots)
        case SourceAttention():
            return _RunningSourceAttention(block, encoder_out_BTD)
        case FeedForward():
            return _RunningFeedForward(block)


def _run_for(
    open_B: Tensor, block: Block, encoder_out_BTD: Tensor, slots: int, static: bool
) -> _RunningSelfAttention | _RunningSourceAttention | _RunningFeedForward | _OnRows | _ForSome:
    """Run ``block`` for the utterances that opened it."""
    if static:
        return _ForSome(block, encoder_out_BTD, slots, open_B)
    if bool(open_B.all()):
        return _run(block, encoder_out_BTD, slots)
    return _OnRows(block, encoder_out_BTD, slots, open_B.nonzero()[:, 0])


def _attend(queries_BHQE: Tensor, keys_BHSE: Tensor, values_BHSE: Tensor, mask: Tensor | None) -> Tensor:
    attended_BHQE = F.scaled_dot_product_attention(queries_BHQE, keys_BHSE, values_BHSE, attn_mask=mask)
    return attended_BHQE.transpose(1, 2).flatten(2)


def _frame_mask(lengths_B: Tensor, encoder_out_BTD: Tensor, always: bool) -> Tensor | None:
    """Hide the padded frames; None where there are none, unless ``always``: unmasked attention is the faster."""
    frames = torch.arange(encoder_out_BTD.shape[1], device=lengths_B.device)
    hidden_BT = frames >= lengths_B[:, None]
    if not always and not hidden_BT.any():
        return None
    mask_BT = torch.zeros_like(hidden_BT, dtype=encoder_out_BTD.dtype).masked_fill_(hidden_BT, HIDDEN)
    return mask_BT[:, None, None]
