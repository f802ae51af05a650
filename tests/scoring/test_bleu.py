"""BLEU and chrF against values made by hand and against sacrebleu's own corpus score."""

import math

import pytest
from sacrebleu.metrics import BLEU, CHRF

from speechgate.errors import ManifestError
from speechgate.scoring.bleu import tokenizer_for, translation_score

REFERENCES = ["the cat sat on the mat", "please enter your password now", "you have no new messages at all"]
HYPOTHESES = ["the cat sat on a mat", "please enter the password", "you have no messages"]
IDS = ["a", "b", "c"]


def test_bleu_by_hand() -> None:
    # 6 words against 6: 5/6 words, 3/5 pairs, 2/4 triples and 1/3 quadruples are right, no brevity penalty.
    score = translation_score("bleu", ["a"], REFERENCES[:1], HYPOTHESES[:1], "eng")
    assert score.value == pytest.approx(100 * math.prod((5 / 6, 3 / 5, 2 / 4, 1 / 3)) ** (1 / 4))


def test_brevity_penalty_by_hand() -> None:
    score = translation_score("bleu", ["a"], ["a b c d e f"], ["a b c d"], "eng")
    assert score.value == pytest.approx(100 * math.exp(1 - 6 / 4))


@pytest.mark.parametrize(("metric", "scorer"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_corpus_score_is_sacrebleus(metric: str, scorer: BLEU | CHRF) -> None:
    score = translation_score(metric, IDS, REFERENCES, HYPOTHESES, "eng")
    assert score.value == pytest.approx(scorer.corpus_score(HYPOTHESES, [REFERENCES]).score)


def test_case_and_punctuation_do_not_count() -> None:
    score = translation_score(
        "bleu", ["a"], ["Please, enter your password now."], ["please enter your password now"], "eng"
    )
    assert score.value == pytest.approx(100)
    assert "case:lc" in score.signature
    assert "tok:13a" in score.signature
    assert score.signature.endswith("|norm:speechgate.text.normalize.normalize_for_scoring")


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [("eng", "13a"), ("zho", "zh"), ("jpn", "ja-mecab"), ("kor", "ko-mecab"), ("tha", "char")],
)
def test_tokenizer_by_target_language(language: str, tokenizer: str) -> None:
    assert tokenizer_for(language) == tokenizer


@pytest.mark.parametrize("reference", ["", "  ", "..."])
def test_an_empty_reference_names_the_cut(reference: str) -> None:
    with pytest.raises(ManifestError, match="cut fra-vm_7: the reference translation is empty"):
        translation_score("bleu", ["fra-vm_7"], [reference], ["hello"], "eng")
