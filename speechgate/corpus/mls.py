"""Multilingual LibriSpeech (Pratap et al., Interspeech 2020), OpenSLR 94: audiobooks in eight languages.

The layout is that which lhotse's recipe reads; that recipe opens every recording before the first cut and ends at an
unreadable one, so the transcripts are read here.
"""

from collections.abc import Iterator
from pathlib import Path

from speechgate.corpus.archives import WEB, Archive, chosen
from speechgate.corpus.frame import Corpus
from speechgate.corpus.lists import absent
from speechgate.corpus.splits import SPLITS
from speechgate.corpus.utterance import Utterance
from speechgate.errors import ManifestError

_LANGUAGES = {
    "dutch": "nld",
    "english": "eng",
    "french": "fra",
    "german": "deu",
    "italian": "ita",
    "polish": "pol",
    "portuguese": "por",
    "spanish": "spa",
}


def read(root: Path) -> Iterator[Utterance]:
    """The utterances of every language that is there, mls_<language> (flac) or mls_<language>_opus."""
    for folder in _folders(root):
        name = folder.name.removeprefix("mls_").removesuffix("_opus")
        lang3 = _LANGUAGES[name]
        suffix = ".opus" if folder.name.endswith("_opus") else ".flac"
        for split in SPLITS:
            for utterance_id, text in _transcripts(folder / split / "transcripts.txt"):
                speaker, book, _ = utterance_id.split("_")
                audio = folder / split / "audio" / speaker / book / f"{utterance_id}{suffix}"
                yield Utterance(
                    id=f"{lang3}-{utterance_id}",
                    split=split,
                    audio=audio,
                    text=text,
                    language=lang3,
                    speaker=f"{lang3}-{speaker}",
                    problem=None if audio.is_file() else "missing recording",
                )


def _transcripts(path: Path) -> Iterator[tuple[str, str]]:
    """(id, text) of a file that may hold ten million lines."""
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                utterance_id, tab, text = line.rstrip("\r\n").partition("\t")
                if not tab or utterance_id.count("_") != 2:
                    raise ManifestError(f"{path}, line {number}: not '<speaker>_<book>_<number> TAB <text>'")
                yield utterance_id, text
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"transcript {path} cannot be read: {error}") from error


def _folders(root: Path) -> list[Path]:
    names = [name for language in _LANGUAGES for name in (f"mls_{language}", f"mls_{language}_opus")]
    return [root / name for name in names if (root / name).is_dir()]


def lacks(root: Path) -> list[str]:
    """Transcripts and folders of recordings that a language lacks."""
    folders = _folders(root)
    if not folders:
        return [f"a folder such as {root / 'mls_german_opus'}"]
    parts = [folder / split for folder in folders for split in SPLITS]
    return absent(part / name for part in parts for name in ("transcripts.txt", "audio"))


def archives(source: str) -> list[Archive]:
    """The Opus edition of "web:german,italian"."""
    names = chosen("mls", source, {name: name for name in _LANGUAGES})
    return [Archive(f"{_URL}/mls_{name}_opus.tar.gz", sums=f"{_URL}/md5sum.txt") for name in names]


_URL = "https://dl.fbaipublicfiles.com/mls"
STEPS = (
    f"MLS (CC BY 4.0): --source {WEB}:german,italian fetches the Opus edition of some languages, checked by the MD5 "
    "sums that https://www.openslr.org/94 names. Or fetch mls_<language>_opus.tar.gz from there yourself, unpack it to "
    "PATH/mls_<language>_opus, and give --source PATH"
)
CORPUS = Corpus("mls", read, lacks, STEPS, lists=("mls_*/*/transcripts.txt",), archives=archives)
