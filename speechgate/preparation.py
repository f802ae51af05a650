"""From corpora to manifests and tokens: what `speechgate prepare` and `embed` do."""

import shutil
from pathlib import Path

from speechgate.corpus.frame import Corpus
from speechgate.corpus.known import CORPORA
from speechgate.errors import ConfigError
from speechgate.files import write_json, write_text
from speechgate.locks import in_turn
from speechgate.manifests.cuts import read_cuts, write_cuts
from speechgate.manifests.leaks import find_leaks
from speechgate.recipe import Recipe
from speechgate.runinfo import pick_device
from speechgate.shard import WHOLE, Shard


def prepare(recipe: Recipe, source: str, shard: Shard = WHOLE) -> bool:
    """Download and prepare each corpus and train the tokens; what is done already is left alone.

    Of several processes each converts its ``shard`` of the recordings; the one that ends last writes the manifests.

    Returns:
        Whether all is done: False where other shards are not converted yet.

    Raises:
        ConfigError: one source for several corpora.
    """
    if len(recipe.corpora) > 1 and source != "auto":
        raise ConfigError(f"source {source!r} cannot be that of {recipe.corpus}: prepare each corpus by itself first")
    if [name for name in recipe.corpora if not _prepare_corpus(recipe, name, source, shard)]:
        return False
    with in_turn(recipe.data / recipe.name / "lock"):
        if len(recipe.corpora) > 1:
            report_leaks(recipe)
        recipe.tokenizer()
    return True


def _prepare_corpus(recipe: Recipe, name: str, source: str, shard: Shard) -> bool:
    """Prepare one corpus, or this process's share of it; returns whether it is prepared."""
    corpus, data, home = CORPORA[name], recipe.data, recipe.data / name

    def is_done() -> bool:
        is_of_source = len(recipe.corpora) > 1 or corpus.is_downloaded(data, source)  # a mix takes what is prepared
        return is_of_source and corpus.is_prepared(data)

    if is_done():
        return True
    with in_turn(home / "lock"):
        if not corpus.is_downloaded(data, source):
            corpus.download(data, source)
    if shard.count > 1 and isinstance(corpus, Corpus):  # `prompts` is too small to be shared out
        converted = [home / "converted" / Shard(index, shard.count).name for index in range(shard.count)]
        converted[shard.index].unlink(missing_ok=True)
        corpus.convert(data, shard)
        write_text(converted[shard.index], "")
        lacking = [path.name for path in converted if not path.is_file()]
        if lacking and not is_done():
            print(f"{home}: shard {shard} is converted; others are not: {', '.join(lacking)}")
            return False
    with in_turn(home / "lock"):
        if not is_done():
            _forget(data, name)
            corpus.prepare(data)
            shutil.rmtree(home / "converted", ignore_errors=True)
    return True


def _forget(data: Path, name: str) -> None:
    """Remove what was made of a corpus's earlier manifests: its tokens, and the tokens and leaks of its mixes."""
    for home in data.iterdir():
        if home.is_dir() and name in home.name.split("+"):
            shutil.rmtree(home / "tokens", ignore_errors=True)
            (home / "leaks.json").unlink(missing_ok=True)


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
