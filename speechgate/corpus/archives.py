"""Archives that a corpus's publisher lets anybody fetch: resumed, verified, and unpacked once.

Where the publisher has a list of checksums, that decides.  The SHA-256 of what was unpacked is recorded in any case, in
data/<corpus>/archives, and a later download must be the same bytes.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from speechgate.config import choices
from speechgate.corpus import fetch
from speechgate.errors import ConfigError, DownloadError
from speechgate.files import write_json

WEB = "web"


@dataclass(frozen=True)
class Archive:
    """One file to fetch, and where it goes below the corpus's root: a tarball is unpacked there.

    ``sums`` is the address of the publisher's list of MD5 checksums, if there is one.  With ``strip``, the folder that
    holds all of a tarball is left out.
    """

    url: str
    folder: str = ""
    sums: str | None = None
    strip: bool = False

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    def place(self, store: Path) -> Path:
        return store / self.folder / self.name

    def is_tarball(self) -> bool:
        return self.name.endswith((".tar", ".tgz", ".tar.gz"))


def is_web(source: str) -> bool:
    """Whether a corpus is to fetch itself: "web", or "web:de,it" for some languages of it."""
    return source.partition(":")[0] == WEB


def chosen[T](corpus: str, source: str, known: Mapping[str, T]) -> list[T]:
    """What the names in "web:de,it" stand for.

    Raises:
        ConfigError: no name is given, or one that is not ``known``.
    """
    names = [name.strip() for name in source.partition(":")[2].split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{corpus} is large: say what of it, --source {WEB}:NAME,NAME; there are: {', '.join(known)}")
    return [known[choices(f"source of {corpus}", name, known)] for name in names]


def fetch_archives(archives: Sequence[Archive], store: Path, root: Path) -> bool:
    """Fetch and unpack what has not been before; returns whether there was anything.  ``store`` has what is on its way.

    Raises:
        DownloadError: an archive cannot be fetched, or is not what its checksum says; run again to go on.
    """
    waiting = [archive for archive in archives if not is_fetched(archive, store, root)]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("download")
        for archive in waiting:

            def show(name: str, done: int, total: int | None) -> None:
                progress.update(task, description=name, completed=done, total=total)

            path = archive.place(store)
            part = path.with_name(f"{path.name}.part")
            fetch.http_resume(archive.url, part, show)
            progress.update(task, description=f"checking {archive.name}")
            sha256 = _checked(archive, part, _record(archive, store))
            progress.update(task, description=f"unpacking {archive.name}")
            part.replace(path)
            try:
                _put(archive, path, root / archive.folder)
            finally:
                path.unlink(missing_ok=True)
            write_json(_record(archive, store), {"url": archive.url, "sha256": sha256, "published": archive.sums})
    return bool(waiting)


def is_fetched(archive: Archive, store: Path, root: Path) -> bool:
    """Whether an archive has been unpacked, to a folder that is still there."""
    return _record(archive, store).is_file() and (root / archive.folder).is_dir()


def _record(archive: Archive, store: Path) -> Path:
    place = archive.place(store)
    return place.with_name(f"{place.name}.json")


def _checked(archive: Archive, part: Path, record: Path) -> str:
    """The SHA-256 of a complete download, compared with the published checksum and with that of an earlier one."""
    if archive.sums is not None:
        expected = _published(archive.name, archive.sums)
        actual = fetch.digest(part, "md5")
        if actual != expected:
            part.unlink()
            raise DownloadError(f"{archive.url} has the MD5 {actual}, but {archive.sums} says {expected}: try again")
    sha256 = fetch.digest(part)
    if record.is_file():
        earlier = json.loads(record.read_text(encoding="utf-8"))["sha256"]
        if sha256 != earlier:
            part.unlink()
            raise DownloadError(
                f"{archive.url} has the SHA-256 {sha256}, but had {earlier} when it was fetched first: try again, or "
                f"delete {record} to accept another release"
            )
    return sha256


def _published(name: str, address: str) -> str:
    """The checksum of ``name`` in a list as md5sum writes it."""
    lines = (line.split() for line in fetch.http_text(address).splitlines())
    sums = {Path(words[1].lstrip("*")).name: words[0].lower() for words in lines if len(words) == 2}
    if name not in sums:
        raise DownloadError(f"{address} has no checksum of {name}: its publisher has another release now")
    return sums[name]


def _put(archive: Archive, path: Path, target: Path) -> None:
    """Unpack or copy an archive to where it belongs; a broken-off earlier attempt is done again."""
    target.mkdir(parents=True, exist_ok=True)
    if not archive.is_tarball():
        shutil.copy(path, target / archive.name)
        return
    temporary = target / f".{archive.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        fetch.unpack_tarball(path, temporary)
        outer = list(temporary.iterdir())
        if archive.strip and len(outer) != 1:
            raise DownloadError(f"{archive.url} holds {len(outer)} entries instead of one folder: another release")
        _merge((outer[0] if archive.strip else temporary).iterdir(), target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _merge(entries: Iterable[Path], target: Path) -> None:
    """Move files and folders to ``target``, whose own folders stay: archives of several years share them."""
    for entry in entries:
        place = target / entry.name
        if entry.is_dir() and place.is_dir():
            _merge(entry.iterdir(), place)
        else:
            entry.replace(place)
