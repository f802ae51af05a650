"""What is known of an utterance before its modules run, as one vector: the context that gates are decided from.

Shapes: B batch, T frames, D width, C context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.transfer import send
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


def pool(x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Mean over the real frames, (B, D) in single precision at least; all are real where there is no mask."""
    if mask_BT is None:
        return x_BTD.mean(1, dtype=torch.promote_types(x_BTD.dtype, torch.float32))
    total_BD = torch.bmm(mask_BT[:, None].to(x_BTD.dtype), x_BTD)[:, 0]
    return total_BD / mask_BT.sum(1, keepdim=True, dtype=torch.float32).clamp(min=1)


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

    Its weights need not be where the model runs: what is heard is averaged there, and goes on where they are.
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
        self.one_1: Tensor
        self.register_buffer("one_1", torch.ones(1), persistent=False)
        self.bank_NC: Tensor | None
        self.register_buffer("bank_NC", torch.zeros(BANK, self.size) if config.shuffle_context else None)

    def forward(self, context: Context, x_BTD: Tensor, mask_BT: Tensor, budget_B: Tensor | None) -> Tensor:
        """Encode the context of each utterance; ``x_BTD`` is the stack's input, ``budget_B`` the share to close.

        The last is where the weights are, and so is what is returned.

        Raises:
            ConfigError: a language, or a missing vector, that the gates cannot stand in for, since they were trained
                without ``context_dropout``.
        """
        known = self._embedded(context)
        parts = [
            known[part] if part in known else self._part(part, context, x_BTD, mask_BT, budget_B) for part in self.parts
        ]
        context_BC = torch.cat(parts, dim=-1) if parts else self.one_1.expand(len(x_BTD), 1)
        return context_BC if self.bank_NC is None else self._of_another(context_BC, context.dither_B)

    def _of_another(self, context_BC: Tensor, dither_B: Tensor | None) -> Tensor:
        """The context of the neighbour in the batch; at inference, of one of the last utterances of the training."""
        bank_NC = self.bank_NC
        assert bank_NC is not None
        if self.training:
            bank_NC.copy_(torch.cat([context_BC.detach().to(bank_NC), bank_NC])[:BANK])
            return context_BC.roll(1, dims=0)
        place_B = torch.full((len(context_BC),), 0.5) if dither_B is None else dither_B
        return bank_NC[send((place_B * BANK).long(), bank_NC.device)].to(context_BC)

    def _part(self, part: str, context: Context, x_BTD: Tensor, mask_BT: Tensor, budget_B: Tensor | None) -> Tensor:
        if part == "audio":
            return self.norms[part](pool(x_BTD, mask_BT).to(self.one_1))
        if part == "difference":
            return self.norms[part](frame_differences(x_BTD, mask_BT).to(self.one_1))
        if part == "budget":
            assert budget_B is not None  # the configuration asks for a budget
            return budget_B[:, None].to(self.one_1)
        return self._vector(part.split(":")[1], context)

    def _embedded(self, context: Context) -> dict[str, Tensor]:
        """The embeddings of the categories, (B, EMBEDDING) each: their indices are found here and sent together."""
        if not self.embeddings:
            return {}
        index_PB = torch.tensor([[self._index(part, task) for task in context.tasks] for part in self.embeddings])
        if self.training and self.dropout:
            unknown_P1 = torch.tensor([[len(self.known[part])] for part in self.embeddings])
            index_PB = torch.where(self._dropped(index_PB), unknown_P1, index_PB)
        indices = send(index_PB, self.one_1.device).unbind()
        return {part: table(index_B) for (part, table), index_B in zip(self.embeddings.items(), indices, strict=True)}

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

    def _vector(self, name: str, context: Context) -> Tensor:
        given_BV = context.vectors.get(name)
        if given_BV is None:
            given_BV = torch.full((len(context.tasks), self.sizes[name]), float("nan"))
        missing_B = given_BV.isnan().any(1)
        if self.dropout == 0 and bool(missing_B.any()):
            raise ConfigError(f"the gates need vector {name!r} of every cut; gates trained with context_dropout do not")
        known_BE = self.vectors[name](send(given_BV.nan_to_num(), self.one_1.device).to(self.one_1.dtype))
        unknown_B = send(missing_B | self._dropped(missing_B), self.one_1.device)
        return torch.where(unknown_B[:, None], self.unknown[name].to(known_BE), known_BE)

    def _dropped(self, like: Tensor) -> Tensor:
        """Which utterances lose a part of their context: none at inference."""
        if not self.training or self.dropout == 0:
            return torch.zeros_like(like, dtype=torch.bool)
        return torch.rand(like.shape, device=like.device) < self.dropout
