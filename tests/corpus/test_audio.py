import errno
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.corpus import audio
from speechgate.corpus.audio import Converted, convert, convert_all, decode_audio
from speechgate.corpus.prompts_source import BUNDLED
from speechgate.errors import AudioError

REAL = BUNDLED / "usr/share/asterisk/sounds/en_US_f_Allison/agent-loggedoff.g722"


def tone(seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    """A quiet 440 Hz tone (T, C)."""
    times = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.repeat(0.3 * np.sin(2 * np.pi * 440 * times)[:, None], channels, axis=1)


@pytest.fixture
def make_wav(tmp_path: Path):
    def make(name: str, samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ) -> Path:
        soundfile.write(tmp_path / name, samples, rate_hz, subtype="PCM_16")
        return tmp_path / name

    return make


def test_g722_has_two_samples_a_byte() -> None:
    samples, notes = decode_audio(REAL)
    assert samples.dtype == np.int16
    assert len(samples) == 2 * REAL.stat().st_size
    assert not notes
    assert np.abs(samples).max() > 1000, "the recording is speech, not silence"


def test_flac_holds_the_decoded_samples(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.flac"
    assert convert(REAL, target) == Converted(2 * REAL.stat().st_size)
    written, rate_hz = soundfile.read(target, dtype="int16")
    assert rate_hz == SAMPLE_RATE_HZ
    np.testing.assert_array_equal(written, decode_audio(REAL)[0])


@pytest.mark.parametrize(
    ("rate_hz", "channels", "notes"),
    [
        (16_000, 1, ()),
        (8_000, 1, ("resampled from 8000 Hz",)),
        (44_100, 1, ("resampled from 44100 Hz",)),
        (16_000, 2, ("2 channels averaged",)),
        (8_000, 2, ("2 channels averaged", "resampled from 8000 Hz")),
    ],
)
def test_other_formats_are_converted_and_told(make_wav, rate_hz: int, channels: int, notes: tuple[str, ...]) -> None:
    samples, told = decode_audio(make_wav("a.wav", tone(1.0, rate_hz, channels), rate_hz))
    assert told == notes
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, abs=32)
    middle = samples[4000:-4000] / 32768
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02), "the level stays"


def test_stereo_with_an_empty_channel_keeps_its_speech(make_wav) -> None:
    samples = tone(0.5, SAMPLE_RATE_HZ, 2)
    samples[:, 1] = 0
    decoded, _ = decode_audio(make_wav("a.wav", samples))
    assert np.abs(decoded).max() / 32768 == pytest.approx(0.15, rel=0.05)


def test_video_audio_track_is_read(tmp_path: Path) -> None:
    """Compressed audio in a container (as Europarl-ST's m4a) goes the same way."""
    path = tmp_path / "speech.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1.0, 44_100).T.astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    samples, notes = decode_audio(path)
    assert len(samples) == pytest.approx(SAMPLE_RATE_HZ, rel=0.1)
    assert notes == ("resampled from 44100 Hz",)


def test_unusable_recordings_say_why(tmp_path: Path, make_wav) -> None:
    (tmp_path / "empty.g722").touch()
    (tmp_path / "text.wav").write_text("this is not audio, whatever its name says")
    cases = {
        tmp_path / "absent.wav": "No such file",
        tmp_path / "empty.g722": "empty: 0 bytes",
        tmp_path / "text.wav": "cannot be decoded",
        make_wav("short.wav", np.zeros((0, 1))): "length of zero",
        tmp_path: "cannot be decoded",
    }
    for path, reason in cases.items():
        with pytest.raises(AudioError, match=reason) as caught:
            decode_audio(path)
        assert str(path) in str(caught.value)


def test_picture_is_not_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", width=16, height=16, pix_fmt="rgb24")
        for packet in stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")):
            container.mux(packet)
    with pytest.raises(AudioError, match="holds no audio"):
        decode_audio(path)


def test_full_disk_leaves_nothing_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_half(self: Path, data: bytes) -> int:
        with self.open("wb") as handle:
            handle.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(audio.Path, "write_bytes", write_half)
    with pytest.raises(OSError, match="No space left") as caught:
        convert(REAL, tmp_path / "out" / "a.flac")
    assert caught.value.filename == str(tmp_path / "out" / "a.flac")
    assert not list((tmp_path / "out").iterdir())


def test_one_bad_recording_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = tmp_path / "bad.g722"
    bad.touch()
    jobs = [(REAL, tmp_path / "1.flac"), (bad, tmp_path / "2.flac"), (REAL, tmp_path / "3.flac")]
    results = dict(convert_all(jobs, workers=2))
    assert isinstance(results[tmp_path / "1.flac"], Converted)
    assert results[tmp_path / "2.flac"] == f"{bad} is empty: 0 bytes"
    assert sorted(file.name for file in tmp_path.glob("*.flac")) == ["1.flac", "3.flac"]


def test_unwritable_target_ends_the_conversion(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        list(convert_all([(REAL, tmp_path / "file" / "a.flac")], workers=1))
