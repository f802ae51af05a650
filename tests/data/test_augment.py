"""Noise and reverberation: as loud as asked for, and the same for the same seed and example."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet, Recording, RecordingSet, SupervisionSet
from torch import Tensor

from speechgate.config import NoiseConfig, ReverbConfig, TrainConfig
from speechgate.data.augment import Augmentation, read_sounds
from speechgate.data.batch import SAMPLE_RATE, Batch, ExampleDataset
from speechgate.data.loaders import train_loader
from speechgate.errors import AudioError, ConfigError
from tests.data.dummies import dummy_cut, example, write_audio
from tests.model.tiny import TASKS, tokenizer

ENG = TASKS[0]


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long, short, of another rate, of two channels; and a file that is no recording."""
    folder = tmp_path_factory.mktemp("noises")
    (folder / "deep").mkdir()
    write_audio(folder / "long.wav", 2.0)
    write_audio(folder / "short.flac", 0.05)
    write_audio(folder / "deep" / "slow.wav", 1.0, rate_hz=8_000)
    write_audio(folder / "deep" / "two.flac", 1.0, channels=2)
    (folder / "LICENSE.txt").write_text("CC0")
    return folder


def voice(seconds: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * SAMPLE_RATE), generator=generator)


def noisy(noises: Path, share: float = 1.0, snr_db: tuple[float, float] = (10.0, 10.0), seed: int = 0) -> Augmentation:
    return Augmentation(NoiseConfig(str(noises), share, snr_db), None, seed)


def reverberant(responses: Path | str = "", seed: int = 0) -> Augmentation:
    return Augmentation(None, ReverbConfig(1.0, str(responses)), seed)


def ratio_db(speech_N: Tensor, noise_N: Tensor) -> float:
    return float(10 * (speech_N.double().square().mean() / noise_N.double().square().mean()).log10())


@settings(max_examples=25, deadline=None)
@given(low=st.floats(-5, 20), width=st.floats(0, 10), seconds=st.floats(0.01, 3.0), number=st.integers(0, 10_000))
def test_noise_is_as_loud_as_asked_for(noises, low, width, seconds, number):
    speech_N = voice(seconds)
    before = speech_N.clone()
    heard_N = noisy(noises, snr_db=(low, low + width))(f"x{number}", speech_N)
    assert torch.equal(speech_N, before)
    assert heard_N.dtype == torch.float32
    assert len(heard_N) == len(speech_N)
    assert low - 0.05 <= ratio_db(speech_N, heard_N - speech_N) <= low + width + 0.05


def test_the_share_of_examples_with_noise_and_the_spread_of_its_loudness(noises):
    speech_N = voice(0.2)
    augment = noisy(noises, share=0.5, snr_db=(0.0, 20.0))
    heard = [augment(f"x{number}", speech_N) for number in range(200)]
    ratios = [ratio_db(speech_N, each - speech_N) for each in heard if not torch.equal(each, speech_N)]
    assert 70 < len(ratios) < 130
    assert min(ratios) < 3
    assert max(ratios) > 17


@pytest.mark.parametrize("kind", ["noise", "reverb", "responses"])
def test_what_an_example_gets_depends_on_seed_and_id_alone(noises, kind):
    make = {
        "noise": lambda seed: noisy(noises, seed=seed),
        "reverb": lambda seed: reverberant(seed=seed),
        "responses": lambda seed: reverberant(noises, seed=seed),
    }[kind]
    speech_N = voice(0.3)
    first = make(0)("x_repeat0", speech_N)
    make(0)("another", speech_N)
    state = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    assert torch.equal(make(0)("x_repeat0", speech_N), first)
    assert torch.equal(state[0], torch.random.get_rng_state())
    assert state[1] == np.random.get_state()[1].tolist()
    assert any(not torch.equal(make(0)(f"x_repeat{number}", speech_N), first) for number in range(1, 9))
    assert any(not torch.equal(make(seed)("x_repeat0", speech_N), first) for seed in range(1, 9))


def test_a_room_does_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    heard = []
    for count in (1, 2, 4, 4, 4, 4):
        torch.set_num_threads(count)
        heard.append(reverberant()("x", voice(0.3)))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert all(torch.equal(each, heard[0]) for each in heard)


def test_examples_share_as_many_rooms_as_asked_for():
    click_N = torch.zeros(SAMPLE_RATE)
    click_N[4_000] = 1.0

    def heard(rooms: int) -> int:
        augmentation = Augmentation(None, ReverbConfig(1.0, rooms=rooms), 0)
        return len({tuple(augmentation(f"{number}", click_N).tolist()) for number in range(12)})

    assert heard(rooms=0) == 12
    assert heard(rooms=2) == 2


def test_reverberation_smears_in_time_and_keeps_length_and_energy():
    click_N = torch.zeros(SAMPLE_RATE)
    click_N[4_000] = 1.0
    heard_N = reverberant()("x", click_N)
    assert len(heard_N) == SAMPLE_RATE
    assert heard_N.argmax() == 4_000
    assert heard_N.square().sum() == pytest.approx(1.0, rel=1e-3)
    assert heard_N[4_100:].square().sum() > 1e-3


def test_impulse_responses_of_a_manifest_are_those_used(tmp_path):
    delayed = np.zeros((1_600, 1))
    delayed[[800, 1_000], 0] = 0.8, 0.4
    recording = Recording.from_file(write_audio(tmp_path / "room.wav", 0.1, samples=delayed))
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "rooms.jsonl.gz")
    speech_N = voice(0.5)
    heard_N = reverberant(tmp_path / "rooms.jsonl.gz")("x", speech_N)
    expected_N = speech_N.clone()
    expected_N[200:] += 0.5 * speech_N[:-200]
    expected_N *= (speech_N.square().mean() / expected_N.square().mean()).sqrt()
    torch.testing.assert_close(heard_N, expected_N, atol=1e-5, rtol=1e-4)


def test_sounds_come_from_a_folder_or_a_manifest_of_recordings_or_cuts(noises, tmp_path):
    sounds = read_sounds(str(noises), "train.noise.sounds")
    assert [each.recording.id for each in sounds] == ["slow", "two", "long", "short"]
    assert {(each.sampling_rate, each.num_channels) for each in sounds} == {(SAMPLE_RATE, 1)}
    recordings = RecordingSet.from_recordings(Recording.from_file(path) for path in sorted(noises.glob("*.*a*")))
    recordings.to_file(tmp_path / "recordings.jsonl")
    CutSet.from_manifests(recordings=recordings).to_file(tmp_path / "cuts.jsonl.gz")
    for name in ("recordings.jsonl", "cuts.jsonl.gz"):
        found = read_sounds(str(tmp_path / name), "train.noise.sounds")
        assert [each.duration for each in found] == [2.0, 0.05]


def test_what_holds_no_sound_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.jsonl").write_text("")
    (tmp_path / "notes.txt").write_text("no manifest\n")
    cut = dummy_cut("x", 1.0)
    SupervisionSet.from_segments(cut.supervisions).to_file(tmp_path / "texts.jsonl")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "a.wav").write_bytes(b"RIFF")
    cases = {
        "absent": "no folder or manifest",
        "empty": "no recording in that folder",
        "list.jsonl": "list.jsonl",
        "notes.txt": "cannot be read as a manifest",
        "texts.jsonl": "SupervisionSet; give cuts or recordings",
        "damaged": r"a\.wav cannot be read",
    }
    for name, message in cases.items():
        with pytest.raises(ConfigError, match=f"train.noise.sounds: .*{message}"):
            noisy(tmp_path / name)
    with pytest.raises(ConfigError, match=r"train\.reverb\.responses: no folder"):
        reverberant(tmp_path / "absent")


def test_a_noise_that_has_gone_is_named(tmp_path):
    path = write_audio(tmp_path / "hum.wav", 0.5)
    augment = noisy(tmp_path)
    path.unlink()
    with pytest.raises(AudioError, match=r"noise or impulse response .*hum\.wav cannot be read"):
        augment("x", voice(0.1))


def test_examples_are_augmented_and_what_is_kept_in_memory_stays_clean(noises, tmp_path):
    path = write_audio(tmp_path / "a.wav", 0.5)
    cut = example(dummy_cut("a", 0.5, path=path), "asr:eng")
    plain = ExampleDataset(tokenizer(), 0.0)[[cut]].speech_BN
    dataset = ExampleDataset(tokenizer(), 0.0, cache=1, augment=noisy(noises))
    first, second = dataset[[cut]].speech_BN, dataset[[cut]].speech_BN
    assert torch.equal(first, second)
    assert torch.equal(dataset.kept["a"], plain[0, :8_000])
    assert ratio_db(plain[0, :8_000], (first - plain)[0, :8_000]) == pytest.approx(10.0, abs=0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumption_hears_what_the_uninterrupted_run_heard(noises, tmp_path, workers):
    cuts = [
        dummy_cut(f"c{i}", 0.3 + 0.02 * i, path=write_audio(tmp_path / f"{i}.wav", 0.3 + 0.02 * i)) for i in range(8)
    ]
    config = TrainConfig(max_duration=1.0, min_seconds=0.2, max_seconds=2.0, buckets=2)

    def heard(skip: int, workers: int) -> list[Batch]:
        augment = Augmentation(NoiseConfig(str(noises), 0.7, (5.0, 20.0)), ReverbConfig(0.5), seed=3)
        loader = train_loader(
            cuts, [ENG], tokenizer(), replace(config, workers=workers), 0.0, skip=skip, augment=augment
        )
        return list(islice(loader, 8 - skip))

    whole = heard(0, 0)
    for one, two in zip(whole[3:], heard(3, workers), strict=True):
        assert one.cut_ids == two.cut_ids
        assert torch.equal(one.speech_BN, two.speech_BN)
    versions = {tuple(row[:100].tolist()) for batch in whole for row in batch.speech_BN}
    assert len(versions) > len(cuts)  # another noise in every pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseConfig("x", share=0.0), r"train\.noise\.share is 0\.0"),
        (lambda: NoiseConfig("x", snr_db=(20.0, 5.0)), r"snr_db is \[20\.0, 5\.0\]: give \[lowest, highest\]"),
        (lambda: NoiseConfig("x", snr_db=(5.0,)), "give"),
        (lambda: ReverbConfig(share=1.5), r"train\.reverb\.share is 1\.5"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
