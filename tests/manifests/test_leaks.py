from collections.abc import Callable
from pathlib import Path

from lhotse import MonoCut

from speechgate.manifests.cuts import write_cuts
from speechgate.manifests.leaks import Repeats, find_leaks


def test_every_shared_trait_is_a_row(tmp_path: Path, make_cut: Callable[..., MonoCut]) -> None:
    def manifest(split: str, *cuts: MonoCut) -> list[Path]:
        write_cuts(cuts, tmp_path / f"{split}.jsonl.gz")
        return [tmp_path / f"{split}.jsonl.gz"]

    alone = {"text": "Тест", "translated": {}, "speaker": "anna"}
    same_speech = make_cut("rus-speech", **alone)
    same_speech.recording.id = "rus-train"
    manifests = {
        "train": manifest("train", make_cut("rus-train", text="Добрый день", translated={"eng": "Good day"})),
        "dev": manifest(
            "dev",
            make_cut("rus-sentence", text="ДОБРЫЙ день!", translated={}, speaker="olga"),
            make_cut("eng-sentence", language="eng", text="Good day.", translated={}, speaker="john"),
            make_cut("rus-speaker", text="Иное", translated={}),
        ),
        "test": manifest("test", same_speech),
        "test_more": manifest("test_more", make_cut("rus-more", **alone)),
    }
    found = {(*row["splits"], row["shared"]): row["examples"] for row in find_leaks(manifests)}
    assert found == {
        ("train", "dev", "rus sentence"): ["rus-sentence"],
        ("train", "dev", "eng sentence"): ["eng-sentence"],
        ("train", "dev", "speaker"): ["rus-speaker"],
        ("train", "test", "speech"): ["rus-speech"],
    }


def test_repeats_are_of_one_speaker_and_split(make_cut: Callable[..., MonoCut]) -> None:
    repeats = Repeats()
    repeats.add(make_cut("rus-1", text="Да."), "train")
    repeats.add(make_cut("rus-2", text="да"), "train")
    repeats.add(make_cut("rus-3", text="да", speaker="olga"), "train")
    repeats.add(make_cut("rus-1", text="да"), "dev")
    assert repeats.repeated_texts() == {"train": 1, "dev": 0}
    assert repeats.repeated_ids() == {"train": 0, "dev": 0}
    repeats.add(make_cut("rus-1", text="нет"), "train")
    assert repeats.repeated_ids() == {"train": 1, "dev": 0}
