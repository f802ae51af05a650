import pytest
import torch

from speechgate.data.batch import SAMPLE_RATE, ExampleDataset
from speechgate.data.chain import FADE_SECONDS, load_chain
from speechgate.data.recombine import AlignedWords, Recombiner
from tests.data.dummies import dummy_cut, example, write_audio
from tests.data.test_batch import tokenizer

WORDS = ("one", "two", "three", "four")


def aligned(name, language="eng", seconds=4.0, path=None):
    cut = dummy_cut(name, seconds, language, path=path)
    return AlignedWords(cut, WORDS, (0.0, 1.0, 2.0, 3.0, seconds))


def ramp(cut):
    """Every sample says its own time, in seconds."""
    return torch.arange(cut.num_samples) / SAMPLE_RATE


def test_a_chain_has_the_words_and_the_samples_of_its_fragments():
    recombine = Recombiner([aligned("a"), aligned("b")], share=1.0, seed=0)
    for number in range(30):
        cut = recombine(example(dummy_cut(f"x{number}", 6.0), "asr:eng"))
        chain = cut.custom["fragments"]
        words = cut.supervisions[0].text.split()
        assert sum(fragment.end - fragment.start for fragment in chain) <= cut.duration
        samples = load_chain(cut, ramp)
        begin = 0
        for fragment in chain:
            first, last = int(fragment.start), int(fragment.end)
            assert (fragment.start, fragment.end) == (float(first), float(last))
            assert tuple(words[: last - first]) == WORDS[first:last]
            words = words[last - first :]
            piece = samples[begin : begin + (last - first) * SAMPLE_RATE]
            fade = int(FADE_SECONDS * SAMPLE_RATE)
            inside = torch.arange(fade, len(piece) - fade)
            assert torch.allclose(piece[inside], fragment.start + inside / SAMPLE_RATE)
            assert piece[0] == 0
            assert piece[-1] == 0
            begin += len(piece)
        assert (words, begin) == ([], len(samples))


def test_the_choice_depends_on_seed_and_id_alone():
    recordings = [aligned("a"), aligned("b")]
    cut = example(dummy_cut("x", 6.0), "asr:eng")

    def text(seed, cut):
        return Recombiner(recordings, 1.0, seed)(cut).supervisions[0].text

    assert text(0, cut) == text(0, cut)
    others = {text(0, example(dummy_cut(f"x{number}", 6.0), "asr:eng")) for number in range(10)}
    assert len(others) > 1
    assert len({text(seed, cut) for seed in range(10)}) > 1


def test_share_of_the_examples():
    recombine = Recombiner([aligned("a")], share=0.5, seed=0)
    cuts = [example(dummy_cut(f"x{number}", 6.0), "asr:eng") for number in range(400)]
    replaced = sum("fragments" in recombine(cut).custom for cut in cuts)
    assert 150 < replaced < 250
    assert all(Recombiner([aligned("a")], 0.0, 0)(cut) is cut for cut in cuts)


@pytest.mark.parametrize(
    ("language", "task", "seconds"),
    [("rus", "asr:rus", 6.0), ("eng", "st:eng-rus", 6.0), ("eng", "asr:eng", 0.5)],  # unaligned, ST, too short a room
)
def test_what_cannot_be_recombined_stays_as_it_is(language, task, seconds):
    cut = example(dummy_cut("x", seconds, language), task)
    assert Recombiner([aligned("a")], 1.0, 0)(cut) is cut


def test_dataset_makes_batches_of_chains(tmp_path):
    path = write_audio(tmp_path / "a.flac", 4.0)
    recordings = [AlignedWords(dummy_cut("a", 4.0, path=path), ("a", "b"), (0.0, 2.0, 4.0))]
    dataset = ExampleDataset(tokenizer(), 0.0, recombine=Recombiner(recordings, 1.0, 0))
    cut = example(dummy_cut("x", 6.0, path=tmp_path / "not-read.flac"), "asr:eng")
    batch = dataset[[cut]]
    assert batch.cut_ids == ["x"]
    assert 0 < batch.speech_lengths[0] <= 6 * SAMPLE_RATE + 512
