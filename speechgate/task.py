"""What a model is asked to do with a recording: the one source of language and task symbols.

A task is written ``asr:deu`` or ``st:deu-eng``.  Languages are ISO 639-3; two-letter codes are accepted on entry.
The symbols are OWSM's (Peng et al., ASRU 2023): ``<deu>`` for the spoken language, ``<asr>`` or ``<st_eng>``.
"""

from dataclasses import dataclass
from typing import Literal

from langcodes import Language, tag_is_valid

from speechgate.errors import ConfigError

KINDS = ("asr", "st")
NO_TIMESTAMPS = "<notimestamps>"


def to_iso3(code: str) -> str:
    """Return the ISO 639-3 code of a two- or three-letter language code.

    Raises:
        ConfigError: ``code`` is not a language.
    """
    tag = code.strip().lower()
    if not (tag.isascii() and tag.isalpha() and len(tag) in (2, 3) and tag_is_valid(tag)):
        raise ConfigError(f"unknown language {code!r}: give a two- or three-letter ISO 639 code such as 'de' or 'deu'")
    return Language.get(tag).to_alpha3()


@dataclass(frozen=True, order=True)
class Task:
    """One task: ``kind`` is "asr" or "st", ``src`` the spoken language, ``tgt`` the language written (ISO 639-3)."""

    kind: Literal["asr", "st"]
    src: str
    tgt: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"unknown task kind {self.kind!r}: use one of {', '.join(KINDS)}")
        if (self.kind == "asr") != (self.src == self.tgt):
            raise ConfigError(
                f"task {self.kind} from {self.src!r} to {self.tgt!r}: asr writes the language it hears, st another"
            )

    @classmethod
    def asr(cls, src: str) -> "Task":
        return cls("asr", to_iso3(src), to_iso3(src))

    @classmethod
    def st(cls, src: str, tgt: str) -> "Task":
        return cls("st", to_iso3(src), to_iso3(tgt))

    @classmethod
    def parse(cls, text: str) -> "Task":
        """Read ``asr:deu`` or ``st:deu-eng``.

        Raises:
            ConfigError: the text has another form or names an unknown language.
        """
        kind, _, languages = text.partition(":")
        src, _, tgt = languages.partition("-")
        if kind == "asr" and src and not tgt:
            return cls.asr(src)
        if kind == "st" and src and tgt:
            return cls.st(src, tgt)
        raise ConfigError(f"unknown task {text!r}: write 'asr:deu' or 'st:deu-eng'")

    def __str__(self) -> str:
        return f"asr:{self.src}" if self.kind == "asr" else f"st:{self.src}-{self.tgt}"

    @property
    def language_symbol(self) -> str:
        return f"<{self.src}>"

    @property
    def task_symbol(self) -> str:
        return "<asr>" if self.kind == "asr" else f"<st_{self.tgt}>"

    @property
    def prompt(self) -> tuple[str, str, str]:
        """The symbols that the decoder is given after ``<sos>``."""
        return self.language_symbol, self.task_symbol, NO_TIMESTAMPS
