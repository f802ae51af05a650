"""What a mask of gates saves: the MACs of every site, of what goes with sites, and of what no gate can close.

A test holds the table against PyTorch's FLOP counter.  See ``speechgate.gates.macs`` for what is counted.

Symbols: T encoder frames, L decoder steps, W hypotheses alive in a step (beam); S gate sites, J joints, M monomials.
"""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.espnet import known_stacks
from speechgate.gates.macs import Macs, monomials, weights
from speechgate.gates.sites import Adapter, GateSite, Stack, in_groups, list_sites


class CostTable:
    """The MACs of one model's modules as functions of the lengths of an utterance; it keeps no part of the model.

    A joint is what runs where any of several sites is open, such as the merge of two branches.
    """

    def __init__(self, model: Any, adapter: Adapter = known_stacks, config: GatesConfig | None = None) -> None:
        """``config`` is that of gates which the model no longer has, where these divide modules into groups."""
        stacks = in_groups(adapter(model), model.gates.config if hasattr(model, "gates") else config)
        self.sites: tuple[GateSite, ...] = list_sites(stacks)
        place = {site: index for index, site in enumerate(self.sites)}
        joints, members = [], []
        for stack in stacks:
            for index, layer in enumerate(stack.layers):
                for joint in stack.gated.joints:
                    joints.append(joint.macs(layer))
                    own = [site for kind in stack.kinds if kind.name in joint.of for site in stack.sites(index, kind)]
                    members.append([place[site] for site in own])
        self._sites_SM, self._joints_JM = site_coefficients(stacks), _matrix(joints)
        self._members_JS = torch.zeros(len(joints), len(self.sites), dtype=torch.bool)
        for row, columns in enumerate(members):
            self._members_JS[row, columns] = True
        self._fixed = _outside(model) if adapter is known_stacks else None
        self._predictor_macs = float(weights(model.gates)) if hasattr(model, "gates") else 0.0

    def site_macs(self, frames: int, steps: int, beam: int) -> Tensor:
        """(S,) float64: MACs of every gate site for an utterance of ``frames`` T, ``steps`` L and ``beam`` W.

        The decoder has key/value caches: a step computes one token a hypothesis, source attention projects the
        encoder's output once an utterance.  A beam of 1 and ``steps`` L is also the cost of teacher forcing, with
        attention counted over the tokens before.
        """
        return self._sites_SM @ torch.tensor(monomials(frames, steps, beam), dtype=torch.float64)

    def joint_macs(self, frames: int, steps: int, beam: int) -> Tensor:
        """(J,) float64: MACs of the joints, such as the merge of each encoder layer's branches."""
        return self._joints_JM @ torch.tensor(monomials(frames, steps, beam), dtype=torch.float64)

    def stack_coefficients(self, stack: str) -> Tensor:
        """(M,) float64: what ``monomials`` is multiplied by for a whole stack, joints included."""
        own_S = torch.tensor([site.stack == stack for site in self.sites])
        return self._sites_SM[own_S].sum(0) + self._joints_JM[(self._members_JS & own_S).any(1)].sum(0)

    def fixed_macs(self, feature_frames: int, frames: int, steps: int, beam: int) -> float:
        """What no gate can close: subsampling, CTC's and the decoder's output layers, and the predictors.

        Raises:
            ConfigError: the model came with an adapter, so what lies outside its stacks is not known.
        """
        if self._fixed is None:
            raise ConfigError(
                "what lies outside the stacks costs is known of ESPnet's models and Whisper alone; use site_macs"
            )
        return self._fixed.macs(feature_frames, frames, steps * beam) + self._predictor_macs

    def predictor_macs(self) -> float:
        """The gates' own cost, once an utterance; 0 without gates."""
        return self._predictor_macs

    def utterance_macs(
        self, open_S: Tensor, feature_frames: int, frames: int, steps: int, beam: int
    ) -> tuple[float, float]:
        """MACs of one utterance with the gates ``open_S`` (booleans), and with every gate open and no predictor."""
        sites_S, joints_J = self.site_macs(frames, steps, beam), self.joint_macs(frames, steps, beam)
        fixed = self.fixed_macs(feature_frames, frames, steps, beam)
        runs_J = (self._members_JS & open_S).any(1)
        used = fixed + float((sites_S * open_S).sum() + (joints_J * runs_J).sum())
        dense = fixed - self._predictor_macs + float(sites_S.sum() + joints_J.sum())
        return used, dense


def site_coefficients(stacks: Iterable[Stack]) -> Tensor:
    """(S, M) float64: what ``speechgate.gates.macs.monomials`` is multiplied by, for every site.

    A module costs in proportion to its heads or channels, so each of its groups costs an equal share.
    """
    rows = [
        _matrix([kind.macs(layer)]).expand(len(stack.parts(kind)), -1) / len(stack.parts(kind))
        for stack in stacks
        for layer in stack.layers
        for kind in stack.kinds
    ]
    return torch.cat(rows)


def _matrix(costs: Sequence[Macs]) -> Tensor:
    return torch.tensor([astuple(cost) for cost in costs], dtype=torch.float64).reshape(-1, len(fields(Macs)))


@dataclass(frozen=True)
class Outside:
    """A model's parts outside its stacks.

    Attributes:
        bins: the second dimension of what the first convolution reads; 1 where convolutions are over time alone.
        convolutions: weights, kernel, stride and padding over time of each, in turn; time comes first.
        frame, token: weights of linear layers that run once a frame, and once a token of each hypothesis.
    """

    bins: int
    convolutions: tuple[tuple[int, tuple[int, ...], tuple[int, ...], int], ...]
    frame: int
    token: int

    def macs(self, feature_frames: int, frames: int, tokens: int) -> float:
        total = float(frames * self.frame + tokens * self.token)
        sizes = [feature_frames, self.bins]
        for numel, kernel, stride, padding in self.convolutions:
            sizes[0] += 2 * padding
            sizes = [(size - k) // s + 1 for size, k, s in zip(sizes, kernel, stride, strict=False)]
            total += numel * (sizes[0] * sizes[1] if len(kernel) == 2 else sizes[0])
        return total


def _outside(model: Any) -> Outside:
    """What a model says of itself, or ESPnet's subsampling, CTC and output layer."""
    if hasattr(model, "outside"):
        return model.outside()
    embed = [] if model.encoder.embed is None else list(model.encoder.embed.modules())
    linear = [part for part in embed if isinstance(part, nn.Linear)]
    ctc = [] if model.ctc is None else [model.ctc]
    output = [] if model.decoder is None else [model.decoder.output_layer]
    return Outside(
        bins=1 if model.frontend is None else model.frontend.output_size(),
        convolutions=tuple(
            (part.weight.numel(), tuple(part.kernel_size), tuple(part.stride), 0)
            for part in embed
            if isinstance(part, nn.Conv1d | nn.Conv2d)
        ),
        frame=weights(*linear, *ctc),
        token=weights(*output),
    )
