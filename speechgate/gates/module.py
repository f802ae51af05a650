"""The gates of a model as one module: it decides, and puts what it decided in force for the layers.

Shapes: B batch, T frames, D width, L layers, K kinds, S gate sites.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.estimator import straight_through_gumbel, threshold
from speechgate.gates.predictor import ContextPredictor, pool
from speechgate.gates.sites import STACK_KINDS, GateSite, list_sites, stacks_of
from speechgate.gates.state import GateState
from speechgate.model.espnet_compat import make_pad_mask
from speechgate.task import Task


class Gates(nn.Module):
    """The gates of one model: predictors, the state that the layers read, and a record of the last decisions.

    Attributes:
        sites: all sites of the model; recorded masks follow this order.
        noise, temperature: of the estimator while training; the training schedule sets ``noise``.
        gates_BS: what the last forward pass used for each gated stack; carries gradients while training.
    """

    def __init__(self, config: GatesConfig, model: Any, languages: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.languages = tuple(languages)
        self.sites: tuple[GateSite, ...] = list_sites(model)
        self.state = GateState()
        self.noise = 1.0
        self.tasks: Sequence[Task] = ()
        self.gates_BS: dict[str, Tensor] = {}
        self.forced: Tensor | None = None
        width = model.encoder.output_size()
        self.predictors = nn.ModuleDict(
            {
                stack: ContextPredictor(config, width, len(self.sites_of(stack)), languages)
                for stack in stacks_of(config.stack)
            }
        )
        self._hooks = [
            model.encoder.embed.register_forward_hook(self._after_embed),
            model.decoder.register_forward_pre_hook(self._before_decoder),
        ]

    @property
    def stacks(self) -> tuple[str, ...]:
        return stacks_of(self.config.stack)

    def sites_of(self, stack: str) -> list[int]:
        """The positions in ``sites`` of one stack's gates."""
        return [index for index, site in enumerate(self.sites) if site.stack == stack]

    def set_context(self, tasks: Sequence[Task]) -> None:
        """Name the task of each utterance of the next batch; to be called before the model runs on it."""
        self.tasks = tasks
        self.gates_BS = {}
        self.state.clear()

    def force(self, open_BS: Tensor | None) -> None:
        """Use these gates, (B or 1, S) over all sites, instead of the predictor's, until called with None."""
        self.forced = open_BS

    def decide(self, stack: str, x_BTD: Tensor, mask_BT: Tensor) -> Tensor | None:
        """Decide the gates of ``stack`` from its input and put them in force.

        Returns:
            (B, S of the stack): floats with gradients while training, booleans otherwise; None if it is not gated.
        """
        if self.forced is not None:
            if len(self.forced) not in (1, len(x_BTD)):
                raise ConfigError(f"gates: {len(self.forced)} forced masks for a batch of {len(x_BTD)}")
            dtype = x_BTD.dtype if self.training else torch.bool
            gates_BS = self.forced[:, self.sites_of(stack)].to(x_BTD.device, dtype)
        elif stack not in self.stacks:
            return None
        else:
            if len(self.tasks) != len(x_BTD):
                raise ConfigError(f"gates: context for {len(self.tasks)} utterances, batch of {len(x_BTD)}")
            logits_BS = self.predictors[stack](self.tasks, pool(x_BTD, mask_BT))
            gates_BS = (
                straight_through_gumbel(logits_BS.float(), self.config.temperature, self.noise)
                if self.training
                else threshold(logits_BS)
            )
        self.gates_BS[stack] = gates_BS
        layered = gates_BS.unflatten(1, (-1, len(STACK_KINDS[stack])))
        self.state.set(stack, layered, skip=not self.training)
        return gates_BS

    def mask_BS(self, batch: int) -> Tensor:
        """The last decisions over all sites, (B, S) booleans on the CPU; stacks without gates are open."""
        mask_BS = torch.ones(batch, len(self.sites), dtype=torch.bool)
        for stack, gates_BS in self.gates_BS.items():
            mask_BS[:, self.sites_of(stack)] = gates_BS.detach().bool().cpu()
        return mask_BS

    def remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _after_embed(self, module: nn.Module, inputs: Any, output: Any) -> None:
        embedded, mask = output
        x_BTD = embedded[0] if isinstance(embedded, tuple) else embedded
        self.decide("encoder", x_BTD, mask[:, 0])

    def _before_decoder(self, module: nn.Module, inputs: Any) -> None:
        encoder_out_BTD, lengths_B = inputs[:2]
        mask_BT = ~make_pad_mask(lengths_B, maxlen=encoder_out_BTD.size(1)).to(encoder_out_BTD.device)
        self.decide("decoder", encoder_out_BTD, mask_BT)
