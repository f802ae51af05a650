"""BLEU and chrF2 by sacrebleu, on normalised (hence lower-cased) text with a single reference.

Per-utterance statistics and the score of their sums are sacrebleu's own (the two functions its bootstrap is made of).
"""

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from speechgate.errors import ConfigError, ManifestError
from speechgate.scoring.metric import NORMALIZER, UNSEGMENTED, MetricStatistics
from speechgate.text.normalize import normalize_for_scoring

_TOKENIZERS = {"zho": "zh", "cmn": "zh", "yue": "zh", "jpn": "ja-mecab", "kor": "ko-mecab"}


def tokenizer_for(language: str) -> str:
    """The sacrebleu tokenizer for a target language (ISO 639-3)."""
    return _TOKENIZERS.get(language, "char" if language in UNSEGMENTED else "13a")


def translation_score(
    metric: str, ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], language: str
) -> MetricStatistics:
    """BLEU or chrF2 of hypotheses in one target language.

    Raises:
        ManifestError: a reference is empty, before or after normalising.
        ConfigError: the language's tokenizer needs a package that is not installed.
    """
    scorer = _scorer(metric, language)
    references = [normalize_for_scoring(text, language) for text in references]
    for cut_id, reference in zip(ids, references, strict=True):
        if not reference.strip():
            raise ManifestError(f"cut {cut_id}: the reference translation is empty; filter it out of the split")
    hypotheses = [normalize_for_scoring(text, language) for text in hypotheses]
    statistics_UK = np.asarray(scorer._extract_corpus_statistics(hypotheses, [references]), dtype=np.int64)

    def score_sums(sums_RK: np.ndarray) -> np.ndarray:
        return np.array([scorer._compute_score_from_stats(sums).score for sums in sums_RK.tolist()])

    return MetricStatistics(metric, f"{scorer.get_signature()}|norm:{NORMALIZER}", statistics_UK, score_sums)


def _scorer(metric: str, language: str) -> BLEU | CHRF:
    if metric == "chrf":
        return CHRF(lowercase=True)
    tokenizer = tokenizer_for(language)
    try:
        return BLEU(lowercase=True, tokenize=tokenizer)
    except RuntimeError as error:  # sacrebleu's way of saying that MeCab is missing
        raise ConfigError(
            f"BLEU into {language} needs sacrebleu's {tokenizer} tokenizer: "
            f"install it with pip install 'sacrebleu[{tokenizer.split('-')[0]}]'"
        ) from error
