"""Gate strings as arrays."""

from speechgate.scoring.decoded import Utterance
from speechgate.task import Task
from speechgate.usage.masks import read_masks


def test_masks_pick_the_sites_asked_for() -> None:
    utterances = [
        Utterance(str(number), Task.asr("deu"), "a", "a", None, 1.0, 1.0, 1.0, gates)
        for number, gates in enumerate(("1010", "0110"))
    ]
    assert read_masks(utterances, [1, 2, 3]).tolist() == [[False, True, False], [True, True, False]]
