import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from speechgate.corpus import fetch
from speechgate.errors import DownloadError
from tests.corpus.server import Server, serving

ARCHIVE = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.tar.gz").write_bytes(ARCHIVE)
    (folder / "a.tar.gz.sha1").write_text(f"{hashlib.sha1(ARCHIVE).hexdigest()}  a.tar.gz\n")
    with serving(folder) as server:
        yield server


def test_download_checks_and_reports(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = fetch.http_download(f"{server.url}/a.tar.gz", tmp_path / "got", lambda *values: told.append(values))
    assert path.read_bytes() == ARCHIVE
    assert told[-1] == ("a.tar.gz", len(ARCHIVE), len(ARCHIVE))
    assert [file.name for file in path.parent.iterdir()] == ["a.tar.gz"]
    fetch.http_download(f"{server.url}/a.tar.gz", tmp_path / "got")
    assert server.asked == [None], "what is there is not fetched again"


def test_interrupted_download_resumes(server: Server, tmp_path: Path) -> None:
    server.break_after = 100_000
    with pytest.raises(DownloadError, match="ended after 300000 of 1048576 bytes: run this again"):
        fetch.http_download(f"{server.url}/a.tar.gz", tmp_path)
    assert not (tmp_path / "a.tar.gz").exists(), "a part never counts as the whole"
    assert (tmp_path / "a.tar.gz.part").stat().st_size == 300_000
    server.break_after = None
    assert fetch.http_download(f"{server.url}/a.tar.gz", tmp_path).read_bytes() == ARCHIVE
    assert server.asked == [None, "bytes=100000-", "bytes=200000-", "bytes=300000-"]


def test_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.tar.gz.part").write_bytes(b"something older")
    assert fetch.http_download(f"{server.url}/a.tar.gz", tmp_path).read_bytes() == ARCHIVE


def test_complete_part_only_needs_its_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(ARCHIVE)
    assert fetch.http_download(f"{server.url}/a.tar.gz", tmp_path).read_bytes() == ARCHIVE


def test_wrong_checksum_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(b"damaged")
    with pytest.raises(DownloadError, match=r"a\.tar\.gz has the SHA-1 \w+, but .*\.sha1 says"):
        fetch.http_download(f"{server.url}/a.tar.gz", tmp_path)
    assert not list(tmp_path.glob("a.*"))
    assert fetch.http_download(f"{server.url}/a.tar.gz", tmp_path).read_bytes() == ARCHIVE


def test_absent_file_and_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"b\.tar\.gz\.sha1 cannot be fetched: Not Found"):
        fetch.http_download(f"{server.url}/b.tar.gz", tmp_path)
    with pytest.raises(DownloadError, match=r"cannot be fetched: .*refused.* --source FOLDER"):
        fetch.http_download("http://127.0.0.1:1/a.tar.gz", tmp_path)


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An apt-get that writes the given files where it is run, or fails with a message."""

    def install(files: dict[str, bytes], stderr: str = "") -> None:
        def run(command: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
            assert command[:2] == ["apt-get", "download"]
            for name, content in files.items():
                (cwd / name).write_bytes(content)
            return subprocess.CompletedProcess(command, 100 if stderr else 0, "", stderr)

        monkeypatch.setattr(fetch.subprocess, "run", run)

    return install


def apt(folder: Path) -> Path:
    return fetch.apt_download("sounds", "1.6.1-1", hashlib.sha256(b"package").hexdigest(), folder)


def test_apt_delivers_a_checked_package(fake_apt, tmp_path: Path) -> None:
    fake_apt({"sounds_1.6.1-1_all.deb": b"package"})
    assert apt(tmp_path / "archives").read_bytes() == b"package"
    assert [file.name for file in (tmp_path / "archives").iterdir()] == ["sounds_1.6.1-1_all.deb"]
    fake_apt({}, stderr="E: no network")
    assert apt(tmp_path / "archives").name == "sounds_1.6.1-1_all.deb"


@pytest.mark.parametrize(
    ("files", "stderr", "message"),
    [
        ({}, "W: x\nE: Version '1.6.1-1' for 'sounds' was not found", r"Version '1\.6\.1-1'.*--source tarball"),
        ({}, "", "it fetched nothing"),
        ({"sounds_1.7-1_all.deb": b"package"}, "", r"delivered sounds_1\.7-1_all\.deb instead of sounds_1\.6\.1-1"),
        ({"sounds_1.6.1-1_all.deb": b"pack"}, "", r"sounds_1\.6\.1-1_all\.deb has the SHA-256"),
        ({"sounds_1.6.1-1_all.deb": b"pack"}, "E: connection lost", "connection lost"),
    ],
)
def test_apt_failures_leave_no_package(
    fake_apt, tmp_path: Path, files: dict[str, bytes], stderr: str, message: str
) -> None:
    fake_apt(files, stderr)
    with pytest.raises(DownloadError, match=message):
        apt(tmp_path)
    assert not list(tmp_path.glob("*.deb"))
    fake_apt({"sounds_1.6.1-1_all.deb": b"package"})
    assert apt(tmp_path).read_bytes() == b"package"


def test_without_apt_the_message_names_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not fetch.apt_available()
    with pytest.raises(DownloadError, match="--source tarball or a folder"):
        apt(tmp_path)


def tarball(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_unpack_replaces_the_tree_only_when_complete(tmp_path: Path) -> None:
    good = tarball(tmp_path / "good.tar.gz", {"digits/1.g722": b"one"})
    target = tmp_path / "source"
    fetch.unpack({good: "voice"}, target)
    assert (target / "voice/digits/1.g722").read_bytes() == b"one"
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(good.read_bytes()[:-30])
    not_deb = tmp_path / "bad.deb"
    not_deb.write_bytes(b"no package")
    for bad in (cut, not_deb):
        with pytest.raises(DownloadError, match=f"{bad.name} cannot be unpacked|dpkg-deb"):
            fetch.unpack({good: "other", bad: "voice"}, target)
        assert [file.name for file in target.iterdir()] == ["voice"]
    assert not list(tmp_path.glob(".source*"))


def test_unpack_stays_in_its_folder(tmp_path: Path) -> None:
    bad = tarball(tmp_path / "bad.tar.gz", {"../../outside": b"x"})
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        fetch.unpack({bad: "voice"}, tmp_path / "deep" / "source")
    assert not list(tmp_path.rglob("outside"))
