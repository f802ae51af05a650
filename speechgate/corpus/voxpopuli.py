"""VoxPopuli (Wang et al., ACL 2021), transcribed part: the European Parliament in 16 languages.

The layout is that which lhotse's recipe makes and reads; that recipe opens every session before the first cut and ends
at an unreadable one, so the annotations are read here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from speechgate.corpus.archives import WEB, Archive, chosen
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import read_table
from speechgate.corpus.splits import SPLITS
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ManifestError
from speechgate.task import to_iso3

_ORIGINAL = "original"
_COLUMNS = ("session_id", "id_", "start_time", "end_time", "speaker_id", "split", "original_text", "normed_text")


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language with annotations, those of one session next to each other."""
    for table in sorted(root.glob("asr_*.tsv.gz")):
        lang = _language(table)
        rows = list(read_table(table, _COLUMNS, delimiter="|"))
        for row in sorted(rows, key=lambda row: (row["session_id"], row["start_time"])):
            if row["split"] in SPLITS:
                yield _utterance(root, lang, row, table)


def _utterance(root: Path, lang: str, row: Mapping[str, str], table: Path) -> Utterance:
    session = row["session_id"]
    # The archives of all languages have a folder "original"; those of one language its code.
    places = [
        root / "raw_audios" / kind / session[:4] / f"{session}_{name}.ogg"
        for kind, name in ((_ORIGINAL, _ORIGINAL), (lang, lang), (lang, _ORIGINAL))
    ]
    audio = next((place for place in places if place.is_file()), places[0])
    try:
        start, end = float(row["start_time"]), float(row["end_time"])
    except ValueError as error:
        raise ManifestError(f"{table}, {row['id_']}: {error}") from error
    lang3 = to_iso3(lang)
    return Utterance(
        id=f"{lang3}-{session}-{row['id_']}",
        split=row["split"],
        audio=audio,
        text=row["original_text"] or row["normed_text"],  # some rows have only the latter, without case
        language=lang3,
        speaker=row["speaker_id"] or None,
        start=start,
        duration=end - start,
        speech=f"{lang3}-{session}",
        problem=None if audio.is_file() else "missing recording",
    )


def _language(table: Path) -> str:
    return table.name.removeprefix("asr_").removesuffix(".tsv.gz")


def lacks(root: Path) -> list[str]:
    """Annotations, and the sessions of languages that have them."""
    tables = sorted(root.glob("asr_*.tsv.gz"))
    if not tables:
        return [f"annotations {root}/asr_<language>.tsv.gz"]
    raw = root / "raw_audios"
    if next((raw / _ORIGINAL).glob("*/*.ogg"), None) is not None:
        return []
    folders = [raw / _language(table) for table in tables]
    return [
        f"recordings in {folder} or {raw / _ORIGINAL}"
        for folder in folders
        if next(folder.glob("*/*.ogg"), None) is None
    ]


def archives(source: str) -> list[Archive]:
    """The annotations of "web:de,it" and the recordings, which are of all languages; none has a published checksum."""
    names = chosen("voxpopuli", source, {name: name for name in _LANGUAGES})
    tables = [Archive(f"{_URL}/annotations/asr/asr_{name}.tsv.gz") for name in names]
    return tables + [Archive(f"{_URL}/audios/{_ORIGINAL}_{year}.tar", folder="raw_audios") for year in _YEARS]


_URL = "https://dl.fbaipublicfiles.com/voxpopuli"
_YEARS = range(2009, 2021)
_LANGUAGES = ("en", "de", "fr", "es", "pl", "it", "ro", "hu", "cs", "nl", "fi", "hr", "sk", "sl", "et", "lt")
STEPS = (
    f"VoxPopuli (CC0): --source {WEB}:de,it fetches the transcripts of some languages and the recordings, which are of "
    "all. Or `lhotse download voxpopuli --subset asr PATH` brings PATH/raw_audios, and "
    f"{_URL}/annotations/asr/asr_<language>.tsv.gz goes to PATH. Then --source PATH"
)
CORPUS = Corpus("voxpopuli", read, lacks, STEPS, lists=("asr_*.tsv.gz",), archives=archives)
