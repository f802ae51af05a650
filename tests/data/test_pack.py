"""Recordings in tar files: the same samples, the same batches, and lhotse reads them too."""

import os
from itertools import islice
from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from lhotse.cut import MonoCut
from lhotse.utils import fastcopy

from speechgate.config import TrainConfig
from speechgate.data import pack as packing
from speechgate.data.batch import load_audio
from speechgate.data.loaders import train_loader
from speechgate.data.pack import pack
from speechgate.data.shar import Place, in_memory, place_of
from speechgate.errors import AudioError, ManifestError
from speechgate.manifests.cuts import is_packed, read_cuts, write_cuts
from speechgate.manifests.index import index_manifest
from speechgate.manifests.large import LargeCuts
from tests.data.dummies import dummy_cut, write_audio
from tests.model.tiny import TASKS, tokenizer

CONFIG = TrainConfig(max_duration=2.0, min_seconds=0.1, max_seconds=2.0, buckets=2)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Fourteen English cuts, the first of them a part of its recording, and seven Russian ones."""
    (tmp_path / "audio").mkdir()
    cuts = []
    for number in range(21):
        seconds = 0.3 + 0.01 * number if number else 2.0
        language = "rus" if number % 3 == 2 else "eng"
        path = write_audio(tmp_path / "audio" / f"{number}.flac", seconds)
        cuts.append(dummy_cut(f"{language}-{number}", seconds, language, path=path))
    cuts[0] = fastcopy(cuts[0], id="eng/0", start=0.5, duration=0.75)
    write_cuts(cuts, tmp_path / "cuts_train.jsonl.gz")
    return tmp_path / "cuts_train.jsonl.gz"


def samples(cuts: list[MonoCut]) -> dict[str, torch.Tensor]:
    return {cut.id: load_audio(cut) for cut in cuts}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_packed_manifest_has_the_same_cuts_with_the_same_samples(manifest, workers):
    before = list(read_cuts(manifest))
    heard = samples(before)
    folder = pack(manifest, workers, shard_cuts=8)
    assert folder == manifest.parent / "shar" / "train"
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"cuts.{number:06d}.jsonl.gz" for number in range(3)),
        *(f"recording.{number:06d}.tar" for number in range(3)),
    ]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["train", "train.json"]
    for path in (manifest.parent / "audio").iterdir():
        path.unlink()
    after = list(read_cuts(manifest))
    assert is_packed(manifest)
    assert [cut.id for cut in after] == [cut.id for cut in before]
    assert [cut.supervisions for cut in after] == [cut.supervisions for cut in before]
    assert [cut.duration for cut in after] == [cut.duration for cut in before]
    for cut_id, packed in samples(after).items():
        assert torch.equal(packed, heard[cut_id])
    index_manifest(manifest)  # which checks them
    by_lhotse = CutSet.from_shar(in_dir=folder)
    assert all(torch.equal(torch.from_numpy(cut.load_audio()[0]), heard[cut.id]) for cut in by_lhotse)


def test_batches_are_those_of_the_files_with_or_without_workers(manifest):
    def batches(workers: int) -> list[torch.Tensor]:
        config = TrainConfig(**vars(CONFIG) | {"workers": workers})
        loader = train_loader(list(read_cuts(manifest)), list(TASKS[:2]), tokenizer(), config, 0.0)
        return [batch.speech_BN for batch in islice(loader, 8)]

    from_files = batches(0)
    pack(manifest, shard_cuts=8)
    for workers in (0, 2):
        assert all(torch.equal(one, two) for one, two in zip(from_files, batches(workers), strict=True))


def test_a_large_manifest_is_packed_by_language_and_read_in_the_order_of_its_tar_files(manifest):
    heard = samples(list(read_cuts(manifest)))
    shuffled = [cut.id for cut in read_cuts(index_manifest(manifest, large=5).shards["eng"])]
    folder = pack(manifest, shard_cuts=4, large=5)
    assert sorted(path.name for path in folder.iterdir()) == ["eng", "rus"]
    index = index_manifest(manifest, large=5)
    assert (index.cuts, sorted(index.shards)) == (21, ["eng", "rus"])
    stream = list(LargeCuts([index]).of_language("eng"))
    assert [cut.id for cut in stream] == shuffled
    assert shuffled != sorted(shuffled)
    places = [place_of(cut) for cut in stream]
    assert places == sorted(places, key=lambda place: (place.tar, place.offset))
    assert all(torch.equal(found, heard[cut_id]) for cut_id, found in samples(stream).items())


def test_what_was_interrupted_goes_on_and_what_is_packed_stays(manifest, monkeypatch):
    write, written = packing._write_shard, []

    def dying(cuts, folder, number, scratch):
        if number == 2:
            raise KeyboardInterrupt
        write(cuts, folder, number, scratch)

    monkeypatch.setattr(packing, "_write_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        pack(manifest, shard_cuts=8)
    assert not is_packed(manifest)
    monkeypatch.setattr(packing, "_write_shard", lambda *job: written.append(job[2]) or write(*job))
    pack(manifest, shard_cuts=8)
    assert written == [2]
    content = manifest.read_bytes()
    pack(manifest, shard_cuts=8)
    assert (written, manifest.read_bytes()) == ([2], content)


def test_shards_of_another_manifest_are_not_taken_for_its_own(manifest, monkeypatch):
    monkeypatch.setattr(packing, "write_cuts", lambda cuts, path: None)  # interrupted at the very end
    pack(manifest, shard_cuts=8)
    monkeypatch.undo()
    write_cuts(list(read_cuts(manifest))[3:], manifest)
    pack(manifest, shard_cuts=8)
    assert len(list(read_cuts(manifest))) == 18
    assert len(samples(list(read_cuts(manifest)))) == 18


def test_a_damaged_recording_is_named_and_the_manifest_stays(manifest):
    content = manifest.read_bytes()
    (manifest.parent / "audio" / "4.flac").write_bytes(b"fLaC")
    with pytest.raises(AudioError, match=r"cut eng-4: .*4\.flac cannot be read"):
        pack(manifest)
    assert manifest.read_bytes() == content


def test_a_tar_file_that_is_gone_or_cut_short_is_named(manifest):
    pack(manifest)
    first, *_, last = read_cuts(manifest)
    tar = place_of(first).tar
    os.truncate(tar, place_of(last).offset + 10)
    load_audio(first)
    with pytest.raises(AudioError, match=r"recording\.000000\.tar ends before byte"):
        load_audio(last)
    with pytest.raises(AudioError, match=r"absent\.tar: No such file"):
        Place(tar.with_name("absent.tar"), 0, 1).read()
    with pytest.raises(ManifestError, match="is no place in a tar file"):
        Place.parse("a.tar")


def test_a_recording_in_a_file_of_its_own_is_left_as_it_is():
    cut = dummy_cut("x", 1.0)
    assert place_of(cut) is None
    assert in_memory(cut) is cut
    place = Place(Path("a@b+c/d.tar"), 512, 100)
    assert Place.parse(str(place)) == place
