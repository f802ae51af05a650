"""From text to token ids and back: sentencepiece's pieces behind the special symbols of OWSM's prompt.

Order of the ids: ``<blank> <unk> <na> <nolang>``, languages, tasks, ``<notimestamps>``, pieces, ``<sos> <eos> <sop>``.
"""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

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


class Tokenizer:
    """Encode normalised text; know the special symbols.

    ``token_list`` is every token in the order of the ids; ``specials`` the ids that are not pieces of text.
    """

    def __init__(self, languages: Sequence[str], tasks: Sequence[str], model: bytes) -> None:
        """``languages`` and ``tasks`` are symbols ("<deu>", "<asr>"); ``model`` is sentencepiece's serialized model."""
        self.languages = tuple(sorted(set(languages)))
        self.tasks = tuple(sorted(set(tasks)))
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        # Piece 0 is sentencepiece's own unknown, which `<unk>` stands for here.
        pieces = [self._pieces.id_to_piece(piece) for piece in range(1, self._pieces.get_piece_size())]
        head = [*_FIRST, *self.languages, *self.tasks, NO_TIMESTAMPS]
        self.token_list: list[str] = [*head, *pieces, *_LAST]
        self._first_piece = len(head)
        self._end_of_pieces = len(head) + len(pieces)
        self.specials = frozenset(range(len(head))) | frozenset(range(self._end_of_pieces, len(self.token_list)))
        self.blank, self.unk, self.na = 0, 1, 2
        self.sos, self.eos, self.sop = range(self._end_of_pieces, self._end_of_pieces + len(_LAST))

    def __len__(self) -> int:
        return len(self.token_list)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a normalised text; what no piece covers becomes ``unk``."""
        ids = self._pieces.encode(text)
        return [self._first_piece + piece - 1 if piece else self.unk for piece in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``; special symbols are dropped.

        Raises:
            IndexError: an id outside the token list.
        """
        ids = list(ids)
        for token in ids:
            if not 0 <= token < len(self.token_list):
                raise IndexError(f"token id {token} is outside the {len(self.token_list)} tokens")
        return self._pieces.decode([token - self._first_piece + 1 for token in ids if token not in self.specials])

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
        languages = len(_FIRST)
        tasks = languages + len(self.languages)
        return [
            languages + self.languages.index(task.language_symbol),
            tasks + self.tasks.index(task.task_symbol),
            tasks + len(self.tasks),
        ]

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
        middle = tokens[len(_FIRST) : tokens.index(NO_TIMESTAMPS)]
        tasks = [symbol for symbol in middle if symbol == "<asr>" or symbol.startswith("<st_")]
        try:
            if not model:
                raise RuntimeError("it is empty")  # which sentencepiece would take for a model without pieces
            tokenizer = cls([symbol for symbol in middle if symbol not in tasks], tasks, model)
        except RuntimeError as error:
            raise CheckpointError(f"{model_file} is not a sentencepiece model: {error}") from error
        if tokenizer.token_list != tokens:
            raise CheckpointError(f"{tokens_file} and {model_file} disagree: they come from two different tokenizers")
        return tokenizer
