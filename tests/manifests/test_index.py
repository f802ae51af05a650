from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from lhotse import MonoCut

from speechgate.config import TrainConfig
from speechgate.data.loaders import task_sets
from speechgate.errors import ManifestError
from speechgate.manifests.cuts import read_cuts, write_cuts
from speechgate.manifests.index import index_manifest
from speechgate.manifests.large import LargeCuts
from speechgate.manifests.view import CorpusView
from speechgate.task import Task

RUSSIAN, TO_ENGLISH, ITALIAN = Task.asr("rus"), Task.st("rus", "eng"), Task.asr("ita")


@pytest.fixture
def manifest(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> Path:
    """Thirty Russian cuts, every third with a translation, then ten Italian ones."""
    path = tmp_path / "cuts_train.jsonl.gz"
    cuts = [make_cut(f"rus-{i}", duration=1.5, translated={"eng": "x"} if i % 3 == 0 else {}) for i in range(30)]
    cuts += [make_cut(f"ita-{i}", language="ita", text="ciao", translated={}) for i in range(10)]
    write_cuts(cuts, path)
    return path


def test_tasks_and_seconds(manifest: Path) -> None:
    index = index_manifest(manifest)
    assert index.tasks == [ITALIAN, RUSSIAN, TO_ENGLISH]
    assert index.cuts == 40
    assert not index.shards
    assert index.seconds_of(RUSSIAN, 0.3, 30) == pytest.approx(45)
    assert index.seconds_of(TO_ENGLISH, 0.3, 30) == pytest.approx(15)
    assert index.seconds_of(RUSSIAN, 2.0, 30) == index.seconds_of(Task.asr("deu"), 0, 30) == 0


def test_it_is_made_once_and_again_after_a_change(manifest: Path, make_cut: Callable[..., MonoCut]) -> None:
    index_manifest(manifest)
    kept = manifest.with_name("cuts_train.index.json")
    before = kept.stat().st_mtime_ns
    assert index_manifest(manifest).cuts == 40
    assert kept.stat().st_mtime_ns == before
    write_cuts([make_cut()], manifest)
    assert index_manifest(manifest).cuts == 1
    kept.write_text("{half")
    assert index_manifest(manifest).cuts == 1


def test_bad_cuts_are_named_with_the_manifest(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    path = tmp_path / "cuts_dev.jsonl.gz"
    with pytest.raises(ManifestError, match=r"cuts_dev\.jsonl\.gz is missing: run speechgate prepare"):
        index_manifest(path)
    write_cuts([make_cut(), make_cut("rus-x", text="")], path)
    with pytest.raises(ManifestError, match=r"cuts_dev\.jsonl\.gz: cut rus-x: its supervision has no text"):
        index_manifest(path)
    write_cuts([make_cut(), make_cut()], path)
    with pytest.raises(ManifestError, match="1 ids occur twice"):
        index_manifest(path)


def test_shards_hold_every_cut_once_in_another_order(manifest: Path) -> None:
    index = index_manifest(manifest, large=20)
    assert sorted(index.shards) == ["ita", "rus"]
    shard = [cut.id for cut in read_cuts(index.shards["rus"])]
    assert shard != sorted(shard, key=lambda id_: int(id_[4:]))
    assert Counter(shard) == Counter(f"rus-{i}" for i in range(30))
    assert index_manifest(manifest, large=20) == index
    assert not list(manifest.parent.glob(".shards*"))


def test_examples_of_a_large_manifest(manifest: Path) -> None:
    cuts = LargeCuts([index_manifest(manifest, large=20)])
    sets, seconds = task_sets(cuts, [TO_ENGLISH, ITALIAN], TrainConfig())
    assert {example.custom["task"] for example in sets[0]} == {"st:rus-eng"}
    assert sorted(example.custom["cut_id"] for example in sets[0]) == sorted(f"rus-{i}" for i in range(0, 30, 3))
    assert len(list(sets[1])) == 10
    assert seconds == pytest.approx([15, 20])
    with pytest.raises(ManifestError, match="no cut of task asr:ita lasts between"):
        task_sets(cuts, [ITALIAN], TrainConfig(min_seconds=5.0))


def test_a_mix_interleaves_and_names_its_corpora(manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "cuts_train.jsonl.gz"
    write_cuts(list(read_cuts(manifest)), other)
    views = [CorpusView(name, named=True) for name in ("a", "b")]
    cuts = LargeCuts([index_manifest(manifest, large=20), index_manifest(other)], views)
    assert len(list(cuts)) == 80
    russian = [cut.id for cut in cuts.of_language("rus") if cut.supervisions[0].language == "rus"]
    assert Counter(id_[:2] for id_ in russian) == {"a/": 30, "b/": 30}
    assert len({id_[:2] for id_ in russian[:15]}) == 2


def test_a_corpus_of_a_mix_comes_as_often_as_it_is_to_be_repeated(manifest: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "cuts_train.jsonl.gz"
    write_cuts(list(read_cuts(manifest)), other)
    views = [CorpusView(name, named=True) for name in ("a", "b")]
    cuts = LargeCuts([index_manifest(manifest, large=20), index_manifest(other)], views, [1, 3])
    assert cuts.count == 4 * 40
    counted = Counter(cut.id for cut in cuts)
    assert {times for id_, times in counted.items() if id_.startswith("b/")} == {3}
    russian = [cut.id for cut in cuts.of_language("rus") if cut.supervisions[0].language == "rus"]
    assert Counter(id_[:2] for id_ in russian) == {"a/": 30, "b/": 90}
    once = LargeCuts(cuts.indexes[:1]).seconds_of(ITALIAN, 0.0, 30.0)
    assert cuts.seconds_of(ITALIAN, 0.0, 30.0) == 4 * once
