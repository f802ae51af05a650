"""The gate that every preparation puts its cuts through: lets them pass or lists them, and counts."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lhotse.cut import Cut

from speechgate.errors import ManifestError
from speechgate.files import atomic_path
from speechgate.manifests.quality import Problem, Quality, problems

EXAMPLES = 10  # of each kind of problem that the report shows; the quarantine list has them all
_DURATION_STEP = 1.0


@dataclass
class Amount:
    """What passed of one language in one split, and a histogram of its durations in whole seconds."""

    utterances: int = 0
    seconds: float = 0.0
    durations: Counter[int] = field(default_factory=Counter)
    speakers: set[str] = field(default_factory=set)
    translated: Counter[str] = field(default_factory=Counter)

    def add(self, cut: Cut) -> None:
        supervision = cut.supervisions[0]
        self.utterances += 1
        self.seconds += cut.duration
        self.durations[int(cut.duration // _DURATION_STEP)] += 1
        self.translated.update((supervision.custom or {}).get("translated_text", {}).keys())
        if supervision.speaker:
            self.speakers.add(supervision.speaker)

    def plain(self) -> dict[str, Any]:
        return {
            "utterances": self.utterances,
            "hours": round(self.seconds / 3600, 4),
            "speakers": len(self.speakers),
            "translated": dict(sorted(self.translated.items())),
            "seconds_histogram": {str(second): count for second, count in sorted(self.durations.items())},
        }


class Gate:
    """Judges cuts one by one; memory depends on the number of speakers and of kinds of problems only."""

    def __init__(self, quality: Quality, quarantine: IO[str]) -> None:
        """``quarantine`` gets a line of JSON for each utterance that is kept out, and why."""
        self.quality = quality
        self.amounts: dict[tuple[str, str], Amount] = defaultdict(Amount)
        self.counts: Counter[tuple[str, str, str]] = Counter()  # (kind, language, split)
        self.examples: dict[str, list[dict[str, str]]] = defaultdict(list)
        self.reasons: Counter[str] = Counter()  # of what is kept out
        self.seen = 0
        self.kept_out = 0
        self._quarantine = quarantine

    def note(self, kind: str, cut_id: str, language: str, split: str, detail: str = "") -> None:
        """Count something worth a look; the first few of a kind become examples."""
        self.counts[kind, language, split] += 1
        if len(self.examples[kind]) < EXAMPLES:
            self.examples[kind].append({"id": cut_id, "split": split, "detail": detail})

    def reject(self, kind: str, cut_id: str, language: str, split: str, detail: str = "") -> None:
        """Keep an utterance out that never became a cut, such as one whose recording cannot be read."""
        self.seen += 1
        self._keep_out([Problem(kind, detail, "fatal")], cut_id, language, split)

    def passes(self, cut: Cut, split: str) -> bool:
        """Whether the cut goes into the manifest of ``split``; else it is in the quarantine list."""
        self.seen += 1
        language = cut.supervisions[0].language or "und"
        found = list(problems(cut, self.quality))
        stopping = ("fatal", "bad") if split.startswith("train") else ("fatal",)
        if any(problem.severity in stopping for problem in found):
            self._keep_out(found, cut.id, language, split)
            return False
        for problem in found:
            self.note(problem.kind, cut.id, language, split, problem.detail)
        self.amounts[language, split].add(cut)
        return True

    def _keep_out(self, found: Iterable[Problem], cut_id: str, language: str, split: str) -> None:
        self.kept_out += 1
        for problem in found:
            self.note(problem.kind, cut_id, language, split, problem.detail)
            self.reasons[problem.kind] += 1
            line = {
                "id": cut_id,
                "language": language,
                "split": split,
                "reason": problem.kind,
                "detail": problem.detail,
            }
            self._quarantine.write(json.dumps(line, ensure_ascii=False) + "\n")

    @property
    def bad_percent(self) -> float:
        return 100 * self.kept_out / max(self.seen, 1)

    def plain(self) -> dict[str, Any]:
        """The counts as a section of report.json."""
        languages: dict[str, dict[str, Any]] = defaultdict(dict)
        for (language, split), amount in sorted(self.amounts.items()):
            languages[language][split] = amount.plain()
        issues = [
            {"kind": kind, "language": language, "split": split, "count": count}
            for (kind, language, split), count in sorted(self.counts.items())
        ]
        return {
            "seen": self.seen,
            "kept_out": self.kept_out,
            "bad_percent": round(self.bad_percent, 2),
            "languages": dict(languages),
            "issues": issues,
            "examples": dict(sorted(self.examples.items())),
        }

    def check_share(self, corpus: str, report: Path) -> None:
        """Raise a ManifestError if more was kept out than the thresholds allow."""
        if self.bad_percent <= self.quality.max_bad_percent:
            return
        worst = ", ".join(f"{reason} ({count:,})" for reason, count in self.reasons.most_common(3))
        raise ManifestError(
            f"{corpus}: {self.kept_out:,} of {self.seen:,} utterances ({self.bad_percent:.1f} %) cannot be used, more "
            f"than the {self.quality.max_bad_percent:g} % allowed: {worst}. See {report}; if that is as it should be, "
            f"raise max_bad_percent in recipes/{corpus}/conf/quality.yaml"
        )


@contextmanager
def open_gate(quality: Quality, quarantine: Path) -> Iterator[Gate]:
    """A gate whose quarantine list is at ``quarantine`` afterwards, also where the block refuses what it saw."""
    refused = None
    with atomic_path(quarantine) as temporary, temporary.open("w", encoding="utf-8") as lines:
        try:
            yield Gate(quality, lines)
        except ManifestError as error:  # the list is what explains it
            refused = error
    if refused is not None:
        raise refused


def issue_totals(section: Mapping[str, Any]) -> Counter[str]:
    """How often each kind of problem occurs in a section that `Gate.plain` made."""
    totals: Counter[str] = Counter()
    for issue in section["issues"]:
        totals[issue["kind"]] += issue["count"]
    return totals
