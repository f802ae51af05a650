import math
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from lhotse import CutSet

from speechgate.config import TrainConfig
from speechgate.data.loaders import eval_loader, hardest, mixing_weights, train_loader, usable
from speechgate.errors import ManifestError
from speechgate.task import Task
from tests.data.dummies import dummy_cut, write_audio
from tests.model.tiny import TASKS, tokenizer

ENG, RUS, ST = TASKS
CONFIG = TrainConfig(max_duration=4.0, min_seconds=0.2, max_seconds=2.0, buckets=2, task_temperature=2.0, cache=100)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Forty short English cuts, and ten Russian ones with a translation: four times as much English."""
    folder = tmp_path_factory.mktemp("audio")
    made = []
    for i in range(50):
        seconds = 0.3 + 0.02 * (i % 10)
        language = "eng" if i < 40 else "rus"
        path = write_audio(folder / f"{i}.flac", seconds)
        made.append(
            dummy_cut(f"{language}-{i}", seconds, language, {"eng": "Thank you."} if language == "rus" else {}, path)
        )
    return made


@pytest.mark.parametrize(
    ("seconds", "temperature", "weights"),
    [
        ([1.0, 3.0], 1.0, [0.25, 0.75]),
        ([1.0, 9.0], 2.0, [0.25, 0.75]),
        ([1.0, 9.0], math.inf, [0.5, 0.5]),
        ([5.0], 2.0, [1.0]),
    ],
)
def test_mixing_weights(seconds, temperature, weights):
    assert mixing_weights(seconds, temperature) == pytest.approx(weights)


def test_only_cuts_of_trainable_length_are_used():
    cuts = [dummy_cut("short", 0.1), dummy_cut("good", 1.0), dummy_cut("long", 3.0)]
    assert [cut.id for cut in usable(cuts, CONFIG)] == ["good"]
    with pytest.raises(ManifestError, match=r"no cut lasts between 0\.2 and 2\.0 s"):
        usable([dummy_cut("long", 3.0)], CONFIG)


def test_batches_of_training_keep_to_their_seconds_and_mix_the_tasks_by_temperature(cuts):
    loader = train_loader(cuts, [ENG, RUS, ST], tokenizer(), CONFIG, min_seconds=0.0)
    tasks: Counter[Task] = Counter()
    sizes = []
    for batch in islice(loader, 60):
        seconds = (batch.speech_lengths - 512).double() / 16_000
        assert float(seconds.sum()) <= CONFIG.max_duration + 1e-6
        sizes.append(len(batch))
        tasks.update(batch.tasks)
    total = sum(tasks.values())
    expected = mixing_weights([40.0, 10.0, 10.0], 2.0)  # the lengths of the three are distributed alike
    assert sum(sizes) / len(sizes) > 6  # of about ten: batches are full
    shares = [tasks[task] / total for task in (ENG, RUS, ST)]
    assert shares == pytest.approx(expected, abs=0.08)


def test_training_goes_on_beyond_one_pass_and_is_the_same_for_the_same_seed(cuts):
    def first(seed: int) -> list[list[str]]:
        loader = train_loader(cuts[:12], [ENG], tokenizer(), replace(CONFIG, seed=seed), min_seconds=0.0)
        return [batch.cut_ids for batch in islice(loader, 8)]

    batches = first(0)
    seen = Counter(cut_id for ids in batches for cut_id in ids)
    assert len(seen) == 12
    assert min(seen.values()) > 1
    assert first(0) == batches
    assert first(1) != batches


def test_evaluation_is_one_pass_longest_first(cuts):
    loader = eval_loader(cuts, [ENG, RUS, ST], tokenizer(), max_duration=4.0, min_seconds=0.0)
    batches = list(loader)
    examples = [(cut_id, task) for batch in batches for cut_id, task in zip(batch.cut_ids, batch.tasks, strict=True)]
    assert len(examples) == len(set(examples)) == 40 + 10 + 10
    lengths = [int(length) for batch in batches for length in batch.speech_lengths]
    assert lengths == sorted(lengths, reverse=True)
    with pytest.raises(ManifestError, match="no cut of the manifest fits any of: st:eng-rus"):
        eval_loader(cuts, [Task.st("eng", "rus")], tokenizer(), 4.0, 0.0)


def test_manifests_may_be_cutsets(cuts):
    loader = eval_loader(CutSet.from_cuts(cuts[:3]), [ENG], tokenizer(), max_duration=4.0, min_seconds=0.0)
    assert [batch.cut_ids for batch in loader] == [["eng-2", "eng-1", "eng-0"]]


def test_the_hardest_batches_hold_the_longest_recordings_and_the_densest_text():
    made = [dummy_cut(f"{seconds}", seconds) for seconds in (0.5, 1.0, 1.5, 2.0)]
    longest, densest = hardest(made, max_duration=4.0)
    assert [cut.id for cut in longest] == ["2.0", "1.5"]
    assert [cut.id for cut in densest] == ["0.5", "1.0"]
    assert [len(batch) for batch in hardest(made, max_duration=0.1)] == [1, 1]  # a recording is never split


def test_batches_passed_over_are_those_that_came_first(cuts):
    def ids(skip: int, count: int) -> list[list[str]]:
        loader = train_loader(cuts, [ENG, ST], tokenizer(), CONFIG, 0.0, skip=skip)
        return [batch.cut_ids for batch in islice(loader, count)]

    assert ids(5, 3) == ids(0, 8)[5:]
