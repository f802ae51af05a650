"""Data of your own: tables beside recordings, lhotse CutSets, or Kaldi directories, one for each split.

tables   train.tsv, dev.tsv, test.tsv with a header: audio, text, language, and where there are any id, speaker, start,
         end, and text_<language> for each translation
CutSets  cuts_train.jsonl.gz, cuts_dev.jsonl.gz, cuts_test.jsonl.gz
Kaldi    train/, dev/, test/ with wav.scp, text, utt2spk, utt2lang, and segments where there are any
"""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from lhotse import Recording, SupervisionSegment
from lhotse.kaldi import load_kaldi_data_dir

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import read_lines, read_table
from speechgate.corpus.splits import SPLITS
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ConfigError, ManifestError
from speechgate.manifests.cuts import read_cuts
from speechgate.task import to_iso3

_TRANSLATION = "text_"


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of whichever of the three forms is in the folder."""
    form = _form(root)
    if form is None:
        raise ManifestError(f"{root} holds none of: {', '.join(_FORMS)}")
    read_split = _FORMS[form][1]
    for split in SPLITS:
        yield from read_split(root, split)


def _read_table(root: Path, split: str) -> Iterator[Utterance]:
    path = root / f"{split}.tsv"
    for number, row in enumerate(read_table(path, ("audio", "text", "language")), start=2):
        audio = root / row["audio"]
        try:
            start, end = float(row.get("start") or 0), float(row["end"]) if row.get("end") else None
            spoken = to_iso3(row["language"])
            translations = {
                to_iso3(column.removeprefix(_TRANSLATION)): text
                for column, text in row.items()
                if column and column.startswith(_TRANSLATION) and text
            }
        except (ValueError, ConfigError) as error:
            raise ManifestError(f"{path}, line {number}: {error}") from error
        yield Utterance(
            id=row.get("id") or f"{spoken}-{Path(row['audio']).stem}-{number}",
            split=split,
            audio=audio,
            text=row["text"],
            language=spoken,
            translations=translations,
            speaker=row.get("speaker") or None,
            start=start,
            duration=None if end is None else end - start,
            speech=row["audio"],
            problem=None if audio.is_file() else "missing recording",
        )


def _read_cuts(root: Path, split: str) -> Iterator[Utterance]:
    for cut in read_cuts(root / f"cuts_{split}.jsonl.gz"):
        for supervision in cut.supervisions:
            if not cut.has_recording:
                raise ManifestError(f"{root / f'cuts_{split}.jsonl.gz'}, cut {cut.id}: it has no recording")
            translations = (supervision.custom or {}).get("translated_text", {})
            yield _supervised(cut.recording, supervision, split, root, cut.start, supervision.language, translations)


def _read_kaldi(root: Path, split: str) -> Iterator[Utterance]:
    folder = root / split
    languages = dict(line.split(maxsplit=1) for line in read_lines(folder / "utt2lang") if line.strip())
    # In a fresh process: lhotse forks, and forking this one, which holds threads, may hang the child.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        recordings, supervisions, _ = pool.submit(load_kaldi_data_dir, folder, SAMPLE_RATE_HZ, num_jobs=1).result()
    if supervisions is None:
        raise ManifestError(f"{folder} has no text: every utterance needs one")
    for supervision in sorted(supervisions, key=lambda each: (each.recording_id, each.start)):
        language = languages.get(supervision.id)
        yield _supervised(recordings[supervision.recording_id], supervision, split, root, 0.0, language, {})


def _supervised(
    recording: Recording,
    supervision: SupervisionSegment,
    split: str,
    root: Path,
    offset: float,
    language: str | None,
    translations: Mapping[str, str],
) -> Utterance:
    source = recording.sources[0]
    problem = None if source.type == "file" else f"the recording is a {source.type}, not a file"
    try:
        spoken, written = to_iso3(language or ""), {to_iso3(tgt): text for tgt, text in translations.items()}
    except ConfigError as error:
        raise ManifestError(f"utterance {supervision.id} in {root}: {error}") from error
    return Utterance(
        id=supervision.id,
        split=split,
        audio=root / str(source.source),  # an absolute path stays as it is
        text=supervision.text or "",
        language=spoken,
        translations=written,
        speaker=supervision.speaker,
        start=offset + supervision.start,
        duration=supervision.duration,
        speech=recording.id,
        problem=problem,
    )


_FORMS: dict[str, tuple[str, Callable[[Path, str], Iterator[Utterance]]]] = {
    "tables": ("{split}.tsv", _read_table),
    "CutSets": ("cuts_{split}.jsonl.gz", _read_cuts),
    "Kaldi directories": ("{split}/wav.scp", _read_kaldi),
}


def _form(root: Path) -> str | None:
    """The form whose train split is there."""
    return next((form for form, (name, _) in _FORMS.items() if (root / name.format(split="train")).is_file()), None)


def lacks(root: Path) -> list[str]:
    """The splits that are missing in the form that the folder has."""
    form = _form(root)
    if form is None:
        return [" or ".join(name.format(split="train") for name, _ in _FORMS.values())]
    names = [_FORMS[form][0].format(split=split) for split in SPLITS]
    if form == "Kaldi directories":
        names += [f"{split}/{name}" for split in SPLITS for name in ("text", "utt2lang")]
    return [name for name in names if not (root / name).is_file()]


STEPS = (
    "Give a folder with train, dev and test as tables (train.tsv with columns audio, text, language), lhotse CutSets "
    "(cuts_train.jsonl.gz) or Kaldi directories (train/wav.scp, text, utt2lang): --source PATH; recipes/own/README.md "
    "has examples"
)
_KALDI = ("wav.scp", "text", "utt2spk", "utt2lang", "segments", "reco2dur")
LISTS = tuple(
    name
    for split in SPLITS
    for name in (f"{split}.tsv", f"cuts_{split}.jsonl.gz", *(f"{split}/{each}" for each in _KALDI))
)
CORPUS = Corpus("own", read, lacks, STEPS, LISTS)
