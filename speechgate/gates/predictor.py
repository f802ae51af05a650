"""The predictor: from an utterance's context to one logit a gate (Someki et al., ICLR 2025, Algorithm 1).

Shapes: B batch, T frames, D width, S gate sites of one stack.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.task import KINDS, Task

EMBEDDING = 16


def pool(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over the real frames, (B, D); padded frames do not count."""
    weight_BT = mask_BT.to(x_BTD.dtype)
    total_BD = torch.einsum("btd,bt->bd", x_BTD, weight_BT)
    return total_BD / weight_BT.sum(1, keepdim=True).clamp(min=1)


class ContextPredictor(nn.Module):
    """A small network from task, spoken language and pooled audio to the logits of one stack's gates.

    The last layer starts at zero weights and a positive bias: at the start every gate is open with the same odds.
    """

    def __init__(self, config: GatesConfig, width: int, sites: int, languages: Sequence[str]) -> None:
        super().__init__()
        self.context = config.context
        self.languages = tuple(languages)
        self.task = nn.Embedding(len(KINDS), EMBEDDING) if "task" in config.context else None
        self.language = nn.Embedding(len(languages), EMBEDDING) if "language" in config.context else None
        self.audio = nn.LayerNorm(width) if "audio" in config.context else None
        size = EMBEDDING * sum(part is not None for part in (self.task, self.language))
        size += width if self.audio is not None else 0
        last = nn.Linear(config.hidden, sites)
        self.network = nn.Sequential(nn.Linear(max(size, 1), config.hidden), nn.ReLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, config.initial_logit)

    def forward(self, tasks: Sequence[Task], pooled_BD: Tensor) -> Tensor:
        """Return logits (B, S); ``tasks`` has one task an utterance, ``pooled_BD`` the mean of the stack's input.

        Raises:
            ConfigError: a language that the gates were not trained on.
        """
        device = pooled_BD.device
        parts = []
        if self.task is not None:
            parts.append(self.task(torch.tensor([KINDS.index(task.kind) for task in tasks], device=device)))
        if self.language is not None:
            parts.append(self.language(torch.tensor([self._index(task.src) for task in tasks], device=device)))
        if self.audio is not None:
            parts.append(self.audio(pooled_BD))
        if not parts:  # no context: one learned mask for every utterance
            parts.append(pooled_BD.new_ones(len(pooled_BD), 1))
        return self.network(torch.cat(parts, dim=-1))

    def _index(self, language: str) -> int:
        if language not in self.languages:
            raise ConfigError(f"the gates know no language {language!r}, only: {', '.join(self.languages)}")
        return self.languages.index(language)
