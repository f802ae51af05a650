"""From corpora to manifests and tokens: what `speechgate prepare` and `embed` do."""

import shutil
from pathlib import Path

from speechgate.errors import ConfigError
from speechgate.files import write_json
from speechgate.manifests.cuts import read_cuts, write_cuts
from speechgate.manifests.leaks import find_leaks
from speechgate.recipe import CORPORA, Recipe
from speechgate.runinfo import pick_device


def prepare(recipe: Recipe, source: str) -> None:
    """Download and prepare each corpus and train the tokens; what is done already is left alone.

    Raises:
        ConfigError: one source for several corpora.
    """
    if len(recipe.corpora) > 1 and source != "auto":
        raise ConfigError(f"source {source!r} cannot be that of {recipe.corpus}: prepare each corpus by itself first")
    for name in recipe.corpora:
        corpus = CORPORA[name]
        if not (corpus.is_downloaded(recipe.data, source) and corpus.is_prepared(recipe.data)):
            corpus.download(recipe.data, source)
            shutil.rmtree(recipe.tokens, ignore_errors=True)  # they belong to the manifests written next
            corpus.prepare(recipe.data)
    if len(recipe.corpora) > 1:
        report_leaks(recipe)
    recipe.tokenizer()


def embed(recipe: Recipe, split: str) -> list[Path]:
    """Give the cuts of a split their speaker embeddings; returns the manifests, written anew."""
    from speechgate.data.speakers import embed_speakers, load_encoder

    encoder, paths = load_encoder(str(pick_device())), list(recipe.manifests(split).values())
    for path in paths:
        write_cuts(embed_speakers(read_cuts(path), encoder), path)
    return paths


def counts_of(recipe: Recipe) -> dict[str, dict[str, float]]:
    """The counts of the preparation, by language of each corpus, for a report's page."""
    return {
        language if len(recipe.corpora) == 1 else f"{name} {language}": counts
        for name in recipe.corpora
        for language, counts in CORPORA[name].counts(recipe.data).items()
    }


def report_leaks(recipe: Recipe) -> None:
    """Write and print what the held-out sets share with the training of all: data/<mix>/leaks.json."""
    splits = {"train": list(recipe.manifests("train").values())}
    for split in [*recipe.held_out("dev"), *recipe.held_out("test")]:
        splits[split] = list(recipe.manifests(split).values())
    rows = find_leaks(splits)
    write_json(recipe.leaks, rows)
    for row in rows:
        print(f"{row['count']} utterances of {row['splits'][1]} share a {row['shared']} with {row['splits'][0]}")
