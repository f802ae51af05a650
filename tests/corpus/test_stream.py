"""Where the FLAC file of each recording lies."""

from pathlib import Path

import numpy as np
import pytest

from speechgate.corpus import frame
from speechgate.corpus.own import CORPUS as OWN
from speechgate.corpus.stream import recordings
from speechgate.corpus.utterance import Utterance
from speechgate.manifests.cuts import read_cuts
from speechgate.manifests.quality import Quality
from tests.corpus.clips import Clip, write, write_audio


def targets(root: Path, *names: str) -> list[Path]:
    """Where the recordings ``names`` of a corpus at ``root`` go, below its audio folder."""
    utterances = [Utterance(name, "train", root / name, "text", "eng") for name in names]
    return [target.relative_to("home/audio") for _, target in recordings(utterances, root, Path("home"))]


def test_names_follow_the_source_where_no_two_collide(tmp_path: Path) -> None:
    for name in ("a.wav", "b.flac", "sub/a.mp3", "c.ogg"):  # nobody asks for the last
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert targets(tmp_path, "a.wav", "b.flac", "sub/a.mp3") == [Path("a.flac"), Path("b.flac"), Path("sub/a.flac")]


@pytest.mark.parametrize("names", [("x.wav", "x.flac"), ("x.flac", "x.wav"), ("y.wav", "x.flac", "x.mp3", "x.wav")])
def test_recordings_of_one_stem_go_apart(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert len(set(targets(tmp_path, *names))) == len(names)
    assert targets(tmp_path, *names) == targets(tmp_path, *names)


def test_names_whose_dots_end_in_no_suffix_go_apart(tmp_path: Path) -> None:
    names = [f"utterance.{number:06d}" for number in range(40)]
    for name in names:
        (tmp_path / name).touch()
    assert len(set(targets(tmp_path, *names))) == len(names)


def test_each_text_keeps_its_own_sound(tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "load_quality", lambda path: Quality())
    root = tmp_path / "raw"
    by_name = dict(zip(("a/x.wav", "a/x.flac", "a/y.wav"), clips, strict=False))
    for name, clip in by_name.items():
        write_audio(root / name, clip)
    for split in ("train", "dev", "test"):
        rows = [f"{name}\t{clip.texts['fra']}\tfr" for name, clip in by_name.items()]
        write(root / f"{split}.tsv", "audio\ttext\tlanguage", *rows)
    OWN.download(tmp_path, str(root))
    for path in OWN.prepare(tmp_path, workers=1).values():
        for cut, clip in zip(read_cuts(path), by_name.values(), strict=True):
            assert cut.supervisions[0].text == clip.texts["fra"]
            heard = (cut.load_audio()[0, : len(clip.samples)] * 32768).round()
            assert np.array_equal(heard, clip.samples)
