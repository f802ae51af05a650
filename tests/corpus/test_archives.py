"""Corpora that fetch themselves, from a server on this machine with their true archives in small."""

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from speechgate.corpus import europarl_st, mls, voxpopuli
from speechgate.corpus.archives import Archive, fetch_archives
from speechgate.corpus.known import CORPORA
from speechgate.errors import ConfigError, DownloadError
from tests.corpus.clips import Clip
from tests.corpus.layouts import LAYOUTS
from tests.corpus.server import Server, serving


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    with serving(tmp_path / "served") as server:
        monkeypatch.setattr(mls, "_URL", server.url)
        monkeypatch.setattr(voxpopuli, "_URL", server.url)
        monkeypatch.setattr(europarl_st, "_URL", f"{server.url}/v1.1.tar.gz")
        yield server


def pack(archive: Path, tree: Path, outer: str = "") -> None:
    """Pack what is in ``tree``, in a folder of the name ``outer`` if one is given."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
        for path in [tree] if outer else sorted(tree.iterdir()):
            tar.add(path, outer or path.name)


def test_mls_is_checked_by_its_published_list(server: Server, tmp_path: Path, clips: list[Clip]) -> None:
    LAYOUTS["mls"](tmp_path / "raw", clips)
    archive, sums = tmp_path / "served" / "mls_italian_opus.tar.gz", tmp_path / "served" / "md5sum.txt"
    pack(archive, tmp_path / "raw")
    corpus, data = CORPORA["mls"], tmp_path / "data"
    sums.write_text("0" * 32 + "  mls_german_opus.tar.gz\n")
    with pytest.raises(DownloadError, match=r"md5sum\.txt has no checksum of mls_italian_opus\.tar\.gz"):
        corpus.download(data, "web:italian")
    sums.write_text("0" * 32 + "  ./mls_italian_opus.tar.gz\n")
    with pytest.raises(DownloadError, match=r"has the MD5 .* says 00000000"):
        corpus.download(data, "web:italian")
    sums.write_text(f"{hashlib.md5(archive.read_bytes()).hexdigest()}  mls_italian_opus.tar.gz\n")
    assert not corpus.is_downloaded(data, "web:italian")
    root = corpus.download(data, "web:italian")
    assert (root / "mls_italian_opus/train/transcripts.txt").is_file()
    assert corpus.is_downloaded(data, "web:italian")
    assert corpus.is_downloaded(data)
    assert not corpus.is_downloaded(data, "web:italian,german")
    asked = len(server.asked)
    corpus.download(data, "web:italian")
    assert len(server.asked) == asked, "what is unpacked is not fetched again"
    assert [path.name for path in (data / "mls/archives").iterdir()] == ["mls_italian_opus.tar.gz.json"]


def test_archives_of_several_years_share_a_folder(server: Server, tmp_path: Path, clips: list[Clip]) -> None:
    """VoxPopuli: recordings of all languages by year; a language that comes later asks for another preparation."""
    raw, annotations = tmp_path / "raw", tmp_path / "served" / "annotations" / "asr"
    LAYOUTS["voxpopuli"](raw, clips)
    for path in list(raw.glob("raw_audios/fr/*/*.ogg")):
        path.rename(path.with_name(path.name.replace("_fr.ogg", "_original.ogg")))
    for year in range(2009, 2021):
        tree = tmp_path / "years" / str(year)
        tree.mkdir(parents=True)
        recorded = raw / "raw_audios" / "fr" / str(year)
        recorded.rename(tree / str(year)) if recorded.is_dir() else (tree / str(year)).mkdir()
        pack(tmp_path / "served" / "audios" / f"original_{year}.tar", tree, "original")
    annotations.mkdir(parents=True)
    (raw / "asr_fr.tsv.gz").rename(annotations / "asr_fr.tsv.gz")
    corpus, data = CORPORA["voxpopuli"], tmp_path / "data"
    root = corpus.download(data, "web:fr")
    assert len(list((root / "raw_audios/original").iterdir())) == 12
    assert [each.problem for each in voxpopuli.read(root)].count(None) == 8
    report = data / "voxpopuli" / "report.json"
    report.write_text("{}")
    corpus.download(data, "web:fr")
    assert report.is_file()
    (annotations / "asr_de.tsv.gz").write_bytes((annotations / "asr_fr.tsv.gz").read_bytes())
    corpus.download(data, "web:fr,de")
    assert not report.is_file()


def test_europarl_st_is_one_archive_without_its_outer_folder(server: Server, tmp_path: Path, clips: list[Clip]) -> None:
    LAYOUTS["europarl_st"](tmp_path / "raw", clips)
    pack(tmp_path / "served" / "v1.1.tar.gz", tmp_path / "raw", "v1.1")
    server.break_after = 20_000
    with pytest.raises(DownloadError, match="run this again to resume"):
        CORPORA["europarl_st"].download(tmp_path / "data", "web")
    server.break_after = None
    root = CORPORA["europarl_st"].download(tmp_path / "data", "web")
    assert (root / "fr/en/train/segments.lst").is_file()
    assert server.asked[-1] == "bytes=60000-", "it went on where it broke off"
    assert not list(root.glob(".*"))


def test_without_a_published_sum_the_first_download_is_the_measure(server: Server, tmp_path: Path) -> None:
    archive, store, root = Archive(f"{server.url}/list.tsv", "metadata/de_de"), tmp_path / "store", tmp_path / "root"
    served, record = tmp_path / "served" / "list.tsv", store / "metadata/de_de/list.tsv.json"
    served.write_text("first")
    assert fetch_archives([archive], store, root)
    assert not fetch_archives([archive], store, root)
    assert (root / "metadata/de_de/list.tsv").read_text() == "first"
    assert json.loads(record.read_text())["sha256"] == hashlib.sha256(b"first").hexdigest()
    shutil.rmtree(root)
    assert fetch_archives([archive], store, root), "the same bytes are welcome"
    shutil.rmtree(root)
    served.write_text("other")
    with pytest.raises(DownloadError, match=r"had \w+ when it was fetched first: .*delete .*list\.tsv\.json to accept"):
        fetch_archives([archive], store, root)
    record.unlink()
    assert fetch_archives([archive], store, root)
    assert (root / "metadata/de_de/list.tsv").read_text() == "other"


def test_a_damaged_archive_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    (tmp_path / "served" / "x.tgz").write_bytes(b"no archive")
    with pytest.raises(DownloadError, match=r"x\.tgz cannot be unpacked: "):
        fetch_archives([Archive(f"{server.url}/x.tgz")], tmp_path / "store", tmp_path / "root")
    assert not list((tmp_path / "root").iterdir())
    assert not list((tmp_path / "store").iterdir()), "the next attempt fetches it anew"


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("mls", "web", "mls is large: say what of it, --source web:NAME,NAME; there are: dutch"),
        ("mls", "web:germn", "source of mls: 'germn' is not known; did you mean 'german'"),
        ("mtedx", "web:es-ru", "source of mtedx: 'es-ru' is not known"),
        ("fleurs", "web:de", "source of fleurs: 'de' is not known"),
        ("europarl_st", "web:de", "Europarl-ST is one archive, --source web"),
        ("must_c", "web:de", "must_c does not fetch itself. MuST-C .* is handed out"),
        ("mboshi", "web", "mboshi does not fetch itself. .*git clone"),
    ],
)
def test_what_cannot_be_fetched_is_told(tmp_path: Path, name: str, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CORPORA[name].download(tmp_path, source)


@pytest.mark.parametrize(
    ("name", "source", "url"),
    [
        ("mls", "web:polish", "https://dl.fbaipublicfiles.com/mls/mls_polish_opus.tar.gz"),
        ("mtedx", "web:pt-en", "https://www.openslr.org/resources/100/mtedx_pt-en.tgz"),
        ("europarl_st", "web", "https://www.mllp.upv.es/europarl-st/v1.1.tar.gz"),
        ("voxpopuli", "web:it", "https://dl.fbaipublicfiles.com/voxpopuli/audios/original_2020.tar"),
        (
            "fleurs",
            "web:hy_am",
            "https://huggingface.co/datasets/google/fleurs/resolve/main/data/hy_am/audio/dev.tar.gz",
        ),
    ],
)
def test_addresses_are_the_publishers(name: str, source: str, url: str) -> None:
    assert url in [archive.url for archive in CORPORA[name].archives(source)]
