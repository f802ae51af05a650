"""The command line's application, the options that commands share, and how their values are read."""

from pathlib import Path
from typing import Annotated

import typer

from speechgate.errors import ConfigError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Corpus = Annotated[str, typer.Option(help="corpus, a folder of recipes/; a mix of several with commas")]
Tasks = Annotated[str, typer.Option("--task", help="asr, st or st:eng; several with commas; all by default")]
Langs = Annotated[str, typer.Option("--lang", help="spoken languages, ISO 639 codes with commas; all by default")]
Data = Annotated[Path, typer.Option(help="folder of manifests and audio")]
Exp = Annotated[Path, typer.Option(help="folder of experiments")]
Source = Annotated[str, typer.Option(help="auto, apt, tarball, bundled, web:NAME,NAME, or a folder with the corpus")]
Sparsity = Annotated[str, typer.Option(help="share of modules to skip, several with commas; 0 is the dense model")]
Stack = Annotated[str, typer.Option(help="stack to gate: encoder, decoder or both")]
Name = Annotated[str, typer.Option(help="experiment, a folder of exp/<corpus>; chosen by stack and sparsity otherwise")]
Split = Annotated[str, typer.Option(help="dev, test or another held-out split of the corpus")]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16")]
CudaGraph = Annotated[bool, typer.Option("--cuda-graph", help="run the search's steps as a CUDA graph")]
Int8Output = Annotated[
    bool, typer.Option("--int8-output", help="the decoder's output layer in 8 bits (a CPU with AVX-512 VNNI)")
]
DATA, EXP = Path("data"), Path("exp")


def parts_of(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def targets_of(text: str) -> list[float]:
    try:
        return [float(part) for part in parts_of(text)]
    except ValueError as error:
        raise ConfigError(f"--sparsity {text!r}: give numbers from 0 to 1 with commas, such as 0.3,0.5") from error


def experiments_of(name: str, stack: str, sparsity: str) -> list[tuple[str, float | None]]:
    """The experiments that --name, or --stack and --sparsity, stand for; "dense" without any.

    With both --name and --sparsity, each at each setting of its budget dial.
    """
    if name:
        budgets: list[float | None] = [*targets_of(sparsity)] or [None]
        return [(each, budget) for each in parts_of(name) for budget in budgets]
    targets = targets_of(sparsity or "0")
    gated = [(f"gates_{each}_{target:.2f}", None) for each in parts_of(stack) for target in targets if target > 0]
    return [*([("dense", None)] if 0 in targets else []), *gated]
