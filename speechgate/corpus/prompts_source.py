"""Where the prompts corpus comes from: Debian's packages, the upstream tarballs, the committed slice, or a folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from speechgate.corpus import fetch
from speechgate.errors import ConfigError, DownloadError
from speechgate.files import write_json

CORPUS = "prompts"
SOURCES = ("auto", "apt", "tarball", "bundled")

RELEASE = "1.6.1"
DEBIAN_VERSION = f"{RELEASE}-1"
RELEASES_URL = "https://downloads.asterisk.org/pub/telephony/sounds/releases"
BUNDLED = Path(__file__).resolve().parents[2] / "tests" / "assets" / CORPUS

_SOUNDS = Path("usr/share/asterisk/sounds")
_DOCS = Path("usr/share/doc")

# SHA-256 of the Debian packages asterisk-core-sounds-<key>.
_SHA256 = {
    "en": "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    "en-g722": "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
    "es": "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74",
    "es-g722": "e4e3b4281057d3b81b779298fd6be705f57411513955c518eed1bcaabbd615b8",
    "fr": "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056",
    "fr-g722": "7add61d5e42279ecff1bbdf842a5a946ac3644fac9a0fe44384731aa7270c8e0",
    "it": "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b",
    "it-g722": "46b4cf7afc508a5fcfc051b7ea233251c0d195dd4ef83cc4b7facb4c6429b016",
    "ru": "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab",
    "ru-g722": "673b4238a6b8269960f055d868c6a11083f7a0d00979167cb01554046b48ed9b",
}


@dataclass(frozen=True)
class Voice:
    """One language of the corpus: ``lang3`` is ISO 639-3, ``code`` what the archives call it."""

    lang3: str
    code: str
    folder: str
    speaker: str

    def sounds(self, root: Path) -> Path:
        """The folder of the recordings, which a prompt's id is relative to."""
        return root / _SOUNDS / self.folder

    def transcript(self, root: Path) -> Path | None:
        """The transcript where Debian or the tarball puts it, or None."""
        name = f"core-sounds-{self.code}.txt"
        docs = root / _DOCS / f"asterisk-core-sounds-{self.code}"
        places = (docs / f"{name}.gz", docs / name, self.sounds(root) / name)
        return next((place for place in places if place.is_file()), None)


# Five languages, four voices: English and Spanish are read by the same person.
VOICES = (
    Voice("eng", "en", "en_US_f_Allison", "allison"),
    Voice("spa", "es", "es_MX_f_Allison", "allison"),
    Voice("fra", "fr", "fr_CA_f_June", "june"),
    Voice("ita", "it", "it_IT_m_Carlo", "carlo"),
    Voice("rus", "ru", "ru_RU_f_IvrvoiceRU", "maxim"),
)


@dataclass(frozen=True)
class Downloaded:
    """What was downloaded: the source it came from, and the root of its tree."""

    source: str
    root: Path


def download(data_dir: Path | str, source: str = "auto") -> Path:
    """Bring the corpus to this machine unless it is there; return the root of its tree (usr/share/...).

    ``source``: "apt" (Debian packages, no root needed), "tarball" (the upstream release), "bundled" (the slice
    committed with the tests, no network), a folder with the .deb files or with an unpacked tree, or "auto": apt where
    this machine has it, else tarball.

    Raises:
        ConfigError: no such source.
        DownloadError: the source cannot be reached, is incomplete, or fails its checksum.
    """
    home = Path(data_dir) / CORPUS
    if is_downloaded(data_dir, source):
        return downloaded(data_dir).root
    kind = source
    if kind == "auto":
        kind = "apt" if fetch.apt_available() else "tarball"
    root = home / "source"
    _record(data_dir).unlink(missing_ok=True)
    if kind == "apt":
        _fetch_packages(home / "archives", root)
    elif kind == "tarball":
        _fetch_tarballs(home / "archives", root)
    elif kind == "bundled":
        root = BUNDLED
    else:
        root = _from_folder(Path(source), root)
    if missing := _missing(root):
        raise DownloadError(f"source {source}: {root} lacks {', '.join(missing)}")
    write_json(_record(data_dir), {"source": kind, "root": str(root)})
    return root


def is_downloaded(data_dir: Path | str, source: str = "auto") -> bool:
    """Whether ``source`` has been fetched completely; for "auto" any source but the bundled slice will do."""
    try:
        there = downloaded(data_dir)
    except DownloadError:
        return False
    wanted = there.source != "bundled" if source == "auto" else there.source == source
    return wanted and not _missing(there.root)


def downloaded(data_dir: Path | str) -> Downloaded:
    """Return what `download` left.

    Raises:
        DownloadError: nothing yet.
    """
    try:
        record = json.loads(_record(data_dir).read_text(encoding="utf-8"))
        return Downloaded(record["source"], Path(record["root"]))
    except (OSError, ValueError, KeyError) as error:
        raise DownloadError(f"the corpus {CORPUS} is not in {data_dir}: run `download` first") from error


def _record(data_dir: Path | str) -> Path:
    return Path(data_dir) / CORPUS / "source.json"


def _missing(root: Path) -> list[str]:
    """What a complete tree would have and ``root`` has not."""
    missing = []
    for voice in VOICES:
        if next(voice.sounds(root).glob("*.g722"), None) is None:
            missing.append(f"recordings in {voice.sounds(root)}")
        if voice.transcript(root) is None:
            missing.append(f"core-sounds-{voice.code}.txt")
    return missing


def _fetch_packages(archives: Path, root: Path) -> None:
    """Debian's packages, the recordings and the transcript of each language."""
    with _progress() as progress:
        packages = [
            fetch.apt_download(f"asterisk-core-sounds-{key}", DEBIAN_VERSION, sha256, archives)
            for key, sha256 in progress.track(_SHA256.items(), description="download")
        ]
    fetch.unpack(dict.fromkeys(packages, ""), root)


def _fetch_tarballs(archives: Path, root: Path) -> None:
    """The audio tarball of each language; it holds the transcript as well."""
    unpacked = {}
    with _progress() as progress:
        task = progress.add_task("download", total=len(VOICES))
        for index, voice in enumerate(VOICES):

            def show(name: str, done: int, total: int | None, index: int = index) -> None:
                progress.update(task, description=name, completed=index + (done / total if total else 0))

            url = f"{RELEASES_URL}/asterisk-core-sounds-{voice.code}-g722-{RELEASE}.tar.gz"
            unpacked[fetch.http_download(url, archives, show)] = str(_SOUNDS / voice.folder)
            progress.update(task, completed=index + 1)
    fetch.unpack(unpacked, root)


def _from_folder(folder: Path, root: Path) -> Path:
    """Unpack the .deb files in ``folder`` into ``root``; without any, ``folder`` itself is taken as the tree."""
    if not folder.is_dir():
        raise ConfigError(f"unknown source {str(folder)!r}: use {', '.join(SOURCES)}, or a folder that exists")
    packages = {folder / f"asterisk-core-sounds-{key}_{DEBIAN_VERSION}_all.deb": _SHA256[key] for key in _SHA256}
    absent = [package.name for package in packages if not package.is_file()]
    if len(absent) == len(packages):
        return folder.resolve()
    if absent:
        raise DownloadError(f"{folder} lacks {', '.join(absent)}")
    for package, sha256 in packages.items():
        fetch.check_sha256(package, sha256)
    fetch.unpack(dict.fromkeys(packages, ""), root)
    return root


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
