"""Whether a text is written in its language's script.

The language's usual script is that of CLDR's likely subtags; a letter's script is the first word of its Unicode name.
"""

import unicodedata
from functools import lru_cache

from langcodes import Language

# ISO 15924 codes to what Unicode names begin with; a language whose script is not here is not checked.
_NAMES = {
    "Arab": {"ARABIC"},
    "Armn": {"ARMENIAN"},
    "Beng": {"BENGALI"},
    "Cyrl": {"CYRILLIC"},
    "Deva": {"DEVANAGARI"},
    "Ethi": {"ETHIOPIC"},
    "Geor": {"GEORGIAN"},
    "Grek": {"GREEK"},
    "Gujr": {"GUJARATI"},
    "Guru": {"GURMUKHI"},
    "Hans": {"CJK"},
    "Hant": {"CJK"},
    "Hebr": {"HEBREW"},
    "Jpan": {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"},
    "Khmr": {"KHMER"},
    "Knda": {"KANNADA"},
    "Kore": {"HANGUL", "CJK"},
    "Laoo": {"LAO"},
    "Latn": {"LATIN"},
    "Mlym": {"MALAYALAM"},
    "Mymr": {"MYANMAR"},
    "Orya": {"ORIYA"},
    "Taml": {"TAMIL"},
    "Telu": {"TELUGU"},
    "Thai": {"THAI"},
}
# Written in two scripts, or with letters of another one (Mboshi's ε and ω).
_ALSO = {
    "srp": {"LATIN"},
    "uzb": {"CYRILLIC"},
    "mon": {"CYRILLIC"},
    "aze": {"CYRILLIC"},
    "kaz": {"LATIN"},
    "mdw": {"GREEK"},
}


@lru_cache
def scripts_of(lang3: str) -> frozenset[str]:
    """The scripts of a language, as Unicode names begin; empty where they are not known."""
    usual = _NAMES.get(Language.get(lang3).maximize().script or "", set())
    return frozenset(usual | _ALSO.get(lang3, set())) if usual else frozenset()


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]


def script_share(text: str, lang3: str) -> float:
    """The share of the letters of ``text`` that belong to the language's script; 1 where there is nothing to judge."""
    expected = scripts_of(lang3)
    letters = [character for character in text if character.isalpha()]
    if not expected or not letters:
        return 1.0
    return sum(_script(letter) in expected for letter in letters) / len(letters)
