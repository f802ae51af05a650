"""The decoder at work on the hypotheses of a batch, one step at a time.

Shapes: B utterances, Q positions computed at once (the prompt's, then one for each of K hypotheses), T frames,
D width, S cache slots, R tokens that the output layer has rows for.

The keys and values of all hypotheses of an utterance lie side by side in one cache: first the prompt's, which they
share, then K slots a step.  When the beam is reordered no cache moves; a mask says which slots are a hypothesis' own.

Utterances that enter later have written fewer slots.  All write the same ones, so theirs are the last, and the mask
hides those before.

A static decoder has all its slots from the start, and attends to all of them: its steps have equal shapes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from speechgate.decoding.search.blocks import Block, FeedForward, SelfAttention, SourceAttention
from speechgate.decoding.search.exchange import Exchange, last
from speechgate.decoding.search.linear import at_least_float32
from speechgate.decoding.search.modules import ForSome, Masks, OnRows
from speechgate.decoding.search.weights import DecoderWeights

HIDDEN = float("-inf")
KINDS = (SelfAttention, SourceAttention, FeedForward)  # in the order in which a layer runs them
SLOTS_TOGETHER = 8  # masks whose rows are not aligned so are copied by the GPU's attention kernels, every time
FIRST_STEPS = 16  # the cache begins with room for so many steps and doubles when it is full


class RunningDecoder:
    """Decoder, encoder output and the hypotheses so far, which begin as one prompt an utterance.

    Args:
        weights: the open modules; only they cost time and memory.
        encoder_out_BTD: encoder output, padded.
        lengths: its frames.
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
        lengths: Sequence[int],
        prompts_BP: Tensor,
        beam_size: int,
        max_steps: int,
        static: bool = False,
        open_BM: Tensor | None = None,
    ) -> None:
        batch, prompt_length = prompts_BP.shape
        slots = prompt_length + beam_size * (max_steps if static else FIRST_STEPS)
        slots += -slots % SLOTS_TOGETHER
        self._static = static
        self._in_spans = prompts_BP.device.type == "cpu" and not static  # see ``modules._attend``
        self._weights = weights
        self._prompts_BP = prompts_BP
        self._lengths = list(lengths)
        self._written = [0] * batch  # slots of each utterance
        self._positions_PD = weights.positions(prompt_length + max_steps)
        self._position_B1 = torch.zeros(batch, 1, dtype=torch.int64, device=prompts_BP.device)
        encoder_out_BTD = encoder_out_BTD.to(self._positions_PD.dtype)
        self._modules: list[OnRows | ForSome] = []
        for index, block in enumerate(weights.blocks):
            if static and open_BM is not None:
                self._modules.append(ForSome(block, encoder_out_BTD, slots, open_BM[:, index]))
            else:
                open_B = [True] * batch if open_BM is None else open_BM[:, index].tolist()
                self._modules.append(OnRows(block, encoder_out_BTD, slots, open_B))
        self._masks = Masks(own=None, frames=None)
        self._mask_frames(encoder_out_BTD.shape[1])
        self._siblings_KK = self._positions_PD.new_full((beam_size, beam_size), HIDDEN).fill_diagonal_(0.0)
        self._slots = slots

    def start(self) -> Tensor:
        """Read the prompts; returns the logits of the first token, (B, 1, R)."""
        batch, length = self._prompts_BP.shape
        self._masks.own = self._positions_PD.new_full((length, length), HIDDEN).triu(1)
        logits_B1R = self._output(self._advance(self._prompts_BP, self._positions_PD[:length])[:, -1:])
        self._position_B1 += length
        self._written = [length] * batch
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
        position_B1 = self._position_B1.clamp(max=len(self._positions_PD) - 1)  # finished utterances may stay longer
        logits_BKR = self._output(self._advance(tokens_BK, self._positions_PD[position_B1]))
        self._position_B1 += 1
        self._written = [slots + len(self._siblings_KK) for slots in self._written]
        if self._masks.slots is not None:
            self._masks.slots += len(self._siblings_KK)
        return logits_BKR

    def exchange(self, exchange: Exchange, fresh: "RunningDecoder | None" = None) -> None:
        """Go on with other utterances, some of them of ``fresh``, which has read its prompts and no more."""
        batches = len(self._written), 0 if fresh is None else len(fresh._written)
        self._lengths = exchange.pick(self._lengths, [] if fresh is None else fresh._lengths)
        written = exchange.pick(self._written, [] if fresh is None else fresh._written)
        frames, slots = max(self._lengths), max(written)
        own = self._own_mask(slots)
        own = exchange.rows(own, None if fresh is None else fresh._own_mask(slots))
        everything = len(self._siblings_KK) == 1 and min(written) == slots
        self._masks = Masks(None if everything else own, None)
        if self._in_spans and min(written) < slots:
            self._masks.hidden_B = torch.tensor([slots - each for each in written])
        self._written = written
        position_N1 = None if fresh is None else fresh._position_B1
        self._position_B1 = exchange.rows(self._position_B1, position_N1)
        if fresh is not None and len(fresh._positions_PD) > len(self._positions_PD):
            self._positions_PD = fresh._positions_PD
        self._exchange_modules(exchange, fresh, batches, frames, slots)
        self._mask_frames(frames)

    def _exchange_modules(
        self,
        exchange: Exchange,
        fresh: "RunningDecoder | None",
        batches: tuple[int, int],
        frames: int,
        slots: int,
    ) -> None:
        held = {id(module.block): module for module in self._modules if isinstance(module, OnRows)}
        entering: dict[int, OnRows] = {}
        if fresh is not None:
            entering = {id(module.block): module for module in fresh._modules if isinstance(module, OnRows)}
            layers = zip(self._weights.layers, fresh._weights.layers, strict=True)
            self._weights = replace(self._weights, layers=tuple(_both(*pair) for pair in layers))
        self._modules = []
        for block in self._weights.blocks:
            mine, theirs = held.get(id(block)), entering.get(id(block))
            if mine is not None:
                mine.exchange(exchange, theirs, batches, frames, slots)
            elif theirs is not None:
                theirs.enter(exchange, batches, frames, slots)
            module = mine or theirs
            if module is not None and any(module.open_B):
                self._modules.append(module)
        running = {id(module.block) for module in self._modules}
        layers_left = (tuple(block for block in layer if id(block) in running) for layer in self._weights.layers)
        self._weights = replace(self._weights, layers=tuple(layers_left))

    def _own_mask(self, slots: int) -> Tensor:
        """What the hypotheses may see of the last ``slots`` slots, (B, 1, K, S)."""
        own, beam_size = self._masks.own, len(self._siblings_KK)
        if own is None:
            own = self._positions_PD.new_zeros(len(self._written), 1, 1, max(self._written))
        return last(own.expand(-1, -1, beam_size, -1), 3, slots, HIDDEN)

    def _mask_frames(self, frames: int) -> None:
        """Hide the padded frames; where there are none, nothing is masked: that is the faster."""
        if not self._static and min(self._lengths) == frames:
            return
        lengths_B = torch.tensor(self._lengths, device=self._prompts_BP.device)
        hidden_BT = torch.arange(frames, device=lengths_B.device) >= lengths_B[:, None]
        mask_BT = torch.zeros_like(hidden_BT, dtype=self._positions_PD.dtype).masked_fill_(hidden_BT, HIDDEN)
        self._masks.frames = mask_BT[:, None, None]
        self._masks.lengths_B = lengths_B if self._in_spans else None

    def _advance(self, tokens_BQ: Tensor, positions: Tensor) -> Tensor:
        x_BQD = F.embedding(tokens_BQ, self._weights.embedding_VD) * self._weights.embedding_scale + positions
        for module in self._modules:
            x_BQD = x_BQD + module(x_BQD, self._masks)
        return x_BQD

    def _output(self, x_BQD: Tensor) -> Tensor:
        return at_least_float32(self._weights.output(self._weights.norm(x_BQD)))


def _both(held: Sequence[Block], fresh: Sequence[Block]) -> tuple[Block, ...]:
    """The modules of a layer that either has open, in the order in which they run."""
    blocks = {id(block): block for block in [*held, *fresh]}
    return tuple(sorted(blocks.values(), key=lambda block: KINDS.index(type(block))))
