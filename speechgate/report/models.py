"""The decoded models that a report compares: one dense, any number of gated ones."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechgate.errors import ConfigError
from speechgate.scoring.compare import compare_decoded
from speechgate.scoring.decoded import Decoded, read_decoded


@dataclass(frozen=True)
class Model:
    """A decode directory with its scores.json; ``versus_dense`` holds its paired tests (empty for the dense model)."""

    decoded: Decoded
    scores: dict[str, Any]
    versus_dense: list[dict[str, Any]]


def read_models(decode_dirs: Sequence[Path]) -> list[Model]:
    """Read scored decode directories: the dense model first, then by stack and target.

    Raises:
        ConfigError: no directory, not exactly one dense model, several corpora or splits, or one that is not scored.
    """
    decoded = [read_decoded(path) for path in decode_dirs]
    decoded.sort(key=lambda d: (not d.is_dense, d.stack, d.sparsity_target))
    dense = [str(d.directory) for d in decoded if d.is_dense]
    if len(dense) != 1:
        raise ConfigError(
            f"a report compares with one dense model, these directories hold {len(dense)}: {dense}; --name chooses"
        )
    if len(splits := sorted({f"{d.corpus} {d.split}" for d in decoded})) > 1:
        raise ConfigError(f"a report is about one corpus and split, these directories hold {', '.join(splits)}")
    return [Model(d, _read_scores(d.directory), [] if d.is_dense else compare_decoded(decoded[0], d)) for d in decoded]


def _read_scores(directory: Path) -> dict[str, Any]:
    path = directory / "scores.json"
    try:
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: not found; score this directory first") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not JSON ({error}); score this directory again") from error
    return scores
