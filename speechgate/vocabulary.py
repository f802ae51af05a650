"""The vocabularies of a recipe's checkpoints: how they are learnt, and where they lie."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from speechgate.model.checkpoint import load_checkpoint
from speechgate.recipe import Recipe, texts_of
from speechgate.runinfo import run_info
from speechgate.text.vocabulary import Vocabulary, learn_vocabulary, save_vocabulary


def learn(recipe: Recipe, folder: Path, coverage: float = 1.0) -> tuple[Path, Vocabulary]:
    """Learn the tokens that each target language's training texts need; writes vocabulary.json.

    The checkpoint in ``folder`` says which tokens there are.  The dev texts say how much of others they cover.

    Raises:
        ConfigError: ``coverage`` is not a share.
    """
    tokenizer, tasks = load_checkpoint(folder).tokenizer, recipe.available_tasks()

    def by_language(split: str) -> dict[str, Iterator[str]]:
        cuts = recipe.cuts(split)
        found = {task.tgt: [texts_of(cuts, each) for each in tasks if each.tgt == task.tgt] for task in tasks}
        return {language: chain(*texts) for language, texts in found.items()}

    vocabulary = learn_vocabulary(tokenizer, by_language("train"), coverage, by_language("dev"))
    path = recipe.vocabulary_of(folder)
    save_vocabulary(path, vocabulary, run_info("cpu"))
    return path, vocabulary
