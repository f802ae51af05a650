"""How much is to be skipped of which stack, for which task and language, and in which unit."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from speechgate.config import GatesConfig
from speechgate.errors import ConfigError
from speechgate.gates.cost import site_coefficients
from speechgate.gates.macs import monomials
from speechgate.gates.sites import Stack, list_sites, module_shares
from speechgate.task import KINDS, Task, to_iso3

# The utterance that MACs are counted for: 4 s of audio, 40 tokens, and the beam of conf/decode/beam.yaml.
FRAMES, STEPS, BEAM = 100, 40, 5


def check_targets(targets: Mapping[str, float]) -> None:
    """Refuse keys that name no stack, task or language.

    Raises:
        ConfigError: naming the key, and what a key may be.
    """
    for key, value in targets.items():
        where = f"gates.targets[{key!r}]"
        stack, slash, rest = key.rpartition("/")
        if (slash and stack not in ("encoder", "decoder")) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ConfigError(f"{where}: {value!r}: give [encoder/ or decoder/]NAME and a share, 0 <= share < 1")
        if rest in KINDS or (not slash and rest in ("encoder", "decoder")):
            continue
        try:
            canonical = str(Task.parse(rest)) if ":" in rest else to_iso3(rest)
        except ConfigError as error:
            raise ConfigError(f"{where}: neither a stack, a task nor a language ({error})") from error
        if canonical != rest:
            raise ConfigError(f"{where}: write it {canonical!r}")


def closest_key(values: Mapping[str, float], stack: str, task: Task | None) -> str | None:
    """The key of ``values`` that is closest to a task in a stack; None where there is none.

    Closest first: the whole task (st:fra-eng), its kind (st), its spoken language (fra), the stack alone; each with
    the stack before the one for both (encoder/asr, then asr).
    """
    names = [] if task is None else [str(task), task.kind, task.src]
    keys = [key for name in names for key in (f"{stack}/{name}", name)]
    return next((key for key in (*keys, stack) if key in values), None)


def target_of(config: GatesConfig, stack: str, task: Task | None) -> float:
    """The share of ``stack`` to skip for a task: the closest entry of ``targets``, else ``target``."""
    key = closest_key(config.targets, stack, task)
    return config.target if key is None else config.targets[key]


def threshold_of(config: GatesConfig, stack: str, task: Task | None) -> float:
    """The score above which a gate of ``stack`` opens for a task: the closest entry of ``thresholds``, else 0."""
    key = closest_key(config.thresholds, stack, task)
    return 0.0 if key is None else config.thresholds[key]


def site_costs(stacks: Sequence[Stack], unit: str) -> Tensor:
    """(S,) relative cost of every site of a model: MACs at a reference length, or 1 a module, its groups sharing it.

    Milliseconds are not known beforehand: they begin at 1, until ``cost_ms.measure_ms`` fills them in.
    """
    if unit != "macs":
        return torch.tensor(module_shares(list_sites(stacks)))
    macs_S = site_coefficients(stacks) @ torch.tensor(monomials(FRAMES, STEPS, BEAM), dtype=torch.float64)
    return (macs_S / macs_S.mean()).float()
