"""Word and character error rates from summed counts, aligned by jiwer."""

from collections.abc import Sequence
from importlib.metadata import version

import jiwer
import numpy as np

from speechgate.errors import ManifestError
from speechgate.scoring.metric import NORMALIZER, UNSEGMENTED, MetricStatistics
from speechgate.text.normalize import normalize_for_scoring

COUNTS = ("substitutions", "deletions", "insertions", "reference")


def error_rate(
    metric: str, ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], language: str
) -> MetricStatistics:
    """WER or CER of hypotheses in one language; the statistics are COUNTS, in that order.

    Args:
        metric: "wer" counts words, "cer" characters (spaces included where the language writes them).
        language: ISO 639-3, chooses the normaliser.

    Raises:
        ManifestError: a reference has nothing left to compare with after normalising.
    """
    output = align(metric, ids, references, hypotheses, language)
    statistics_UK = np.zeros((len(ids), len(COUNTS)), dtype=np.int64)
    for counts, reference, chunks in zip(statistics_UK, output.references, output.alignments, strict=True):
        for chunk in chunks:
            if chunk.type == "substitute":
                counts[0] += chunk.ref_end_idx - chunk.ref_start_idx
            elif chunk.type == "delete":
                counts[1] += chunk.ref_end_idx - chunk.ref_start_idx
            elif chunk.type == "insert":
                counts[2] += chunk.hyp_end_idx - chunk.hyp_start_idx
        counts[3] = len(reference)
    signature = f"jiwer:{version('jiwer')}|level:{'word' if metric == 'wer' else 'character'}|norm:{NORMALIZER}"
    return MetricStatistics(metric, signature, statistics_UK, percent_errors)


def align(
    metric: str, ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], language: str
) -> jiwer.WordOutput | jiwer.CharacterOutput:
    """Normalise both sides and align them; arguments and errors as for ``error_rate``."""
    pairs = [(_comparable(r, language), _comparable(h, language)) for r, h in zip(references, hypotheses, strict=True)]
    for cut_id, (reference, _) in zip(ids, pairs, strict=True):
        if not reference:
            raise ManifestError(f"cut {cut_id}: the reference is empty after normalising; filter it out of the split")
    process = jiwer.process_words if metric == "wer" else jiwer.process_characters
    return process([reference for reference, _ in pairs], [hypothesis for _, hypothesis in pairs])


def percent_errors(sums_RK: np.ndarray) -> np.ndarray:
    """(R, 4) sums of COUNTS -> (R,) errors per 100 reference words or characters."""
    return 100.0 * sums_RK[:, :3].sum(axis=1) / sums_RK[:, 3]


def _comparable(text: str, language: str) -> str:
    normalized = normalize_for_scoring(text, language)
    return normalized.replace(" ", "") if language in UNSEGMENTED else normalized
