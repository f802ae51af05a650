"""Whisper's byte-pair tokens and prompts behind the interface of ``speechgate.text.tokenizer.Tokenizer``.

A prompt is ``<|startoftranscript|> <|de|> <|transcribe|> <|notimestamps|>``; X->en has ``<|translate|>``.  Languages
that Whisper does not know, and other target languages, get symbols of their own after Whisper's vocabulary:
``<|mdw|>``, and ``<|translate_fra|>`` in the place of ``<|translate|>``.  They are learnt by fine-tuning.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import write_json, write_text
from speechgate.task import Task, to_iso3

TOKENIZER_FILE, RULES_FILE = "tokenizer.json", "whisper.json"
_SOT, _EOT = "<|startoftranscript|>", "<|endoftext|>"
TRANSCRIBE, TRANSLATE, _NO_TIMESTAMPS = "<|transcribe|>", "<|translate|>", "<|notimestamps|>"
_SECONDS_A_TIMESTAMP = 0.02
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


class WhisperTokens:
    """Encode text; know the special symbols.

    Attributes:
        languages, tasks: this project's symbols ("<deu>", "<asr>", "<st_eng>") that prompts can be made of.
        language_ids: the ids of the former.
        token_list: every token in the order of the ids.
        specials: the ids that are not text.
        bytes: those of single bytes, of which any text can be made.
        suppressed, suppressed_first: ids that Whisper's generation never writes, or not as the first token.
        added: the symbols after Whisper's own vocabulary.
    """

    blank = None  # Whisper has no CTC

    def __init__(self, tokenizer: str, rules: dict[str, Any]) -> None:
        """``tokenizer`` is the text of a tokenizer.json; ``rules`` what whisper.json holds.

        Raises:
            CheckpointError: it is not a multilingual Whisper's tokenizer.
        """
        try:
            self._json, self._rules = tokenizer, dict(rules)
            self._pieces = tokenizers.Tokenizer.from_str(tokenizer)
            self._whisper_size: int = rules["vocab_size"]
            self.added: tuple[str, ...] = tuple(rules["added"])
            self.suppressed, self.suppressed_first = (
                frozenset(rules["suppressed"]),
                frozenset(rules["suppressed_first"]),
            )
        except Exception as error:  # tokenizers raises nothing more exact
            raise CheckpointError(f"{TOKENIZER_FILE} or {RULES_FILE} is damaged ({error})") from error
        missing = [each for each in (_SOT, _EOT, TRANSCRIBE, TRANSLATE, _NO_TIMESTAMPS) if self._id(each) is None]
        if missing:
            raise CheckpointError(
                f"{TOKENIZER_FILE} has no {', '.join(missing)}: choose a multilingual Whisper, not an English one"
            )
        self.sos, self.eos = self._known(_SOT), self._known(_EOT)
        first = self._known(_NO_TIMESTAMPS) + 1  # of the times, which tokenizer.json may lack
        times = (f"<|{(i - first) * _SECONDS_A_TIMESTAMP:.2f}|>" for i in range(self._whisper_size))
        known = [self._pieces.id_to_token(i) or time for i, time in enumerate(times)]
        self.token_list: list[str] = [*known, *self.added]
        self.specials = frozenset(range(self.eos, len(self.token_list)))
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        self.bytes = frozenset(i for i, token in enumerate(self.token_list[: self.eos]) if token in alphabet)
        self.language_ids = self._languages()
        self._task_ids = {"<asr>": self._known(TRANSCRIBE), "<st_eng>": self._known(TRANSLATE)}
        for place, symbol in enumerate(self.added, self._whisper_size):
            if symbol.startswith("<|translate_"):
                self._task_ids[f"<st_{symbol[12:15]}>"] = place
        self.languages, self.tasks = tuple(sorted(self.language_ids)), tuple(sorted(self._task_ids))

    def __len__(self) -> int:
        return len(self.token_list)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; it begins with a space, as Whisper's do."""
        return self._pieces.encode(f" {text}", add_special_tokens=False).ids if text else []

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; special symbols are dropped.

        Raises:
            IndexError: an id outside the token list.
        """
        ids = list(ids)
        for token in ids:
            if not 0 <= token < len(self.token_list):
                raise IndexError(f"token id {token} is outside the {len(self.token_list)} tokens")
        return self._pieces.decode([token for token in ids if token not in self.specials]).strip()

    def prompt(self, task: Task) -> list[int]:
        """The ids that follow ``<|startoftranscript|>``.

        Raises:
            ConfigError: the model was not made for this language or target.
        """
        for kind, symbol, known in (
            ("language", task.language_symbol, self.language_ids),
            ("task", task.task_symbol, self._task_ids),
        ):
            if symbol not in known:
                raise ConfigError(f"task {task}: this Whisper has no {kind} {symbol}: fine-tune it for {task}")
        return [
            self.language_ids[task.language_symbol],
            self._task_ids[task.task_symbol],
            self._known(_NO_TIMESTAMPS),
        ]

    def extended(self, tasks: Sequence[Task]) -> "WhisperTokens":
        """The same with symbols for the languages and targets of ``tasks`` that it lacks."""
        new = [f"<|{task.src}|>" for task in tasks if task.language_symbol not in self.language_ids]
        new += [f"<|translate_{task.tgt}|>" for task in tasks if task.task_symbol not in self._task_ids]
        added = list(dict.fromkeys([*self.added, *sorted(set(new))]))
        return WhisperTokens(self._json, self._rules | {"added": added})

    def pieces(self) -> tokenizers.Tokenizer:
        """A tokenizer that has every id of ``token_list``."""
        pieces = tokenizers.Tokenizer.from_str(self._json)
        missing = self.token_list[pieces.get_vocab_size() :]
        pieces.add_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in missing])
        return pieces

    def like(self, symbol: str) -> list[int]:
        """The ids of Whisper's own that an added symbol is like: its embedding begins as their mean."""
        if symbol.startswith("<|translate_"):
            return [self._known(TRANSLATE)]
        return [place for place in self.language_ids.values() if place < self._whisper_size]

    def save(self, folder: Path | str) -> None:
        write_text(Path(folder) / TOKENIZER_FILE, self._json)
        write_json(Path(folder) / RULES_FILE, self._rules)

    @classmethod
    def load(cls, folder: Path | str) -> "WhisperTokens":
        """Read what ``save`` wrote.

        Raises:
            CheckpointError: a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            text = (folder / TOKENIZER_FILE).read_text(encoding="utf-8")
            rules = json.loads((folder / RULES_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"no usable Whisper tokenizer in {folder}: {error}") from error
        return cls(text, rules)

    @classmethod
    def of_pretrained(cls, tokenizer: Any, generation: Any, vocab_size: int) -> "WhisperTokens":
        """Those of transformers' tokenizer and generation configuration."""
        rules = {
            "vocab_size": vocab_size,
            "added": [],
            "suppressed": list(generation.suppress_tokens or []),
            "suppressed_first": list(generation.begin_suppress_tokens or []),
        }
        return cls(tokenizer.backend_tokenizer.to_str(), rules)

    def _id(self, token: str) -> int | None:
        return self._pieces.token_to_id(token)

    def _known(self, token: str) -> int:
        place = self._id(token)
        assert place is not None
        return place

    def _languages(self) -> dict[str, int]:
        """Language symbols of this project to ids: what stands between the start and the tasks, and what was added."""
        found = {}
        for place in range(self.sos + 1, self._known(TRANSLATE)):
            code = _LANGUAGE.fullmatch(self._pieces.id_to_token(place) or "")
            if code:
                found[f"<{to_iso3(code[1])}>"] = place
        for place, symbol in enumerate(self.added, self._whisper_size):
            if code := _LANGUAGE.fullmatch(symbol):
                found[f"<{code[1]}>"] = place
        return found
