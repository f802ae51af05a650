"""One spelling of a text for training, and one for scoring.

Both are: NFKC, lower case, punctuation off, white space squeezed.  Letters, digits and combining marks stay, so that
Brahmic, Thai and Arabic texts survive.  Numbers are left as they are written.  Languages are ISO 639-3.

A corpus whose writers did not agree on a spelling has it folded where its texts are read: see `fold`.
"""

import re
import unicodedata

APOSTROPHE = "'"
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ`´＇", APOSTROPHE))

# Zero-width joiner and non-joiner change how Indic and Persian words are spelt; other format characters are noise.
_JOINERS = "\u200c\u200d"

# Telephone menus read the keys aloud, so dropping them as punctuation would leave audio without text.
_SPOKEN_KEYS = {
    "eng": {"*": "star", "#": "pound"},
    "spa": {"*": "asterisco", "#": "tecla de numero"},
    "fra": {"*": "étoile", "#": "dièse"},
    "ita": {"*": "asterisco", "#": "cancelletto"},
    "rus": {"*": "звездочка", "#": "решетка"},
}

# By corpus and language: letters that its texts have in some words and lack in others alike.
_FOLDED = {
    "prompts": {
        "spa": str.maketrans("áéíóúÁÉÍÓÚ", "aeiouAEIOU"),
        "rus": str.maketrans("ёЁ", "еЕ"),
    },
}

# "l'ordine" is two words; in English the apostrophe is a matter of spelling inside one ("can't", "o'clock").
_APOSTROPHE_WHEN_SCORING = {"eng": "", "fra": " ", "ita": " "}


def folded_languages(corpus: str) -> frozenset[str]:
    """The languages whose spelling `fold` makes uniform in a corpus; most corpora have none."""
    return frozenset(_FOLDED.get(corpus, ()))


def fold(text: str, lang3: str, corpus: str) -> str:
    """Return a text of ``corpus`` without the letters that its writers left out as often as not.

    Spanish acute accents and the Russian ё in `prompts`.  They can neither be learnt from such texts nor scored by
    them; other corpora keep theirs.
    """
    table = _FOLDED.get(corpus, {}).get(lang3)
    return text if table is None else unicodedata.normalize("NFC", text).translate(table)


def normalize_for_training(text: str, lang3: str) -> str:
    """Return the form that models learn to write; apostrophes between two letters stay."""
    for key, spoken in _SPOKEN_KEYS.get(lang3, {}).items():
        text = text.replace(key, f" {spoken} ")
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).lower()
    # Lower case may take characters apart (the Turkish İ) that composed forms are compared with.
    kept = unicodedata.normalize("NFKC", text).translate(_KEPT)
    return " ".join(re.sub(r"(?<!\w)'|'(?!\w)", " ", kept).split())


def normalize_for_scoring(text: str, lang3: str) -> str:
    """Return the form that error rates compare: the training form with the language's apostrophes resolved."""
    text = normalize_for_training(text, lang3)
    return " ".join(text.replace(APOSTROPHE, _APOSTROPHE_WHEN_SCORING.get(lang3, APOSTROPHE)).split())


class _Kept(dict[int, str]):
    """What becomes of each code point, found out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = _keep(chr(code))
        return self[code]


def _keep(character: str) -> str:
    """Return the character, a space where it separates words, or nothing where it has no width."""
    category = unicodedata.category(character)
    if category[0] in "LMN" or character == APOSTROPHE or character in _JOINERS:
        return character
    return "" if category == "Cf" else " "


_KEPT = _Kept()
