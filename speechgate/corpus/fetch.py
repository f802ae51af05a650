"""Fetching and unpacking archives: Debian packages through apt's own client, tarballs over HTTP.

An archive carries its final name only once its checksum is right; a tree is renamed into place only once complete.
"""

import gzip
import hashlib
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from speechgate.errors import DownloadError

_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 3

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and the bytes expected where they are known."""


def digest(path: Path, algorithm: str = "sha256") -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def apt_available() -> bool:
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


def apt_download(package: str, version: str, sha256: str, folder: Path) -> Path:
    """Fetch one Debian package with ``apt-get download`` (no root needed) into ``folder``, unless it is there.

    Raises:
        DownloadError: apt is missing, does not have this version or has no network, or the checksum differs.
    """
    path = folder / f"{package}_{version}_all.deb"
    if not path.exists():
        # apt writes to the final name at once, so an interrupted download is kept apart from a complete one.
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            done = subprocess.run(
                ["apt-get", "download", f"{package}={version}"],
                cwd=partial,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError as error:
            raise DownloadError("apt-get is not on this machine: use --source tarball or a folder") from error
        fetched = sorted(file.name for file in partial.glob("*.deb"))
        if done.returncode or not fetched:
            reason = (done.stderr.strip().splitlines() or ["it fetched nothing"])[-1]
            raise DownloadError(
                f"apt cannot fetch {package} {version}: {reason}. Try `apt-get update`; where apt has another version "
                "or no network, use --source tarball, or --source FOLDER with the .deb files in it"
            )
        if fetched != [path.name]:
            raise DownloadError(f"apt delivered {', '.join(fetched)} instead of {path.name}: use --source tarball")
        check_sha256(partial / path.name, sha256)
        (partial / path.name).rename(path)
        partial.rmdir()
    check_sha256(path, sha256)
    return path


def check_sha256(path: Path, expected: str) -> None:
    """Raise a DownloadError naming ``path`` if its checksum is another one."""
    actual = digest(path)
    if actual != expected:
        raise DownloadError(f"{path} has the SHA-256 {actual}, expected {expected}: delete it and download it again")


def http_download(url: str, folder: Path, progress: Progress = lambda name, done, total: None) -> Path:
    """Fetch ``url`` into ``folder``, resuming what an earlier run left, and check it against ``url``.sha1.

    The checksum is the one that the publisher puts beside the archive: it shows damage, not forgery.

    Raises:
        DownloadError: no network, no such file, or the checksum differs (what was fetched is deleted then).
    """
    name = url.rsplit("/", 1)[1]
    path, part = folder / name, folder / f"{name}.part"
    if path.exists():
        return path
    words = http_text(f"{url}.sha1").split()
    expected = words[0].lower() if words else ""
    http_resume(url, part, progress)
    actual = digest(part, "sha1")
    if actual != expected:
        part.unlink()
        raise DownloadError(f"{url} has the SHA-1 {actual}, but {url}.sha1 says {expected!r}: try again later")
    part.rename(path)
    return path


def http_text(url: str) -> str:
    """The text of a small file; raises a DownloadError that names it."""
    with _network_errors(url), urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        return response.read().decode("ascii", errors="replace")


def http_resume(url: str, part: Path, progress: Progress = lambda name, done, total: None) -> None:
    """Bring ``part`` to the whole of ``url``, in several attempts; what is there already is not fetched again.

    Raises:
        DownloadError: no network, no such file, or it breaks off again and again; ``part`` keeps what has come.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _network_errors(url):
                _fetch_rest(url, part, progress)
            break
        except DownloadError:
            if attempt == _ATTEMPTS:
                raise


def _fetch_rest(url: str, part: Path, progress: Progress) -> None:
    """Append to ``part`` what it lacks; begin anew where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch; the checksum decides whether it is the right thing
            return
        raise
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else None
        with part.open("ab" if resumed else "wb") as handle:
            while chunk := response.read(_CHUNK_BYTES):
                handle.write(chunk)
                have += len(chunk)
                progress(part.stem, have, total)
    if total is not None and have < total:
        raise DownloadError(f"{url} ended after {have} of {total} bytes: run this again to resume")


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Turn the failures of a connection into a DownloadError that names ``url``; a full disk passes through."""
    try:
        yield
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} cannot be fetched: {reason}. What there is of it is kept; run this again to resume, "
            "or use --source FOLDER with a copy of the corpus"
        ) from error


def unpack(archives: Mapping[Path, str], target: Path) -> None:
    """Unpack each archive (.deb or .tar.gz) into its folder below ``target`` ("" is ``target`` itself).

    ``target`` is replaced as a whole, when everything is there.

    Raises:
        DownloadError: an archive is damaged, or dpkg-deb is missing.
    """
    temporary = target.with_name(f".{target.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        for archive, subfolder in archives.items():
            (temporary / subfolder).mkdir(parents=True, exist_ok=True)
            if archive.suffix == ".deb":
                _unpack_deb(archive, temporary / subfolder)
            else:
                unpack_tarball(archive, temporary / subfolder)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_deb(archive: Path, folder: Path) -> None:
    try:
        done = subprocess.run(["dpkg-deb", "-x", archive, folder], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise DownloadError(f"dpkg-deb, which unpacks {archive}, is not on this machine") from error
    if done.returncode:
        raise DownloadError(f"{archive} cannot be unpacked: {done.stderr.strip()}; delete it and download it again")


def unpack_tarball(archive: Path, folder: Path) -> None:
    """Unpack an archive, packed or not, into a folder; raises a DownloadError if it is damaged."""
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DownloadError(f"{archive} cannot be unpacked: {error}; delete it and download it again") from error
