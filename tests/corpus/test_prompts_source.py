import shutil
import tarfile
from pathlib import Path

import pytest

from speechgate.corpus import fetch, prompts_source
from speechgate.corpus.prompts_source import BUNDLED, VOICES, download, downloaded, is_downloaded
from speechgate.errors import ConfigError, DownloadError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An unpacked tree of its own."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "tree"))


def test_bundled_slice_needs_no_copy(tmp_path: Path) -> None:
    assert not is_downloaded(tmp_path, "bundled")
    assert download(tmp_path, "bundled") == BUNDLED
    assert is_downloaded(tmp_path, "bundled")
    assert downloaded(tmp_path).source == "bundled"


def test_auto_does_not_take_the_slice_for_the_corpus(tmp_path: Path, tree: Path) -> None:
    download(tmp_path, "bundled")
    assert not is_downloaded(tmp_path, "auto")
    download(tmp_path, str(tree))
    assert is_downloaded(tmp_path, "auto")
    assert is_downloaded(tmp_path, str(tree))
    assert not is_downloaded(tmp_path, "bundled")
    assert not is_downloaded(tmp_path, "apt")


def test_without_a_checkout_the_slice_is_missed_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_source, "BUNDLED", tmp_path / "site-packages" / "tests")
    with pytest.raises(DownloadError, match=r"source bundled: .* lacks recordings in .*, core-sounds-en\.txt"):
        download(tmp_path, "bundled")
    assert not is_downloaded(tmp_path, "bundled")


def test_incomplete_tree_says_what_it_lacks(tmp_path: Path, tree: Path) -> None:
    shutil.rmtree(VOICES[2].sounds(tree))
    with pytest.raises(DownloadError, match=r"lacks recordings in .*fr_CA_f_June$"):
        download(tmp_path, str(tree))


def test_tree_that_vanished_is_no_longer_downloaded(tmp_path: Path, tree: Path) -> None:
    download(tmp_path, str(tree))
    shutil.rmtree(tree)
    assert not is_downloaded(tmp_path, str(tree))


def test_unknown_source_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown source 'atp': use auto, apt, tarball, bundled, or a folder"):
        download(tmp_path, "atp")


def test_nothing_downloaded_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="run `download` first"):
        downloaded(tmp_path)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "source.json").write_text("{")
    with pytest.raises(DownloadError, match="run `download` first"):
        downloaded(tmp_path)


def test_folder_of_packages_must_be_whole_and_right(tmp_path: Path) -> None:
    folder = tmp_path / "debs"
    folder.mkdir()
    names = [f"asterisk-core-sounds-{voice.code}{kind}_1.6.1-1_all.deb" for voice in VOICES for kind in ("", "-g722")]
    for name in names[:-1]:
        (folder / name).write_bytes(b"not the package")
    with pytest.raises(DownloadError, match=r"lacks asterisk-core-sounds-ru-g722_1\.6\.1-1_all\.deb"):
        download(tmp_path, str(folder))
    (folder / names[-1]).write_bytes(b"not the package")
    with pytest.raises(DownloadError, match=r"sounds-en_1\.6\.1-1_all\.deb has the SHA-256 .* expected 973e797d"):
        download(tmp_path, str(folder))
    assert not is_downloaded(tmp_path, str(folder))


def test_auto_takes_apt_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def apt(package: str, version: str, sha256: str, folder: Path) -> Path:
        asked.append(f"{package}={version}")
        raise DownloadError("no network")

    def tarball(url: str, folder: Path, progress: fetch.Progress) -> Path:
        asked.append(url)
        raise DownloadError("no network")

    monkeypatch.setattr(fetch, "apt_download", apt)
    monkeypatch.setattr(fetch, "http_download", tarball)
    for available in (True, False):
        monkeypatch.setattr(fetch, "apt_available", lambda available=available: available)
        with pytest.raises(DownloadError, match="no network"):
            download(tmp_path)
    assert asked[0] == "asterisk-core-sounds-en=1.6.1-1"
    assert asked[1] == f"{prompts_source.RELEASES_URL}/asterisk-core-sounds-en-g722-1.6.1.tar.gz"


def test_tarballs_hold_recordings_and_transcript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's archives have the recordings at their top and the transcript among them."""

    def pack(url: str, folder: Path, progress: fetch.Progress) -> Path:
        code = url.split("sounds-")[-1][:2]
        voice = next(voice for voice in VOICES if voice.code == code)
        path = tmp_path / url.rsplit("/", 1)[1]
        transcript = tmp_path / f"core-sounds-{code}.txt"
        transcript.write_text("hello: Hello.\n")
        with tarfile.open(path, "w:gz") as tar:
            tar.add(voice.sounds(BUNDLED), arcname=".")
            tar.add(transcript, arcname=transcript.name)
        progress(path.name, 1, 2)
        return path

    monkeypatch.setattr(fetch, "http_download", pack)
    root = download(tmp_path / "data", "tarball")
    assert root == tmp_path / "data" / "prompts" / "source"
    assert VOICES[0].transcript(root) == VOICES[0].sounds(root) / "core-sounds-en.txt"
    assert is_downloaded(tmp_path / "data", "tarball")
    assert is_downloaded(tmp_path / "data")
