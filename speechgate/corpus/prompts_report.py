"""The preparation report of the prompts corpus: what was usable, what was mended, what was left out and why."""

import json
import statistics
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lhotse import MonoCut
from rich.table import Table

from speechgate.corpus.prompts_files import VoiceData
from speechgate.corpus.prompts_source import CORPUS

SCHEMA = 1

_FIGURES = {
    "recordings": "recordings",
    "entries": "transcript entries",
    "usable": "usable (audio and text)",
    "minutes": "minutes",
    "mean_seconds": "mean, s",
    "median_seconds": "median, s",
    "max_seconds": "longest, s",
    "texts_with_accents": "texts with accents",
    "texts_with_numerals": "texts with numerals",
}


def report_path(data_dir: Path | str) -> Path:
    return Path(data_dir) / CORPUS / "report.json"


def made_from(path: Path) -> dict[str, str] | None:
    """Return what the preparation of the report at ``path`` read, or None without a usable report."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return report["made_from"] if report["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError):
        return None


def make(
    corpus: Sequence[VoiceData], splits: Mapping[str, Sequence[MonoCut]], inputs: Mapping[str, str]
) -> dict[str, Any]:
    """Return the report as plain values; ``inputs`` is what the preparation was made from."""
    return {
        "schema": SCHEMA,
        "corpus": CORPUS,
        "made_from": dict(inputs),
        "usable_in_all_languages": len(set.intersection(*(set(data.cuts) for data in corpus))),
        "languages": {data.voice.lang3: _language(data, splits) for data in corpus},
        "issues": [
            {"language": data.voice.lang3, "kind": issue.kind, "id": issue.prompt_id, "detail": issue.detail}
            for data in corpus
            for issue in sorted(data.transcript.issues)
        ],
    }


def _language(data: VoiceData, splits: Mapping[str, Sequence[MonoCut]]) -> dict[str, Any]:
    seconds = [cut.duration for cut in data.cuts.values()] or [0.0]
    texts = [data.transcript.texts[prompt_id] for prompt_id in data.cuts]
    return {
        "recordings": len(data.recordings),
        "entries": data.transcript.entries,
        "usable": len(data.cuts),
        "minutes": round(sum(seconds) / 60, 2),
        "mean_seconds": round(statistics.mean(seconds), 2),
        "median_seconds": round(statistics.median(seconds), 2),
        "max_seconds": round(max(seconds), 1),
        "texts_with_accents": sum(map(_has_accent, texts)),
        "texts_with_numerals": sum(any(character.isdigit() for character in text) for text in texts),
        "utterances": {
            split: sum(cut.supervisions[0].language == data.voice.lang3 for cut in cuts)
            for split, cuts in splits.items()
        },
        "issues": dict(sorted(Counter(issue.kind for issue in data.transcript.issues).items())),
    }


def _has_accent(text: str) -> bool:
    """Whether any letter has a mark above or below; й, where the mark makes another letter, does not count."""
    plain = text.translate(str.maketrans("йЙ", "иИ"))
    return any(unicodedata.combining(character) for character in unicodedata.normalize("NFD", plain))


def summary_table(report: Mapping[str, Any]) -> Table:
    """The counts of a report: a row a figure or kind of issue, a column a language."""
    languages: Mapping[str, Any] = report["languages"]
    table = Table(title=f"{report['corpus']}: {report['usable_in_all_languages']} prompts usable in all languages")
    table.add_column("")
    for language in languages:
        table.add_column(language, justify="right")
    for key, label in _FIGURES.items():
        table.add_row(label, *(f"{values[key]:g}" for values in languages.values()))
    for split in next(iter(languages.values()))["utterances"]:
        table.add_row(f"{split} utterances", *(str(values["utterances"][split]) for values in languages.values()))
    table.add_section()
    for kind in sorted({kind for values in languages.values() for kind in values["issues"]}):
        table.add_row(kind, *(str(values["issues"].get(kind, "")) for values in languages.values()))
    return table
