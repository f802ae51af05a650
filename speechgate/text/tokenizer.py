"""From text to token ids and back: sentencepiece's pieces behind the special symbols of OWSM's prompt.

Order of the ids: ``<blank> <unk> <na> <nolang>``, languages, tasks, ``<notimestamps>``, pieces, ``<sos> <eos> <sop>``.
"""

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import sentencepiece

from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import atomic_path, write_text
from speechgate.task import NO_TIMESTAMPS, Task

Units = Literal["char", "bpe", "unigram"]

_FIRST = ("<blank>", "<unk>", "<na>", "<nolang>")
_LAST = ("<sos>", "<eos>", "<sop>")
_TOKENS_FILE = "tokens.txt"
_MODEL_FILE = "tokens.model"

# sentencepiece skips sentences above this many bytes without a word; its own default loses long menus.
_MAX_SENTENCE_BYTES = 1 << 20
# With bytes to fall back on, the rarest characters of a mix need no pieces of their own.
_COVERAGE = 0.9998


_LANGUAGE = re.compile("<[a-z]{3}>")
NOT_LANGUAGES = frozenset({*_FIRST, *_LAST, "<asr>"})


def _is_special(token: str) -> bool:
    """Whether it is a symbol such as <sos> or <1.20>, neither text nor a byte (<0x0A>)."""
    return bool(re.fullmatch(r"<(?!0x)[^<>\s]+>", token))


class Tokens(Protocol):
    """What a model's tokens can do, whether sentencepiece's or Whisper's; see ``Tokenizer``."""

    languages: tuple[str, ...]
    tasks: tuple[str, ...]
    token_list: list[str]
    specials: frozenset[int]
    bytes: frozenset[int]
    sos: int
    eos: int
    blank: Any  # None where the model has no CTC
    suppressed: frozenset[int]
    suppressed_first: frozenset[int]

    def __len__(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def prompt(self, task: Task) -> list[int]: ...
    def save(self, folder: Path | str) -> None: ...


class Tokenizer:
    """Encode normalised text; know the special symbols.

    ``token_list`` is every token in the order of the ids; ``specials`` the ids that are not pieces of text;
    ``bytes`` those of single bytes, of which any text can be made (none without byte fallback);
    ``suppressed`` and ``suppressed_first`` pieces of text never to be written, or not as the first one: none here.
    """

    suppressed: frozenset[int] = frozenset()
    suppressed_first: frozenset[int] = frozenset()

    def __init__(
        self, languages: Sequence[str], tasks: Sequence[str], model: bytes, token_list: Sequence[str] | None = None
    ) -> None:
        """``languages`` and ``tasks`` are symbols ("<deu>", "<asr>"); ``model`` is sentencepiece's serialized model.

        ``token_list`` gives another order of the tokens, or more of them, as published models have.
        """
        self.languages = tuple(sorted(set(languages)))
        self.tasks = tuple(sorted(set(tasks)))
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._pieces.id_to_piece(piece) for piece in range(self._pieces.get_piece_size())]
        if token_list is None:
            # Piece 0 is sentencepiece's own unknown, which `<unk>` stands for here.
            token_list = [*_FIRST, *self.languages, *self.tasks, NO_TIMESTAMPS, *pieces[1:], *_LAST]
        self.token_list: list[str] = list(token_list)
        self._ids = {token: i for i, token in enumerate(self.token_list)}
        # A published model's pieces include the special symbols, which are never text here.
        text = {piece: i for i, piece in enumerate(pieces) if not _is_special(piece)}
        self._piece_of = {self._ids[piece]: i for piece, i in text.items() if piece in self._ids}
        self._complete = len(self._piece_of) == len(text)
        self._token_of = {piece: token for token, piece in self._piece_of.items()}
        self.specials = frozenset(range(len(self.token_list))) - self._piece_of.keys()
        self.bytes = frozenset(i for i, piece in self._piece_of.items() if self._pieces.is_byte(piece))
        self.blank, self.unk, self.na = (self._ids[symbol] for symbol in _FIRST[:3])
        self.sos, self.eos, self.sop = (self._ids[symbol] for symbol in _LAST)

    def __len__(self) -> int:
        return len(self.token_list)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a normalised text; what no piece covers becomes ``unk``."""
        return [self._token_of.get(piece, self.unk) for piece in self._pieces.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``; special symbols are dropped.

        Raises:
            IndexError: an id outside the token list.
        """
        ids = list(ids)
        for token in ids:
            if not 0 <= token < len(self.token_list):
                raise IndexError(f"token id {token} is outside the {len(self.token_list)} tokens")
        return self._pieces.decode([self._piece_of[token] for token in ids if token not in self.specials])

    def prompt(self, task: Task) -> list[int]:
        """Return the ids of the language, task and no-timestamps symbols that follow ``<sos>``.

        Raises:
            ConfigError: the tokenizer was trained without this language or task.
        """
        for kind, symbol, known in (
            ("language", task.language_symbol, self.languages),
            ("task", task.task_symbol, self.tasks),
        ):
            if symbol not in known:
                raise ConfigError(f"task {task}: the tokenizer has no {kind} {symbol}; it knows {', '.join(known)}")
        return [self._ids[symbol] for symbol in (task.language_symbol, task.task_symbol, NO_TIMESTAMPS)]

    @classmethod
    def train(
        cls, texts: Iterable[str], tasks: Sequence[Task], units: Units, vocab_size: int, byte_fallback: bool = False
    ) -> "Tokenizer":
        """Learn pieces from normalised ``texts``.

        ``vocab_size`` counts the pieces, specials aside: "bpe" learns exactly that many, "unigram" at most;
        "char" takes every character there is and ignores it.  With ``byte_fallback`` a character that no piece covers
        is written as its UTF-8 bytes (256 of the pieces) instead of ``unk``, so that any text survives.

        Raises:
            ConfigError: unknown units, no task, no text, a fallback for characters, or more pieces asked for than the
                texts hold.
        """
        if units not in ("char", "bpe", "unigram"):
            raise ConfigError(f"unknown units {units!r}: use char, bpe or unigram")
        if byte_fallback and units == "char":
            raise ConfigError("byte_fallback needs units bpe or unigram: char covers its texts without it")
        if not tasks:
            raise ConfigError("a tokenizer needs at least one task, such as 'asr:deu'")
        texts = [text for text in texts if text.strip()]
        if not texts:
            raise ConfigError("no text to train a tokenizer on")
        model = io.BytesIO()
        options = {
            "model_type": units,
            "vocab_size": vocab_size + 1,  # and the unknown
            "character_coverage": 1.0,
            "normalization_rule_name": "identity",  # normalised already
            # For subwords it makes a word's piece the same at the start and within; as a character it would be idle.
            "add_dummy_prefix": units != "char",
            "unk_id": 0,
            "bos_id": -1,
            "eos_id": -1,
            "pad_id": -1,
            "num_threads": 1,
            "max_sentence_length": _MAX_SENTENCE_BYTES,
            "minloglevel": 2,
        }
        if units == "char":
            options |= {"vocab_size": len(set("".join(texts))) + 2, "use_all_vocab": True}
        if byte_fallback:
            options |= {"byte_fallback": True, "character_coverage": _COVERAGE}
        if units == "unigram":
            options |= {"hard_vocab_limit": False}
        try:
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(texts), model_writer=model, **options)
        except RuntimeError as error:
            detail = str(error).rpartition("] ")[2]  # without the place in C++
            raise ConfigError(
                f"{vocab_size} {units} pieces cannot be learnt from {len(texts)} texts: {detail}"
            ) from error
        return cls([task.language_symbol for task in tasks], [task.task_symbol for task in tasks], model.getvalue())

    def save(self, folder: Path | str) -> None:
        """Write tokens.txt, one token a line in the order of the ids, and tokens.model."""
        folder = Path(folder)
        with atomic_path(folder / _MODEL_FILE) as temporary:
            temporary.write_bytes(self._model)
        write_text(folder / _TOKENS_FILE, "\n".join(self.token_list) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> "Tokenizer":
        """Read what ``save`` wrote.

        Raises:
            CheckpointError: a file is missing or damaged, or the two do not belong together.
        """
        tokens_file, model_file = Path(folder) / _TOKENS_FILE, Path(folder) / _MODEL_FILE
        try:
            tokens = tokens_file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            model = model_file.read_bytes()
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"no usable tokenizer in {folder}: {error}; train one with `tokenize`") from error
        if NO_TIMESTAMPS not in tokens:
            raise CheckpointError(f"{tokens_file} has no {NO_TIMESTAMPS} token: not a tokenizer of this project")
        return cls.of_tokens(tokens, model, str(model_file))

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], model: bytes, where: str) -> "Tokenizer":
        """The tokenizer with just these ``tokens``, in this order, on sentencepiece's ``model``, read from ``where``.

        Raises:
            CheckpointError: special symbols are missing, the model is damaged, or the two do not belong together.
        """
        if missing := {*_FIRST[:3], *_LAST, NO_TIMESTAMPS} - set(tokens):
            raise CheckpointError(f"the tokens that go with {where} lack {', '.join(sorted(missing))}")
        tasks = [symbol for symbol in tokens if symbol == "<asr>" or symbol.startswith("<st_")]
        languages = [symbol for symbol in tokens if _LANGUAGE.fullmatch(symbol) and symbol not in NOT_LANGUAGES]
        try:
            if not model:
                raise RuntimeError("it is empty")  # which sentencepiece would take for a model without pieces
            tokenizer = cls(languages, tasks, model, tokens)
        except RuntimeError as error:
            raise CheckpointError(f"{where} is not a sentencepiece model: {error}") from error
        text = [token for token in tokens if not _is_special(token)]
        if not tokenizer._complete or len(tokenizer._piece_of) != len(text) or len(set(tokens)) != len(tokens):
            raise CheckpointError(f"the tokens and {where} disagree: they come from two different tokenizers")
        return tokenizer

    def extended(self, symbols: Sequence[str]) -> "Tokenizer":
        """The same with more language or task symbols ("<swa>", "<st_swa>"), after those that it has.

        Raises:
            ConfigError: a symbol is neither, or is known already.
        """
        for symbol in symbols:
            is_task = symbol == "<asr>" or symbol.startswith("<st_")
            if symbol in self._ids or not (is_task or _LANGUAGE.fullmatch(symbol)):
                raise ConfigError(f"symbol {symbol!r} is known already, or neither a language such as <swa> nor a task")
        at = self._ids[NO_TIMESTAMPS]
        tokens = [*self.token_list[:at], *symbols, *self.token_list[at:]]
        return Tokenizer.of_tokens(tokens, self._model, "the tokenizer's model")
