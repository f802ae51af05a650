"""The prompts corpus: the Asterisk core sounds, five languages in parallel (one voice a language).

Real telephone prompts at 16 kHz; a prompt's id is the path of its recording below the voice's folder and is the same
in all languages, so that each recording has a transcript and up to four translations.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment
from rich.progress import track
from rich.table import Table

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.corpus import prompts_report
from speechgate.corpus.audio import Converted, convert_all
from speechgate.corpus.frame import RECIPES
from speechgate.corpus.lists import lists_digest
from speechgate.corpus.prompts_files import VoiceData, read_corpus
from speechgate.corpus.prompts_source import CORPUS, VOICES, Voice, download, downloaded, is_downloaded
from speechgate.corpus.splits import SPLITS, read_splits, splits_digest
from speechgate.errors import DownloadError, ManifestError
from speechgate.files import write_json
from speechgate.manifests.cuts import validate, write_cuts
from speechgate.manifests.gate import open_gate
from speechgate.manifests.leaks import Repeats, find_leaks
from speechgate.manifests.quality import Quality, load_quality
from speechgate.manifests.quality_report import write_page
from speechgate.shard import cores
from speechgate.text.normalize import normalize_for_training
from speechgate.text.tokenizer import Units

__all__ = ["counts", "download", "is_downloaded", "is_prepared", "manifest_paths", "prepare", "summary"]

# What the recipe asks of a corpus beside its verbs: see corpus/frame.py.
targets: tuple[str, ...] = ("eng",)
units: Units = "char"
vocab_size = 200

SHORT_SECONDS, LONG_SECONDS = 0.5, 30.0


def manifest_paths(data_dir: Path | str) -> dict[str, Path]:
    """Where `prepare` puts the manifest of each split."""
    return {split: Path(data_dir) / CORPUS / f"cuts_{split}.jsonl.gz" for split in SPLITS}


def is_prepared(data_dir: Path | str) -> bool:
    """Whether the manifests are there and were made from what is downloaded and from the committed splits.

    A source that is gone has not changed.
    """
    try:
        inputs = _inputs(data_dir)
    except DownloadError:
        return False
    made_from = prompts_report.made_from(prompts_report.report_path(data_dir)) or {}
    made = all(made_from.get(key) == value for key, value in inputs.items())
    return made and all(path.is_file() for path in manifest_paths(data_dir).values())


def summary(data_dir: Path | str) -> Table:
    """The counts of the last preparation."""
    return prompts_report.summary_table(json.loads(prompts_report.report_path(data_dir).read_text(encoding="utf-8")))


def counts(data_dir: Path | str) -> dict[str, dict[str, float]]:
    """The figures of the last preparation by language; empty before the first."""
    path = prompts_report.report_path(data_dir)
    if not path.is_file():
        return {}
    languages = json.loads(path.read_text(encoding="utf-8"))["languages"]
    return {
        language: {key: value for key, value in values.items() if isinstance(value, int | float)}
        for language, values in languages.items()
    }


def prepare(data_dir: Path | str, workers: int | None = None) -> dict[str, Path]:
    """Convert the recordings, mend the transcripts and write a manifest for each split, and report.json.

    A recording that cannot be used is left out and listed in the report; report.html is the page of all corpora.

    Raises:
        DownloadError: the corpus has not been downloaded.
        ManifestError: nothing usable, or a transcript or split list that cannot be read.
        OSError: a file cannot be written.
    """
    home = Path(data_dir) / CORPUS
    report_path = prompts_report.report_path(data_dir)
    inputs = _inputs(data_dir)
    report_path.unlink(missing_ok=True)  # it says that all else is there, so it goes first and comes last
    root = downloaded(data_dir).root
    corpus = read_corpus(root)
    converted = _convert(corpus, home, workers or cores())
    for data in corpus:
        _make_cuts(data, corpus, home, converted)
    splits, section = _judge(_split(corpus), corpus, home)
    if not splits["train"]:
        raise ManifestError(f"nothing usable for training in {root}")
    paths = manifest_paths(data_dir)
    for split, cuts in splits.items():
        validate(cuts)
        write_cuts(cuts, paths[split])
    section["leaks"] = find_leaks({split: [path] for split, path in paths.items()})
    write_page(home / "report.html", section)
    write_json(report_path, {**prompts_report.make(corpus, splits, inputs), "quality": section})
    return paths


def _quality() -> Quality:
    return load_quality(RECIPES / CORPUS / "conf" / "quality.yaml")


def _judge(
    splits: Mapping[str, Sequence[MonoCut]], corpus: Iterable[VoiceData], home: Path
) -> tuple[dict[str, list[MonoCut]], dict[str, Any]]:
    """Put the cuts through the gate of all corpora: those that pass, and the counts for the report."""
    repeats = Repeats()
    with open_gate(_quality(), home / "quarantine.jsonl") as gate:
        for data in corpus:
            for issue in data.transcript.issues:
                if issue.kind == "unreadable recording":
                    gate.reject(issue.kind, issue.prompt_id, data.voice.lang3, "any", issue.detail)
        passed = {split: [cut for cut in cuts if gate.passes(cut, split)] for split, cuts in splits.items()}
        for split, cuts in passed.items():
            for cut in cuts:
                repeats.add(cut, split)
        section = {"corpus": CORPUS, **gate.plain(), "repeated_texts": repeats.repeated_texts()}
        write_page(home / "report.html", section)
        gate.check_share(CORPUS, home / "report.html")
    return passed, section


def _inputs(data_dir: Path | str) -> dict[str, str]:
    """What decides the manifests; without ``lists``, the transcripts, where the source is gone."""
    there = downloaded(data_dir)
    transcripts = [path for voice in VOICES if (path := voice.transcript(there.root)) is not None]
    digest = lists_digest(there.root, transcripts)
    inputs = {
        "source": there.source,
        "splits": splits_digest(read_splits()),
        "quality": json.dumps(asdict(_quality())),
    }
    return inputs if digest is None else {**inputs, "lists": digest}


def _audio_path(home: Path, voice: Voice, prompt_id: str) -> Path:
    return home / "audio" / voice.lang3 / f"{prompt_id}.flac"


def _convert(corpus: Iterable[VoiceData], home: Path, workers: int) -> dict[Path, Converted | str]:
    """Convert every usable recording; the values are reasons where that failed."""
    jobs = [
        (data.recordings[prompt_id], _audio_path(home, data.voice, prompt_id))
        for data in corpus
        for prompt_id in data.usable
    ]
    return dict(track(convert_all(jobs, workers), description="converting", total=len(jobs)))


def _make_cuts(
    data: VoiceData, corpus: Iterable[VoiceData], home: Path, converted: Mapping[Path, Converted | str]
) -> None:
    """Make the cuts of one language, and note what is unusual about each."""
    lang3 = data.voice.lang3
    for prompt_id in data.usable:
        path = _audio_path(home, data.voice, prompt_id)
        result = converted[path]
        if isinstance(result, str):
            data.note("unreadable recording", prompt_id, result)
            continue
        for note in result.notes:
            data.note("recording converted", prompt_id, note)
        text = data.transcript.texts[prompt_id]
        translated = {
            other.voice.lang3: other.transcript.texts[prompt_id]
            for other in corpus
            if other is not data and prompt_id in other.transcript.texts
        }
        cut = _cut(f"{lang3}-{prompt_id.replace('/', '_')}", path, result.num_samples)
        cut.supervisions = [
            SupervisionSegment(
                cut.id,
                cut.id,
                start=0.0,
                duration=cut.duration,
                text=text,
                language=lang3,
                speaker=data.voice.speaker,
                custom={"translated_text": translated, "prompt_id": prompt_id},
            )
        ]
        data.cuts[prompt_id] = cut


def _cut(cut_id: str, path: Path, num_samples: int) -> MonoCut:
    """A cut of all of a recording, which has the same id."""
    duration = num_samples / SAMPLE_RATE_HZ
    source = AudioSource(type="file", channels=[0], source=str(path))
    recording = Recording(cut_id, [source], SAMPLE_RATE_HZ, num_samples, duration)
    return MonoCut(cut_id, start=0.0, duration=duration, channel=0, recording=recording)


def characters_per_second(cut: MonoCut) -> float:
    """How fast the text would have to be read; stops and spaces between words count little, so they are squeezed."""
    supervision = cut.supervisions[0]
    return len(normalize_for_training(supervision.text or "", supervision.language or "")) / cut.duration


def _split(corpus: Iterable[VoiceData]) -> dict[str, list[MonoCut]]:
    """Deal the cuts out to the splits, and note what is unusual."""
    lists, limit = read_splits(), _quality().max_characters_per_second
    splits: dict[str, list[MonoCut]] = {split: [] for split in SPLITS}
    for data in corpus:
        for prompt_id, cut in data.cuts.items():
            if prompt_id not in lists:
                data.note("in no split list", prompt_id)
                continue
            rate = characters_per_second(cut)
            if rate > limit:
                data.note("text too long for its audio", prompt_id, f"{rate:.1f} characters/s")
                if lists[prompt_id] == "train":  # the gate keeps it out
                    splits["train"].append(cut)
                    continue
            splits[lists[prompt_id]].append(cut)
            if cut.duration < SHORT_SECONDS:
                data.note(f"shorter than {SHORT_SECONDS:g} s", prompt_id, f"{cut.duration:.2f} s")
            if cut.duration > LONG_SECONDS:
                data.note(f"longer than {LONG_SECONDS:g} s", prompt_id, f"{cut.duration:.1f} s")
    return splits
