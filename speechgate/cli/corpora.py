"""The stages of a recipe before training, on one corpus or a mix: parse, compose, call."""

from typing import Annotated

import typer
from rich.console import Console

from speechgate.cli.options import DATA, Corpus, Data, Source, app, parts_of


@app.command()
def download(corpus: Corpus = "prompts", source: Source = "auto", data: Data = DATA) -> None:
    """Bring a corpus to this machine."""
    from speechgate.corpus.known import CORPORA
    from speechgate.recipe import Recipe

    for name in Recipe(corpus).corpora:
        print(CORPORA[name].download(data, source))


@app.command()
def prepare(corpus: Corpus = "prompts", source: Source = "auto", data: Data = DATA) -> None:
    """Write the manifests of a corpus, downloading it first if need be, and a report of what was mended or left out.

    Started by torchrun or as a Slurm array, each process converts its shard of the recordings, and the last one does
    the rest.
    """
    from speechgate import preparation
    from speechgate.corpus.known import CORPORA
    from speechgate.recipe import Recipe
    from speechgate.shard import started_shard

    recipe = Recipe(corpus, data)
    if preparation.prepare(recipe, source, started_shard()):
        for name in recipe.corpora:
            Console().print(CORPORA[name].summary(data))


@app.command()
def embed(
    corpus: Corpus = "prompts",
    split: Annotated[str, typer.Option(help="several with commas")] = "train,dev,test",
    data: Data = DATA,
) -> None:
    """Write speaker embeddings into the manifests: a context for gates, 256 numbers a cut (needs resemblyzer)."""
    from speechgate import preparation
    from speechgate.recipe import Recipe

    for each in parts_of(split):
        for path in preparation.embed(Recipe(corpus, data), each):
            print(path)


@app.command()
def pack(
    corpus: Corpus = "prompts",
    split: Annotated[str, typer.Option(help="several with commas")] = "train",
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    data: Data = DATA,
) -> None:
    """Pack the recordings of a corpus into tar files (lhotse Shar), from which its manifests then have them."""
    from speechgate.data.pack import pack
    from speechgate.recipe import Recipe

    for each in parts_of(split):
        for manifest in Recipe(corpus, data).manifests(each).values():
            print(pack(manifest, workers))


@app.command()
def tokenize(corpus: Corpus = "prompts", data: Data = DATA) -> None:
    """Train the tokens of a corpus."""
    from speechgate.recipe import Recipe

    recipe = Recipe(corpus, data)
    print(f"{recipe.tokens}: {len(recipe.tokenizer())} tokens")
