import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechgate.text.normalize import fold, folded_languages, normalize_for_scoring, normalize_for_training

LANGUAGES = st.sampled_from(["eng", "spa", "fra", "ita", "rus", "hin", "tur"])

# language, natural text, for training, for scoring
TABLE = [
    ("eng", "Goodbye!  Thank you.", "goodbye thank you", "goodbye thank you"),
    ("eng", "You can't; it's 5 o’clock", "you can't it's 5 o'clock", "you cant its 5 oclock"),
    ("eng", "'quoted' and \"quoted\"", "quoted and quoted", "quoted and quoted"),
    ("eng", "Re-record at 28.8 kilobit, H.323", "re record at 28 8 kilobit h 323", "re record at 28 8 kilobit h 323"),
    ("eng", "Press * then # ...", "press star then pound", "press star then pound"),
    ("eng", "ﬁle № １２", "file no 12", "file no 12"),
    ("spa", "Opción inválida: ¿mañana?", "opción inválida mañana", "opción inválida mañana"),
    ("spa", "Presione * o #", "presione asterisco o tecla de numero", "presione asterisco o tecla de numero"),
    ("fra", "L'écoute, à l’aide…", "l'écoute à l'aide", "l écoute à l aide"),
    ("fra", "aujourd'hui: #", "aujourd'hui dièse", "aujourd hui dièse"),
    ("ita", "Benvenuto nell’elenco. E' in uso", "benvenuto nell'elenco e in uso", "benvenuto nell elenco e in uso"),
    ("rus", "Ещё раз: «Решётка»", "ещё раз решётка", "ещё раз решётка"),
    ("rus", "чёрный (мой) ПИН-код", "чёрный мой пин код", "чёрный мой пин код"),
    ("deu", "Straße – ÄÖÜ", "straße äöü", "straße äöü"),
    ("deu", "STRAẞE 1933", "straße 1933", "straße 1933"),
    ("fra", "C'est l'été ; où ça ?", "c'est l'été où ça", "c est l été où ça"),
    ("ita", "Cos'è? Perché un po' no", "cos'è perché un po no", "cos è perché un po no"),
    ("zho", "你好，世界！ABC１２", "你好 世界 abc12", "你好 世界 abc12"),
    ("jpn", "「コーヒー」を２杯。", "コーヒー を2杯", "コーヒー を2杯"),
    ("kor", "안녕하세요, 세계!", "안녕하세요 세계", "안녕하세요 세계"),
    ("ben", "আমি বাংলায়।", unicodedata.normalize("NFKC", "আমি বাংলায়"), unicodedata.normalize("NFKC", "আমি বাংলায়")),
    ("mdw", "ngá odi la mwána", "ngá odi la mwána", "ngá odi la mwána"),
    ("tur", "İstanbul", "i\u0307stanbul", "i\u0307stanbul"),
    # Marks that the letters of these scripts cannot do without.
    ("hin", "हिन्दी में।", "हिन्दी में", "हिन्दी में"),
    ("tam", "தமிழ்!", "தமிழ்", "தமிழ்"),
    ("tha", "ภาษาไทยที่นี่", unicodedata.normalize("NFKC", "ภาษาไทยที่นี่"), unicodedata.normalize("NFKC", "ภาษาไทยที่นี่")),
    ("ara", "مَرْحَبًا، بك؟", "مَرْحَبًا بك", "مَرْحَبًا بك"),
    ("fas", "می\u200cخواهم", "می\u200cخواهم", "می\u200cخواهم"),
    ("eng", "co\u00adoperate\u200b", "cooperate", "cooperate"),
    ("eng", " .,!? ", "", ""),
]


@pytest.mark.parametrize(("lang3", "text", "training", "scoring"), TABLE)
def test_table(lang3: str, text: str, training: str, scoring: str) -> None:
    assert normalize_for_training(text, lang3) == training
    assert normalize_for_scoring(text, lang3) == scoring


@given(st.text(), LANGUAGES)
def test_normalising_twice_changes_nothing(text: str, lang3: str) -> None:
    for normalize in (normalize_for_training, normalize_for_scoring):
        once = normalize(text, lang3)
        assert normalize(once, lang3) == once


@given(st.text(), LANGUAGES)
def test_scoring_does_not_depend_on_the_training_form(text: str, lang3: str) -> None:
    """A model writes the training form; its score must be that of the natural text."""
    assert normalize_for_scoring(normalize_for_training(text, lang3), lang3) == normalize_for_scoring(text, lang3)


@given(st.text(), LANGUAGES)
def test_only_words_remain(text: str, lang3: str) -> None:
    for word in normalize_for_training(text, lang3).split(" "):
        assert all(unicodedata.category(c)[0] in "LMN" or c in "'\u200c\u200d" for c in word)
    assert normalize_for_training(text, lang3) == normalize_for_training(text, lang3).strip()


@pytest.mark.parametrize(
    ("corpus", "lang3", "text", "folded"),
    [
        ("prompts", "spa", "¿Opción ÚNICA, mañana?", "¿Opcion UNICA, mañana?"),
        ("prompts", "spa", unicodedata.normalize("NFD", "Opción mañana"), "Opcion mañana"),
        ("prompts", "rus", "Ещё: Ёлка, йод", "Еще: Елка, йод"),
        ("prompts", "fra", "où ça, déjà", "où ça, déjà"),
        ("covost2", "spa", "Opción", "Opción"),
        ("common_voice", "rus", "ещё", "ещё"),
    ],
)
def test_only_a_corpus_without_accents_has_them_folded(corpus: str, lang3: str, text: str, folded: str) -> None:
    assert fold(text, lang3, corpus) == folded
    assert (lang3 in folded_languages(corpus)) == (fold("áёé", lang3, corpus) != "áёé")


@given(st.text("aáÁeéñÑüиИеЕёЁ 'b"), st.sampled_from(["spa", "rus", "fra"]))
def test_folding_commutes_with_normalising(text: str, lang3: str) -> None:
    """So that texts may be folded when they are read, long before they are normalised."""
    normalized = normalize_for_training(fold(text, lang3, "prompts"), lang3)
    assert normalized == fold(normalize_for_training(text, lang3), lang3, "prompts")
