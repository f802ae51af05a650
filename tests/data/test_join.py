from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
import torch
from lhotse import CutSet

from speechgate.config import TrainConfig
from speechgate.data.batch import SAMPLE_RATE, ExampleDataset
from speechgate.data.chain import FADE_SECONDS, load_chain
from speechgate.data.join import Joined, join, joined
from speechgate.data.loaders import train_loader
from speechgate.data.recombine import AlignedWords, Recombiner
from speechgate.data.vectors import load_vectors
from speechgate.errors import AudioError, ConfigError
from speechgate.task import Task
from tests.data.dummies import dummy_cut, example, write_audio
from tests.data.test_batch import tokenizer

ENG, ST = Task.parse("asr:eng"), Task.parse("st:rus-eng")


def spoken(count, seconds=1.0):
    """Examples that say their numbers."""
    made = []
    for number in range(count):
        cut = dummy_cut(f"x{number}", seconds)
        cut.supervisions[0].text = str(number)
        made.append(example(cut, "asr:eng"))
    return made


def test_a_joined_example_says_and_sounds_its_parts_in_turn():
    parts = [example(dummy_cut(name, seconds), "asr:eng") for name, seconds in (("a", 1.0), ("b", 2.5))]
    parts[1].supervisions[0].text = "Thank you."
    cut = join(parts)
    assert (cut.id, cut.custom["cut_id"], cut.duration) == ("a:asr:eng+b:asr:eng", "a+b", 3.5)
    assert cut.supervisions[0].text == "Please try again! Thank you."
    assert parts[0].supervisions[0].text == "Please try again!"
    samples = load_chain(cut, lambda each: torch.full((each.num_samples,), each.duration))
    assert len(samples) == 3.5 * SAMPLE_RATE
    fade = int(FADE_SECONDS * SAMPLE_RATE)
    assert (samples[fade : SAMPLE_RATE - fade] == 1.0).all()
    assert (samples[SAMPLE_RATE + fade : -fade] == 2.5).all()
    assert samples[[0, SAMPLE_RATE - 1, SAMPLE_RATE, -1]].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_translations_are_joined_too_and_only_that_of_the_task():
    cuts = [dummy_cut(name, 1.0, "rus", {"eng": name, "fra": "oui"}) for name in ("one", "two")]
    cut = join([example(each, str(ST)) for each in cuts])
    assert cut.supervisions[0].text == "Введите номер. Введите номер."
    assert cut.supervisions[0].custom["translated_text"] == {"eng": "one two"}
    assert cuts[0].supervisions[0].custom["translated_text"] == {"eng": "one", "fra": "oui"}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_every_example_comes_once_and_in_its_place_whatever_the_share(share):
    made = list(Joined(spoken(4000), share, 6.0, seed=0))
    assert " ".join(cut.supervisions[0].text for cut in made).split() == [str(number) for number in range(4000)]
    lengths = Counter(len(cut.supervisions[0].text.split()) for cut in made)
    assert max(cut.duration for cut in made) <= 6.0
    if share == 0.0:
        assert lengths == {1: 4000}
    else:  # the room is uniform on 1 to 6 s, so that each whole number of seconds below 6 is as likely as the next
        alone = 1 - share + share / 5
        expected = {1: alone} | dict.fromkeys((2, 3, 4, 5), share / 5)
        assert {n: lengths[n] / len(made) for n in expected} == pytest.approx(expected, abs=0.04)


def test_nothing_is_touched_without_a_share():
    examples = CutSet.from_cuts(spoken(3))
    assert joined(examples, TrainConfig()) is examples


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    paths = [write_audio(folder / f"{number}.flac", 0.5 + 0.01 * number) for number in range(20)]
    return [dummy_cut(f"x{number}", 0.5 + 0.01 * number, path=path) for number, path in enumerate(paths)]


CONFIG = TrainConfig(join=0.7, max_duration=8.0, min_seconds=0.2, max_seconds=4.0, buckets=2)


def test_batches_of_joined_examples_keep_to_their_seconds_and_have_all_of_the_text(recorded):
    tokens, counts = tokenizer(), Counter()
    of_one = len(tokens.encode("please try again "))
    for batch in islice(train_loader(recorded, [ENG], tokens, CONFIG, min_seconds=0.0), 40):
        seconds_B = (batch.speech_lengths - 512).double() / SAMPLE_RATE
        assert float(seconds_B.sum()) <= CONFIG.max_duration + 1e-6
        assert float(seconds_B.max()) <= CONFIG.max_seconds
        for name, seconds, length in zip(batch.cut_ids, seconds_B, batch.ctc_lengths, strict=True):
            numbers = [int(each[1:]) for each in name.split("+")]
            assert float(seconds) == pytest.approx(sum(0.5 + 0.01 * number for number in numbers), abs=1e-3)
            assert abs(int(length) - of_one * len(numbers)) <= len(numbers)
            counts[len(numbers)] += 1
    assert len(counts) > 4


def test_every_pass_has_other_neighbours_and_the_same_seed_the_same(recorded):
    def names(seed):
        loader = train_loader(recorded, [ENG], tokenizer(), replace(CONFIG, seed=seed), min_seconds=0.0)
        return [name for batch in islice(loader, 30) for name in batch.cut_ids if "+" in name]

    assert names(0) == names(0) != names(1)
    assert len(set(names(0))) > 0.9 * len(names(0))


def test_processes_share_the_batches_of_one_and_a_resumption_passes_over_those_used(recorded):
    def names(**placed):
        loader = train_loader(recorded, [ENG], tokenizer(), CONFIG, min_seconds=0.0, **placed)
        return [batch.cut_ids for batch in islice(loader, 8)]

    alone = names()
    assert names(skip=3)[:5] == alone[3:]
    shared = [names(rank=rank, world_size=2) for rank in (0, 1)]
    assert [each for pair in zip(*shared, strict=True) for each in pair][:8] == alone


def test_a_joined_example_fits_a_batch(recorded):
    for batch in islice(train_loader(recorded, [ENG], tokenizer(), replace(CONFIG, max_duration=2.0), 0.0), 20):
        assert (batch.speech_lengths - 512).sum() <= 2.0 * SAMPLE_RATE


def test_the_vectors_are_those_of_the_first(recorded):
    parts = [example(each, "asr:eng") for each in recorded[:2]]
    for number, part in enumerate(parts):
        part.custom["speaker"] = [float(number), 1.0]
    assert load_vectors([join(parts)], {"speaker": 2})["speaker"].tolist() == [[0.0, 1.0]]


def test_the_seed_draws_the_lengths():
    def lengths(seed):
        return [len(cut.supervisions[0].text.split()) for cut in Joined(spoken(50), 1.0, 6.0, seed)]

    assert lengths(0) == lengths(0) != lengths(1)


def test_the_first_batch_has_the_longest_joined_examples(recorded):
    alone, together = (
        next(iter(train_loader(recorded, [ENG], tokenizer(), replace(CONFIG, join=share), min_seconds=0.0)))
        for share in (0.0, 0.7)
    )
    assert int(together.speech_lengths.max()) > 3 * int(alone.speech_lengths.max())


def test_what_is_joined_can_be_recombined_and_an_unreadable_part_is_named(recorded):
    cut = join([example(each, "asr:eng") for each in recorded[:3]])
    aligned = AlignedWords(recorded[5], ("word",), (0.0, recorded[5].duration))
    chain = Recombiner([aligned], 1.0, 0)(cut)
    assert chain.supervisions[0].text == "word word"
    assert load_chain(chain, lambda each: torch.ones(each.num_samples)).numel() == 2 * recorded[5].num_samples
    lost = join([example(each, "asr:eng") for each in (recorded[0], dummy_cut("lost", 1.0))])
    with (
        pytest.raises(AudioError, match="none of 1"),
        pytest.warns(UserWarning, match=r"lost.*absent\.flac"),
    ):
        _ = ExampleDataset(tokenizer(), 0.0)[[lost]]


def test_a_share_is_a_share():
    with pytest.raises(ConfigError, match=r"train\.join is 1\.5"):
        TrainConfig(join=1.5)
