"""What is known of an utterance before its modules run, as one vector: the context that gates are decided from.

Shapes: B batch, T frames, D width, C context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.task import KINDS, Task

EMBEDDING = 16
BANK = 256  # contexts kept by gates with a shuffled context


@dataclass(frozen=True)
class Context:
    """The utterances of a batch as the gates know them beside their audio.

    Attributes:
        tasks: one an utterance; None where neither task nor languages are known.
        vectors: (B, size) for each ``vector:NAME:SIZE`` of the configuration; a row of NaN is a missing vector.
        dither_B: in [0, 1), how each utterance rounds its number of closed modules (see ``allocation``); to the
            nearest where it is None.
    """

    tasks: Sequence[Task | None] = ()
    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    dither_B: Tensor | None = None

    def rows(self, rows: slice) -> "Context":
        """The context of some utterances of the batch."""
        return Context(
            tasks=self.tasks[rows],
            vectors={name: vectors_BV[rows] for name, vectors_BV in self.vectors.items()},
            dither_B=None if self.dither_B is None else self.dither_B[rows],
        )


def join(contexts: Sequence[Context]) -> Context:
    """One context for the utterances of several, which have the same vectors, and dithers all or none."""
    dithers = [context.dither_B for context in contexts if context.dither_B is not None]
    return Context(
        tasks=[task for context in contexts for task in context.tasks],
        vectors={name: torch.cat([context.vectors[name] for context in contexts]) for name in contexts[0].vectors},
        dither_B=torch.cat(dithers) if dithers else None,
    )


def pool(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the real frames, (B, D); padded frames do not count."""
    weight_BT = mask_BT.to(x_BTD.dtype)
    total_BD = torch.einsum("btd,bt->bd", x_BTD, weight_BT)
    return total_BD / weight_BT.sum(1, keepdim=True).clamp(min=1)


def frame_differences(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, 2D): mean of |x[t+1] - x[t]| and standard deviation of x[t+1] - x[t] over pairs of real frames.

    A single frame has no pair and gives zeros.
    """
    delta_BTD = x_BTD.diff(dim=1)
    both_BT = mask_BT[:, 1:] & mask_BT[:, :-1]
    size_BD = pool(delta_BTD.abs(), both_BT)
    mean_BD = pool(delta_BTD, both_BT)
    variance_BD = pool((delta_BTD - mean_BD[:, None]).square(), both_BT)
    spread_BD = (variance_BD + 1e-12).sqrt()  # a root has no gradient at 0
    return torch.cat([size_BD, spread_BD], dim=1)


class ContextEncoder(nn.Module):
    """The parts that ``config.context`` names, side by side in one vector (B, ``size``); a constant 1 without any.

    Categories (task, source, target) have an embedding each and one more for "unknown"; so has every vector.  With
    ``config.context_dropout`` these are trained: each part of each utterance is replaced by its "unknown" at random.
    With ``config.shuffle_context`` an utterance gets another's context: a baseline that knows what contexts there are,
    and nothing of the utterance.
    """

    def __init__(self, config: GatesConfig, width: int, languages: Sequence[str]) -> None:
        super().__init__()
        self.dropout = config.context_dropout
        self.parts = config.context
        self.known = {"task": KINDS, "source": tuple(languages), "target": tuple(languages)}
        self.embeddings = nn.ModuleDict(
            {part: nn.Embedding(len(known) + 1, EMBEDDING) for part, known in self.known.items() if part in self.parts}
        )
        self.norms = nn.ModuleDict()
        if "audio" in self.parts:
            self.norms["audio"] = nn.LayerNorm(width)
        if "difference" in self.parts:
            self.norms["difference"] = nn.LayerNorm(2 * width)
        self.sizes = config.vectors
        self.vectors = nn.ModuleDict(
            {name: nn.Sequential(nn.LayerNorm(size), nn.Linear(size, EMBEDDING)) for name, size in self.sizes.items()}
        )
        self.unknown = nn.ParameterDict({name: nn.Parameter(torch.zeros(EMBEDDING)) for name in self.vectors})
        self.size = (
            EMBEDDING * (len(self.embeddings) + len(self.vectors))
            + width * (("audio" in self.parts) + 2 * ("difference" in self.parts))
            + ("budget" in self.parts)
        ) or 1
        self.bank_NC: Tensor | None
        self.register_buffer("bank_NC", torch.zeros(BANK, self.size) if config.shuffle_context else None)

    def forward(self, context: Context, x_BTD: Tensor, mask_BT: Tensor, budget_B: Tensor | None) -> Tensor:
        """Encode the context of each utterance; ``x_BTD`` is the stack's input, ``budget_B`` the share to close.

        Raises:
            ConfigError: a language, or a missing vector, that the gates cannot stand in for, since they were trained
                without ``context_dropout``.
        """
        parts = [self._part(part, context, x_BTD, mask_BT, budget_B) for part in self.parts]
        context_BC = torch.cat(parts, dim=-1) if parts else x_BTD.new_ones(len(x_BTD), 1)
        return context_BC if self.bank_NC is None else self._of_another(context_BC, context.dither_B)

    def _of_another(self, context_BC: Tensor, dither_B: Tensor | None) -> Tensor:
        """The context of the neighbour in the batch; at inference, of one of the last utterances of the training."""
        bank_NC = self.bank_NC
        assert bank_NC is not None
        if self.training:
            bank_NC.copy_(torch.cat([context_BC.detach().to(bank_NC), bank_NC])[:BANK])
            return context_BC.roll(1, dims=0)
        place_B = torch.full((len(context_BC),), 0.5) if dither_B is None else dither_B
        return bank_NC[(place_B * BANK).long().to(bank_NC.device)].to(context_BC)

    def _part(self, part: str, context: Context, x_BTD: Tensor, mask_BT: Tensor, budget_B: Tensor | None) -> Tensor:
        if part == "audio":
            return self.norms[part](pool(x_BTD, mask_BT))
        if part == "difference":
            return self.norms[part](frame_differences(x_BTD, mask_BT))
        if part == "budget":
            assert budget_B is not None  # the configuration asks for a budget
            return budget_B[:, None].to(x_BTD.dtype)
        if part in self.embeddings:
            unknown = len(self.known[part])
            index_B = torch.tensor([self._index(part, task) for task in context.tasks], device=x_BTD.device)
            return self.embeddings[part](torch.where(self._dropped(index_B), unknown, index_B))
        return self._vector(part.split(":")[1], context, x_BTD)

    def _index(self, part: str, task: Task | None) -> int:
        known = self.known[part]
        if task is not None:
            value = {"task": task.kind, "source": task.src, "target": task.tgt}[part]
            if value in known:
                return known.index(value)
        if self.dropout == 0:
            what = "an unknown task" if task is None else f"no language {value!r}, only: {', '.join(known)}"
            raise ConfigError(f"the gates know {what}; gates trained with context_dropout take any")
        return len(known)

    def _vector(self, name: str, context: Context, x_BTD: Tensor) -> Tensor:
        if name in context.vectors:
            given_BV = context.vectors[name].to(x_BTD.device, x_BTD.dtype)
        else:
            given_BV = x_BTD.new_full((len(x_BTD), self.sizes[name]), float("nan"))
        missing_B = given_BV.isnan().any(1)
        if self.dropout == 0 and bool(missing_B.any()):
            raise ConfigError(f"the gates need vector {name!r} of every cut; gates trained with context_dropout do not")
        known_BE = self.vectors[name](given_BV.nan_to_num())
        return torch.where((missing_B | self._dropped(missing_B))[:, None], self.unknown[name].to(known_BE), known_BE)

    def _dropped(self, like_B: Tensor) -> Tensor:
        """Which utterances lose a part of their context: none at inference."""
        if not self.training or self.dropout == 0:
            return torch.zeros_like(like_B, dtype=torch.bool)
        return torch.rand(like_B.shape, device=like_B.device) < self.dropout
