"""Context-aware vocabulary: the tokens that each target language is written with, learnt from training text.

A search that may write these alone computes their rows of the output layer and no others.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import write_json
from speechgate.text.tokenizer import Tokens

SCHEMA = 1
FILE = "vocabulary.json"  # beside a checkpoint


@dataclass(frozen=True)
class LanguageTokens:
    """The tokens of one language.

    Attributes:
        ids: ascending; special symbols and single bytes are always among them.
        occurrences: tokens in the training text that they were learnt from.
        covered: the share of these that the ids cover.
        held_out: the share that they cover in held-out text; None where there was none.
    """

    ids: tuple[int, ...]
    occurrences: int
    covered: float
    held_out: float | None = None


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of each language written (ISO 639-3), of the ``size`` tokens of a model that have this ``digest``."""

    languages: Mapping[str, LanguageTokens]
    coverage: float
    size: int
    digest: str

    def ids(self, language: str) -> tuple[int, ...]:
        """The tokens of a language, ascending.

        Raises:
            ConfigError: its tokens were not learnt.
        """
        if language not in self.languages:
            known = ", ".join(self.languages)
            raise ConfigError(
                f"no tokens of {language!r} were learnt, only of: {known}; learn them with `speechgate vocabulary`, or "
                "decode without a vocabulary"
            )
        return self.languages[language].ids

    def summary(self) -> dict[str, Any]:
        """What tells two vocabularies apart, for records."""
        sizes = {language: len(tokens.ids) for language, tokens in self.languages.items()}
        return {"coverage": self.coverage, "tokens": sizes}


def learn_vocabulary(
    tokenizer: Tokens,
    texts: Mapping[str, Iterable[str]],
    coverage: float = 1.0,
    held_out: Mapping[str, Iterable[str]] | None = None,
) -> Vocabulary:
    """The most frequent tokens of each language's ``texts``, as many as cover that share of all occurrences.

    With a ``coverage`` of 1 these are all tokens that occur.  All special symbols and all tokens of a single byte come
    in addition: prompts and suppression mean what they did, and with bytes any text can still be written.

    Args:
        texts: normalised, by the language (ISO 639-3) that they are written in.
        held_out: other such texts, to tell how much of them is covered.

    Raises:
        ConfigError: coverage is not a share, or a language has no text.
    """
    if not 0.0 < coverage <= 1.0:
        raise ConfigError(f"coverage is {coverage}: give a share of the text's tokens, 0 < coverage <= 1")
    always = tokenizer.specials | tokenizer.bytes
    languages = {}
    for language, own in sorted(texts.items()):
        counts = _counted(tokenizer, own)
        if not counts:
            raise ConfigError(f"no training text in {language!r}: its tokens cannot be learnt")
        chosen = always | _most_frequent(counts, coverage)
        other = _counted(tokenizer, (held_out or {}).get(language, ()))
        languages[language] = LanguageTokens(
            ids=tuple(sorted(chosen)),
            occurrences=counts.total(),
            covered=_covered(counts, chosen),
            held_out=_covered(other, chosen) if other else None,
        )
    return Vocabulary(languages, coverage, len(tokenizer), _digest(tokenizer))


def _counted(tokenizer: Tokens, texts: Iterable[str]) -> Counter[int]:
    return Counter(token for text in texts for token in tokenizer.encode(text))


def _most_frequent(counts: Counter[int], coverage: float) -> set[int]:
    """The fewest tokens that cover the share; equally frequent ones by their ids."""
    chosen, missing = set(), coverage * counts.total()
    for token, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if missing <= 0:
            break
        chosen.add(token)
        missing -= count
    return chosen


def _covered(counts: Counter[int], chosen: Iterable[int]) -> float:
    return sum(counts[token] for token in chosen) / counts.total()


def _digest(tokenizer: Tokens) -> str:
    return hashlib.sha256("\n".join(tokenizer.token_list).encode()).hexdigest()


def save_vocabulary(path: Path, vocabulary: Vocabulary, run: Mapping[str, Any]) -> None:
    """Write vocabulary.json, with how it was made in ``run``."""
    languages = {language: asdict(tokens) for language, tokens in vocabulary.languages.items()}
    values = {
        "schema": SCHEMA,
        "coverage": vocabulary.coverage,
        "tokens": vocabulary.size,
        "tokens_sha256": vocabulary.digest,
        "languages": languages,
        "run": dict(run),
    }
    write_json(path, values)


def learnt_vocabulary(path: Path) -> Path:
    """``path``, where there is a vocabulary.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no {path}: learn it with `speechgate vocabulary`")
    return path


def load_vocabulary(path: Path, tokenizer: Tokens) -> Vocabulary:
    """Read what ``save_vocabulary`` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or was learnt for other tokens.
    """
    again = "learn it with `speechgate vocabulary`"
    try:
        values = json.loads(learnt_vocabulary(path).read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise CheckpointError(f"{path} has schema {values['schema']}; this version reads {SCHEMA}: {again}")
        languages = {
            language: LanguageTokens(**{**tokens, "ids": tuple(tokens["ids"])})
            for language, tokens in values["languages"].items()
        }
        vocabulary = Vocabulary(languages, values["coverage"], values["tokens"], values["tokens_sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): {again}") from error
    if vocabulary.digest != _digest(tokenizer):
        raise CheckpointError(f"{path} was learnt for a model with other tokens: {again}")
    return vocabulary
