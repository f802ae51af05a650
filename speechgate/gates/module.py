"""The gates of a model as one module: it decides, and puts what it decided in force for the layers.

Shapes: B batch, T frames or tokens, D width, C context, L layers, K kinds, S gate sites.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.context import Context
from speechgate.gates.decision import Sampling, decide_gates
from speechgate.gates.policies import fixed_scores, layer_order
from speechgate.gates.predictor import GlobalPredictor, LocalPredictor
from speechgate.gates.shares import Shares
from speechgate.gates.sites import GateSite, Stack, groups_of, list_sites, stacks_of
from speechgate.gates.state import GateState
from speechgate.gates.targets import check_targets, site_costs, threshold_of
from speechgate.gates.transfer import send
from speechgate.task import Task

PROMPT_TOKENS = 4  # <sos>, language, task, no timestamps: what a decoder layer decides from in the local scope


class Gates(nn.Module):
    """The gates of one model: predictors, the state that the layers read, and a record of the last decisions.

    Attributes:
        sites: all sites of the model; recorded masks follow this order.
        noise, temperature, ramp, settled: of the training schedule; see ``speechgate.training.schedule.anneal``.
            Once ``settled``, gates learn no more: training decides as inference does, and skips what a batch closes.
        gates_BS: what the last forward pass used for each gated stack; carries gradients while training.
        counted_BS: what the sparsity penalty counts as open; ``gates_BS`` but for the hard-concrete estimator.
        scores: of each decision of the last forward pass, (B, decisions) for the stack or for each of its layers.
        handles: of the hooks that call ``decide`` where a stack's input is known; ``attach`` puts them there.
    """

    def __init__(self, config: GatesConfig, stacks: Sequence[Stack], languages: Sequence[str]) -> None:
        super().__init__()
        check_targets(config.targets)
        self.config = config
        self.languages = tuple(languages)
        self.sites: tuple[GateSite, ...] = list_sites(stacks)
        self.layers = {stack.name: len(stack.layers) for stack in stacks}
        self._per_layer = {stack.name: sum(groups_of(self.sites, stack.name)) for stack in stacks}
        self.state = GateState()
        self.noise, self.temperature, self.ramp, self.settled = 1.0, config.temperature, 1.0, False
        self.context = Context()
        self.gates_BS: dict[str, Tensor] = {}
        self.counted_BS: dict[str, Tensor] = {}
        self.scores: dict[str, list[Tensor]] = {}
        self.forced: Tensor | None = None
        self._shares = Shares(config)
        self._thresholds_B1: dict[str, Tensor] = {}
        self._decided: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self.cost_S: Tensor
        # saved with the model where it says something that the model does not
        self.register_buffer("cost_S", site_costs(stacks, config.unit), persistent=config.unit != "modules")
        self.fixed_S: Tensor
        self.register_buffer("fixed_S", fixed_scores(config, self.sites), persistent=False)
        self.predictors = nn.ModuleDict()
        for stack in stacks if config.policy == "learned" else ():
            if stack.name in self.stacks:
                each = self._per_layer[stack.name] // self._shared(stack.name)
                self.predictors[stack.name] = (
                    GlobalPredictor(config, stack.width, len(stack.layers) * each, languages)
                    if config.scope == "global"
                    else LocalPredictor(config, stack.width, len(stack.layers), each, languages)
                )
        self.handles: list[RemovableHandle] = []

    @property
    def stacks(self) -> tuple[str, ...]:
        return stacks_of(self.config.stack)

    @property
    def learning(self) -> bool:
        """Whether gates are drawn and multiplied, with gradients; where not, they are decided and modules skipped."""
        return self.training and not self.settled

    @property
    def decides_from_prompt(self) -> bool:
        """Whether the decoder's gates are known only after the prompt has run through it."""
        return self.config.scope == "local" and "decoder" in self.stacks

    @property
    def budget(self) -> float:
        """The share to skip at inference, for gates with a budget dial; ``target`` until it is set."""
        return self._shares.dial

    @budget.setter
    def budget(self, share: float) -> None:
        self._shares.turn(share)

    def sites_of(self, stack: str) -> list[int]:
        """The positions in ``sites`` of one stack's gates."""
        return [index for index, site in enumerate(self.sites) if site.stack == stack]

    def costs_of(self, stack: str) -> Tensor:
        """The costs of one stack's sites."""
        return self._part_of(self.cost_S, stack)

    def decision_costs(self, stack: str) -> Tensor:
        """What each decision about a stack closes, in ``unit``: a site, or all of a layer's."""
        shared = self._shared(stack)
        return self.costs_of(stack) if shared == 1 else self.costs_of(stack).unflatten(0, (-1, shared)).sum(1)

    def set_context(self, context: Context | Sequence[Task]) -> None:
        """Say what is known of each utterance of the next batch; to be called before the model runs on it."""
        self.context = context if isinstance(context, Context) else Context(tasks=context)
        self.gates_BS, self.counted_BS, self.scores, self._thresholds_B1 = {}, {}, {}, {}
        self.state.clear()
        self._shares.begin(len(self.context.tasks), self.training)

    def force(self, open_BS: Tensor | None) -> None:
        """Use these gates, (B or 1, S) over all sites, instead of the predictor's, until called with None."""
        self.forced = open_BS

    def decide(self, stack: str, x_BTD: Tensor, mask_BT: Tensor) -> Tensor | None:
        """Decide the gates of ``stack`` from its input and put them in force.

        In the local scope the layers' gates are decided as the layers run.

        Returns:
            (B, S of the stack): floats with gradients while learning, booleans otherwise; None if it is not gated, or
            not decided yet.
        """
        if self.forced is not None:
            if len(self.forced) not in (1, len(x_BTD)):
                raise ConfigError(f"gates: {len(self.forced)} forced masks for a batch of {len(x_BTD)}")
            gates_BS = self.forced[:, self.sites_of(stack)]
            gates_BS = gates_BS.to(x_BTD.device, x_BTD.dtype) if self.learning else gates_BS.bool()
            return self._put_in_force(stack, gates_BS, gates_BS)
        if stack not in self.stacks:
            return None
        if len(self.context.tasks) != len(x_BTD):
            raise ConfigError(f"gates: context for {len(self.context.tasks)} utterances, batch of {len(x_BTD)}")
        with self._deciding(x_BTD):
            return self._decide(stack, x_BTD, mask_BT)

    def _decide(self, stack: str, x_BTD: Tensor, mask_BT: Tensor) -> Tensor | None:
        device = self.cost_S.device
        closed_B, dither_LB = self._shares_to_close(stack, device)
        if self.config.thresholds:
            thresholds = [threshold_of(self.config, stack, task) for task in self.context.tasks]
            self._thresholds_B1[stack] = send(torch.tensor(thresholds)[:, None], device)
        if self.config.policy != "learned":
            scores_BS = self._part_of(self.fixed_S, stack).expand(len(x_BTD), -1)
            if self.training and self.config.policy == "layerdrop":
                scores_BS = layer_order(scores_BS, self._per_layer[stack])
            scores_BS = scores_BS[:, :: self._shared(stack)]
            return self._put_in_force(stack, *self._gates(stack, scores_BS, closed_B, dither_LB[0]))
        predictor: Any = self.predictors[stack]
        if self.config.scope == "global":
            scores_BS = predictor(self.context, x_BTD, mask_BT, closed_B).float()
            return self._put_in_force(stack, *self._gates(stack, scores_BS, closed_B, dither_LB[0]))
        context_BC = predictor.context(self.context, x_BTD, mask_BT, closed_B)
        self._decided[stack] = []
        decide_layer = partial(self._decide_layer, stack, context_BC, closed_B, dither_LB)
        self.state.decide_by(stack, decide_layer, skip=not self.learning, whole=self.training)
        return None

    def mask_BS(self, batch: int) -> Tensor:
        """The last decisions over all sites, (B, S) booleans on the CPU; stacks without gates are open."""
        mask_BS = torch.ones(batch, len(self.sites), dtype=torch.bool)
        for stack, gates_BS in self.gates_BS.items():
            mask_BS[:, self.sites_of(stack)] = gates_BS.detach().bool().cpu()
        return mask_BS

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """While this lasts gates are decided as ever, and not recorded: for a layer that is computed a second time."""
        gates_BS, counted_BS = dict(self.gates_BS), dict(self.counted_BS)
        scores = {stack: list(each) for stack, each in self.scores.items()}
        decided = {stack: list(each) for stack, each in self._decided.items()}
        try:
            yield
        finally:
            self.gates_BS, self.counted_BS, self.scores, self._decided = gates_BS, counted_BS, scores, decided

    def _shares_to_close(self, stack: str, device: torch.device) -> tuple[Tensor | None, Sequence[Tensor | None]]:
        """(B,) shares of the stack's cost, and dithers (B,) of each of its decisions; None under the threshold rule."""
        count = self.layers[stack] if self.config.scope == "local" else 1
        if self.config.rule == "threshold":
            return None, [None] * count
        shares = self._shares.of(stack, self.context, count, self.ramp, self.training)
        closed_B, *dither_LB = send(torch.stack(list(shares)), device).unbind()
        return closed_B, dither_LB

    def _part_of(self, values_S: Tensor, stack: str) -> Tensor:
        """The values of one stack's sites, which stand side by side."""
        sites = self.sites_of(stack)
        return values_S[sites[0] : sites[-1] + 1]

    def _shared(self, stack: str) -> int:
        """How many sites share a decision: one has its own, or all of a layer have one."""
        return self._per_layer[stack] if self.config.granularity == "layer" else 1

    def _gates(
        self, stack: str, scores_BS: Tensor, closed_B: Tensor | None, dither_B: Tensor | None, layer: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The gates of a stack, or of one layer, from their scores; and what the penalty counts of them."""
        cost_S = self.decision_costs(stack)
        if layer is not None:
            cost_S = cost_S.unflatten(0, (self.layers[stack], -1))[layer]
        self.scores.setdefault(stack, [])[layer or 0 :] = [scores_BS.detach()]
        if stack in self._thresholds_B1:
            scores_BS = scores_BS - self._thresholds_B1[stack]
        found = decide_gates(self.config, scores_BS, closed_B, dither_B, cost_S, self._sampling())
        shared = self._shared(stack)
        if shared == 1:
            return found
        gates_BS, counted_BS = (each.repeat_interleave(shared, dim=1) for each in found)
        return gates_BS, counted_BS

    def _sampling(self) -> Sampling | None:
        return Sampling(self.noise, self.temperature) if self.learning else None

    @contextmanager
    def _deciding(self, x_BTD: Tensor) -> Iterator[None]:
        """In full precision, for products so small only cost their casts; with gradients where they are of use."""
        with (
            torch.autocast(x_BTD.device.type, enabled=False),
            torch.set_grad_enabled(torch.is_grad_enabled() and self.learning),
        ):
            yield

    def _put_in_force(self, stack: str, gates_BS: Tensor, counted_BS: Tensor) -> Tensor:
        self.gates_BS[stack], self.counted_BS[stack] = gates_BS, counted_BS
        layered_BLK = gates_BS.unflatten(1, (-1, self._per_layer[stack]))
        self.state.set(stack, layered_BLK, skip=not self.learning, whole=self.training)
        return gates_BS

    def _decide_layer(
        self,
        stack: str,
        context_BC: Tensor,
        closed_B: Tensor | None,
        dither_LB: Sequence[Tensor | None],
        layer: int,
        x_BTD: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """(B, K) gates of a layer from its own input: its real frames, or the prompt's tokens, in the decoder."""
        if stack == "decoder":
            x_BTD = x_BTD[:, :PROMPT_TOKENS]
            mask = None
        predictor: Any = self.predictors[stack]
        with self._deciding(x_BTD):
            scores_BK = predictor(context_BC, layer, x_BTD, None if mask is None else mask[:, 0]).float()
            decided = self._gates(stack, scores_BK, closed_B, dither_LB[layer], layer)
        if layer == 0:
            self._decided[stack] = []
        self._decided[stack].append(decided)
        if layer == self.layers[stack] - 1:
            gates, counted = zip(*self._decided[stack], strict=True)
            self.gates_BS[stack], self.counted_BS[stack] = torch.cat(gates, 1), torch.cat(counted, 1)
        return decided[0]
