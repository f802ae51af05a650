import warnings

import numpy as np
import pytest
import torch

from speechgate.data.batch import (
    IGNORE,
    SAMPLE_RATE,
    TAIL_SAMPLES,
    ExampleDataset,
    load_audio,
    load_readable,
    make_batch,
    pad_speech,
)
from speechgate.errors import AudioError, ConfigError, ManifestError
from speechgate.text.normalize import normalize_for_training
from tests.data.dummies import TEXTS, dummy_cut, example, write_audio
from tests.model.tiny import tokenizer


def noise(cut):
    """Samples for a cut without a file."""
    return torch.full((cut.num_samples,), 0.5)


@pytest.fixture
def examples():
    english = dummy_cut("eng-a", 0.5)
    russian = dummy_cut("rus-a", 1.0, "rus", {"eng": "Thank you!"})
    return [example(english, "asr:eng"), example(russian, "asr:rus"), example(russian, "st:rus-eng")]


def tokens(text: str, language: str) -> list[int]:
    return tokenizer().encode(normalize_for_training(text, language))


def test_batch_holds_prompt_and_text_for_the_decoder_and_the_transcript_for_ctc(examples):
    batch = make_batch(examples, tokenizer(), 0.0, noise)
    assert len(batch) == 3
    assert batch.cut_ids == ["eng-a", "rus-a", "rus-a"]
    assert [str(task) for task in batch.tasks] == ["asr:eng", "asr:rus", "st:rus-eng"]
    targets = [tokens(TEXTS["eng"], "eng"), tokens(TEXTS["rus"], "rus"), tokens("Thank you!", "eng")]
    # translation too has the transcript in the spoken language for CTC
    transcripts = [targets[0], targets[1], targets[1]]
    sos, eos = tokenizer().sos, tokenizer().eos
    for i, (target, transcript, task) in enumerate(zip(targets, transcripts, batch.tasks, strict=True)):
        prompt = tokenizer().prompt(task)
        steps = len(prompt) + len(target) + 1
        assert batch.decoder_in_lengths[i] == steps
        assert batch.decoder_in_BL[i, :steps].tolist() == [sos, *prompt, *target]
        assert batch.decoder_out_BL[i, :steps].tolist() == [*prompt, *target, eos]
        assert (batch.decoder_in_BL[i, steps:] == eos).all()
        assert (batch.decoder_out_BL[i, steps:] == IGNORE).all()
        assert batch.ctc_lengths[i] == len(transcript)
        assert batch.ctc_BL[i, : len(transcript)].tolist() == transcript
    assert batch.decoder_in_BL.shape == batch.decoder_out_BL.shape == (3, int(batch.decoder_in_lengths.max()))
    assert [tokenizer().token_list[i] for i in batch.decoder_in_BL[2, :4]] == [
        "<sos>",
        "<rus>",
        "<st_eng>",
        "<notimestamps>",
    ]


def test_speech_is_followed_by_silence_and_padded_to_the_longest(examples):
    batch = make_batch(examples[:2], tokenizer(), 0.0, noise)
    assert batch.speech_lengths.tolist() == [8_000 + TAIL_SAMPLES, 16_000 + TAIL_SAMPLES]
    assert batch.speech_BN.shape == (2, 16_000 + TAIL_SAMPLES)
    assert (batch.speech_BN[0, :8_000] == 0.5).all()
    assert not batch.speech_BN[0, 8_000:].any()
    assert not batch.speech_BN[1, 16_000:].any()


def test_short_recordings_are_padded_to_the_model_s_least_length():
    speech_BN, lengths_B = pad_speech([torch.ones(100), torch.ones(SAMPLE_RATE)], min_seconds=0.5)
    assert lengths_B.tolist() == [8_000 + TAIL_SAMPLES, SAMPLE_RATE + TAIL_SAMPLES]
    assert speech_BN[0].sum() == 100


def test_moving_a_batch_leaves_the_lengths_where_they_are(examples):
    batch = make_batch(examples, tokenizer(), 0.0, noise)
    moved = batch.to("meta")
    devices = {name: value.device.type for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert {name for name, device in devices.items() if device == "cpu"} == {
        "speech_lengths",
        "decoder_in_lengths",
        "ctc_lengths",
    }
    assert moved.tasks == batch.tasks


def test_a_task_or_a_translation_that_is_not_there_is_refused(examples):
    cut = dummy_cut("rus-b", 0.5, "rus")
    with pytest.raises(ManifestError, match="cut rus-b:st:rus-eng: no translation"):
        make_batch([example(cut, "st:rus-eng")], tokenizer(), 0.0, noise)
    with pytest.raises(ConfigError, match="has no language <deu>"):
        make_batch([example(cut, "asr:deu")], tokenizer(), 0.0, noise)


def test_load_audio(tmp_path):
    samples = np.linspace(-0.5, 0.5, 4_000, dtype=np.float32)
    path = write_audio(tmp_path / "a.wav", 0.25, samples=samples)
    loaded = load_audio(dummy_cut("a", 0.25, path=path))
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, torch.from_numpy(samples))


def damaged(path, size):
    path.write_bytes(path.read_bytes()[:size])
    return path


@pytest.mark.parametrize(
    ("make", "manifest", "message"),
    [
        (lambda d: write_audio(d / "a.flac", 1.0, rate_hz=8_000), {"rate_hz": 8_000}, "1 channels at 8000 Hz: convert"),
        (lambda d: write_audio(d / "a.flac", 1.0, channels=2), {"channels": 2}, "2 channels at 16000 Hz: convert"),
        (lambda d: write_audio(d / "a.flac", 1.0, channels=2), {}, "several channels"),  # the manifest does not say so
        (lambda d: write_audio(d / "a.flac", 3.0, rate_hz=8_000), {"seconds": 3.0}, "not as long as its manifest says"),
        (lambda d: d / "a.flac", {}, "cannot be read .missing, empty, damaged"),
        (lambda d: damaged(write_audio(d / "a.flac", 1.0), 0), {}, "cannot be read"),
        (lambda d: damaged(write_audio(d / "a.flac", 1.0), 4_000), {}, "cannot be read"),
        (lambda d: write_audio(d / "a.flac", 0.0), {}, "cannot be read"),
        (lambda d: write_audio(d / "a.flac", 0.2), {}, "cannot be read"),
        (lambda d: write_audio(d / "a.wav", 1.0, samples=np.full(16_000, np.nan)), {}, "not finite"),
        (lambda d: write_audio(d / "a.wav", 1.0, samples=np.full(16_000, np.inf)), {}, "not finite"),
    ],
)
def test_a_bad_recording_is_refused_by_name(tmp_path, make, manifest, message):
    path = make(tmp_path)
    with pytest.raises(AudioError, match=message) as raised:
        load_audio(dummy_cut("bad", **{"seconds": 1.0, **manifest}, path=path))
    assert str(raised.value).startswith(f"cut bad: {path}")
    assert "\n" not in str(raised.value)


def test_a_bad_recording_is_left_out_and_listed(tmp_path):
    good = example(dummy_cut("good", 0.5, path=write_audio(tmp_path / "good.flac", 0.5)), "asr:eng")
    bad = example(dummy_cut("bad", 0.5, path=tmp_path / "bad.flac"), "asr:eng")
    with pytest.warns(UserWarning, match=r"left out: cut bad:asr:eng: .*bad\.flac cannot be read"):
        batch = make_batch([bad, good], tokenizer(), 0.0)
    assert batch.cut_ids == ["good"]
    assert batch.speech_BN.shape == (1, 8_000 + TAIL_SAMPLES)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(AudioError, match="none of 1 recordings"):
        make_batch([bad], tokenizer(), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [cut.id for cut, _ in load_readable([good])] == ["good:asr:eng"]


def test_dataset_keeps_so_many_recordings_decoded(tmp_path):
    cuts = []
    for name in "ab":
        cut = dummy_cut(name, 0.25, path=write_audio(tmp_path / f"{name}.flac", 0.25))
        cuts.append(example(cut, "asr:eng"))
    dataset = ExampleDataset(tokenizer(), 0.0, cache=1)
    first = dataset[cuts]
    (tmp_path / "a.flac").unlink()
    assert torch.equal(dataset[cuts].speech_BN, first.speech_BN)
    (tmp_path / "b.flac").unlink()
    with pytest.warns(UserWarning, match="cut b:asr:eng"):
        assert dataset[cuts].cut_ids == ["a"]
