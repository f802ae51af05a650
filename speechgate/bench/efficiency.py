"""How much of the time of closed modules is saved.

Shapes: B utterances, S gate sites.
"""

from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from speechgate.bench.timing import Samples
from speechgate.gates.module import Gates
from speechgate.gates.sites import module_shares


def skip_efficiency(
    open_BS: Tensor, gates: Gates, dense: Samples, samples: Samples, profile: Mapping[str, float]
) -> float | None:
    """Time saved over the time that the closed modules take in the dense model; None where none is closed.

    A stack of which nothing is closed takes no part: its time differs from the dense one's by chance.

    Args:
        profile: milliseconds of each kind of module in the dense model, by names such as "decoder.ffn".
    """
    closed_S = (~open_BS).float().mean(0).tolist()
    closed: Counter[tuple[str, int, str]] = Counter()  # the share of a module, over its groups where it has some
    for site, part, share in zip(gates.sites, module_shares(gates.sites), closed_S, strict=True):
        closed[site.stack, site.layer, site.kind] += part * share
    stacks = {stack for (stack, _, _), share in closed.items() if share}
    if not stacks:
        return None
    taken = sum(
        share * profile[f"{stack}.{kind}"] / gates.layers[stack] for (stack, _, kind), share in closed.items() if share
    )
    if "encoder" in stacks:  # the merge of an E-Branchformer runs if either branch does
        layers = gates.layers["encoder"]
        merges = sum(closed["encoder", i, "attn"] * closed["encoder", i, "cgmlp"] for i in range(layers))
        taken += merges * profile.get("encoder.merge", 0.0) / layers
    saved = sum(dense.median(f"{stack}_ms") - samples.median(f"{stack}_ms") for stack in stacks)
    return saved / taken
