import errno
import gzip
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lhotse import CutSet, MonoCut
from lhotse.utils import fastcopy

from speechgate.errors import ManifestError
from speechgate.manifests.cuts import read_cuts, translations, validate, write_cuts
from speechgate.task import Task

TO_ENGLISH = Task.st("rus", "eng")


def test_cuts_survive_a_round_trip(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    cuts = [make_cut(f"rus-{number}") for number in range(3)]
    write_cuts(cuts, tmp_path / "deep" / "cuts.jsonl.gz")
    read = read_cuts(tmp_path / "deep" / "cuts.jsonl.gz")
    assert read.is_lazy
    assert list(read) == cuts
    assert list(read) == cuts, "a manifest can be read again"
    assert translations(next(iter(read))) == {"eng": "Hello."}
    assert list(pickle.loads(pickle.dumps(read))) == cuts, "workers get a copy"


def test_equal_cuts_make_equal_bytes(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_cuts([make_cut()], tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_lhotse_reads_what_is_written(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    write_cuts([make_cut()], tmp_path / "cuts.jsonl.gz")
    assert list(CutSet.from_file(tmp_path / "cuts.jsonl.gz")) == [make_cut()]


def test_interrupted_write_keeps_the_old_manifest(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts([make_cut()], path)

    def cuts() -> Iterator[MonoCut]:
        yield make_cut("rus-other")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_cuts(cuts(), path)
    assert [cut.id for cut in read_cuts(path)] == ["rus-hello"]
    assert [file.name for file in tmp_path.iterdir()] == ["cuts.jsonl.gz"]


def test_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no manifest .*cuts\.jsonl\.gz: run `prepare` first"):
        read_cuts(tmp_path / "cuts.jsonl.gz")


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "not json", "not a cut"])
def test_damaged_manifest_is_named(tmp_path: Path, make_cut: Callable[..., MonoCut], damage: str) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts([make_cut("rus-1"), make_cut("rus-2")], path)
    good = gzip.decompress(path.read_bytes())
    path.write_bytes(
        {
            "truncated": path.read_bytes()[:-20],
            "not gzip": b"plain text\n",
            "not json": gzip.compress(good + b"{half\n"),
            "not a cut": gzip.compress(good + b'{"id": "x", "type": "MonoCut", "start": 0}\n'),
        }[damage]
    )
    with pytest.raises(ManifestError, match=r"cuts\.jsonl\.gz is damaged: .*; prepare again"):
        list(read_cuts(path))


def test_good_cuts_pass(make_cut: Callable[..., MonoCut]) -> None:
    validate([make_cut("rus-1"), make_cut("rus-2", start=0.5, duration=1.5)], [Task.asr("rus"), TO_ENGLISH])
    validate([make_cut(translated={})], [Task.asr("rus"), Task.st("ita", "eng")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration": 2.5}, r"0 to 2\.5 s is outside its recording rus-hello of 2 s"),
        ({"start": -0.5}, r"-0\.5 to 1\.5 s is outside its recording"),
        ({"duration": 0.0}, r"its duration is 0\.0 s"),
        ({"rate_hz": 8000}, "1 channels at 8000 Hz; convert it to one at 16000 Hz"),
        ({"channels": 2}, "2 channels at 16000 Hz"),
        ({"supervisions": 0}, "0 supervisions; each cut needs one"),
        ({"supervisions": 2}, "2 supervisions"),
        ({"text": None}, "no text"),
        ({"text": "  "}, "no text"),
        ({"language": "xx"}, "unknown language 'xx'"),
        ({"language": None}, "unknown language ''"),
        ({"language": "ru"}, "language 'ru' is not ISO 639-3: write 'rus'"),
        ({"translated": {}}, r"custom\['translated_text'\]\['eng'\] is missing or empty; task st:rus-eng"),
        ({"translated": {"eng": " "}}, "missing or empty"),
    ],
)
def test_bad_cuts_are_named(make_cut: Callable[..., MonoCut], changes: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=f"cut rus-hello: .*{message}"):
        validate([make_cut("rus-good"), make_cut(**changes)], [TO_ENGLISH])


def test_cut_without_recording_is_named(make_cut: Callable[..., MonoCut]) -> None:
    with pytest.raises(ManifestError, match="cut rus-hello: not a cut of one channel"):
        validate([fastcopy(make_cut(), recording=None)])


def test_repeated_id_is_named(make_cut: Callable[..., MonoCut]) -> None:
    with pytest.raises(ManifestError, match="cut rus-hello: the id occurs twice"):
        validate([make_cut(), make_cut()])
