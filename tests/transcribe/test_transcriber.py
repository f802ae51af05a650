"""The pretrained model on the bundled recordings, as a user has it; small random models where gates matter."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechgate.decoding.memory import BatchHalvedWarning
from speechgate.decoding.search import SearchOptions
from speechgate.errors import AudioError, ConfigError
from speechgate.model.checkpoint import save_checkpoint
from speechgate.task import Task
from speechgate.transcribe.recogniser import Recogniser
from speechgate.transcribe.segment import Event, Failed, Finished, Heard
from speechgate.transcribe.speech import Piece
from speechgate.transcribe.transcriber import Transcriber
from tests.gates.gated import gated_model
from tests.model.tiny import TASKS, checkpoint_of, random_model, recordings, searchable, tiny_config
from tests.transcribe.bundled import ENGLISH, FRENCH, SOUNDS


def test_a_long_recording_reads_as_its_parts_do(transcriber: Transcriber, talk: Path) -> None:
    whole = transcriber.transcribe(talk, src="en")
    parts = [transcriber.transcribe(source, src="en") for source in ENGLISH]
    assert "agent" in whole.text
    assert whole.text.split() == " ".join(part.text for part in parts).split()
    assert (whole.task, whole.language_probability) == (Task.asr("eng"), None)
    assert whole.seconds == pytest.approx(soundfile.info(talk).duration)
    for segment in whole.segments:
        assert [word.text for word in segment.words] == segment.text.split()
        times = [time for word in segment.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert segment.start <= times[0] <= times[-1] <= segment.end + 0.05


def test_speech_without_pauses_is_stitched(transcriber: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a detector that hears no pause, windows overlap; no word is lost or doubled."""
    long = SOUNDS / "fr_CA_f_June/vm-record-prepend.g722"
    whole = transcriber.transcribe(long, src="fr").text.split()
    monkeypatch.setattr("speechgate.transcribe.transcriber.SileroDetector", lambda: lambda samples: 0.9)
    monkeypatch.setattr(transcriber, "window_seconds", 4.0)
    stitched = transcriber.transcribe(long, src="fr")
    assert len(stitched.segments) > 1
    assert abs(len(stitched.text.split()) - len(whole)) <= 1
    assert len(set(stitched.text.split()) & set(whole)) > 0.7 * len(set(whole))


def test_language_and_task_are_found_out(transcriber: Transcriber) -> None:
    for source, language in ((ENGLISH[0], "eng"), (FRENCH, "fra")):
        found = transcriber.transcribe(str(source))
        assert found.task == Task.asr(language)
        assert found.language_probability is not None
        assert found.language_probability > 0.5
    assert transcriber.transcribe(FRENCH, tgt="en").task == Task.st("fra", "eng")
    with pytest.raises(AudioError, match="is in eng, as far as the model can tell"):
        transcriber.transcribe(ENGLISH[0], tgt="en")


def test_bad_recordings_are_told_and_leave_the_others_as_they_are(
    transcriber: Transcriber, talk: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "noise.flac").write_bytes(np.random.default_rng(0).bytes(5_000))
    good, rate_hz = soundfile.read(talk, dtype="float32")
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        broken = good.copy()
        broken[len(broken) // 2] = value
        soundfile.write(tmp_path / f"{name}.wav", broken, rate_hz, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", good[:0], rate_hz)
    bad = {
        tmp_path: "Is a directory",
        tmp_path / "text.wav": "cannot be decoded",
        tmp_path / "empty.mp3": "0 bytes",
        tmp_path / "noise.flac": "length of zero",
        tmp_path / "nan.wav": "not finite",
        tmp_path / "infinite.wav": "not finite",
        tmp_path / "none.wav": "length of zero",
        tmp_path / "absent.wav": "No such file",
    }
    sources = [ENGLISH[0], *bad, ENGLISH[1]]
    events = list(transcriber.stream(sources, src="en"))
    failures = {event.source: str(event.error) for event in events if isinstance(event, Failed)}
    assert set(failures) == set(bad)
    for path, reason in bad.items():
        assert reason in failures[path]
        assert str(path) in failures[path]
    alone = [event for source in (ENGLISH[0], ENGLISH[1]) for event in transcriber.stream([source], src="en")]
    assert _texts(event for event in events if event.source in (ENGLISH[0], ENGLISH[1])) == _texts(alone)


def _texts(events: object) -> list[object]:
    return [event.segment.text if isinstance(event, Heard) else type(event) for event in events]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(1),
        np.zeros(1_600),
        np.zeros(160_000),
        np.full(16_000, 1.0),
        1e30 * np.ones(16_000),
        np.random.default_rng(0).standard_normal(32_000) * 0.3,
    ],
    ids=["one sample", "0.1 s", "silence", "constant", "huge", "noise"],
)
def test_what_is_no_speech_gives_no_text_and_no_failure(
    transcriber: Transcriber, tmp_path: Path, samples: np.ndarray
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, samples.astype(np.float32), 16_000, subtype="FLOAT")
    events: list[Event] = list(transcriber.stream([path]))
    assert isinstance(events[-1], Finished)
    assert events[-1].seconds == len(samples) / 16_000
    assert all(isinstance(event, Heard) for event in events[:-1])


@pytest.mark.parametrize(
    ("rate_hz", "channels", "suffix"), [(8_000, 1, ".wav"), (44_100, 2, ".ogg"), (16_000, 2, ".flac")]
)
def test_other_rates_channels_and_formats(
    transcriber: Transcriber, talk: Path, tmp_path: Path, rate_hz: int, channels: int, suffix: str
) -> None:
    samples, _ = soundfile.read(talk, dtype="float32")
    at = np.arange(0, len(samples) - 1, 16_000 / rate_hz)
    resampled = np.interp(at, np.arange(len(samples)), samples)
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.repeat(resampled[:, None], channels, 1), rate_hz)
    found = transcriber.transcribe(path, src="en")
    assert found.seconds == pytest.approx(len(samples) / 16_000, abs=0.1)
    assert "record" in found.text


def test_a_path_as_text_is_named_in_errors(transcriber: Transcriber, tmp_path: Path) -> None:
    [event] = transcriber.stream([str(tmp_path / "nope.wav")])
    assert isinstance(event, Failed)
    assert "nope.wav" in str(event.error)


def test_a_stream_is_read_too(transcriber: Transcriber, talk: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self._data = io.BytesIO(talk.read_bytes())

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._data.read(size)

    assert transcriber.transcribe(Pipe(), src="en").text == transcriber.transcribe(talk, src="en").text  # type: ignore[arg-type]


def test_a_gated_model_is_asked_for_each_language_under_its_own_gates(tmp_path: Path) -> None:
    config = tiny_config()
    model, gates = gated_model(config, seed=3)
    recogniser = Recogniser(checkpoint_of(model, config), SearchOptions(beam_size=2))
    pieces = [Piece(samples.numpy(), 0.0) for samples in recordings([9_000, 12_000])]
    found = recogniser.languages(pieces, TASKS[:2])
    assert sum(found.values()) == pytest.approx(1.0)
    alone = [recogniser.languages(pieces, [task])[task.src] for task in TASKS[:2]]
    assert alone == [1.0, 1.0]
    swapped = recogniser.languages(pieces, TASKS[1::-1])
    assert swapped == pytest.approx(found)
    gates.force(torch.ones(1, len(gates.sites), dtype=torch.bool))
    assert recogniser.languages(pieces, TASKS[:2]) != pytest.approx(found)


def test_pieces_that_do_not_fit_in_memory_are_heard_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    recogniser = Recogniser(checkpoint_of(searchable(random_model(config, seed=3)), config), SearchOptions(beam_size=2))
    pieces = [Piece(samples.numpy(), float(i)) for i, samples in enumerate(recordings([9_000, 12_000, 7_000]))]
    batches = [list(zip(pieces, TASKS, strict=True))]
    expected = dict(recogniser.segments(batches))
    encode = recogniser._engine.encode

    def small(speech_BN: torch.Tensor, *rest: object) -> tuple[torch.Tensor, ...]:
        if len(speech_BN) > 1:
            raise torch.OutOfMemoryError("full")
        return encode(speech_BN, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(recogniser._engine, "encode", small)
    with pytest.warns(BatchHalvedWarning):
        found = dict(recogniser.segments(batches))
    assert sorted(found) == sorted(expected) == [0, 1, 2]
    assert all((found[i].start, found[i].text) == (expected[i].start, expected[i].text) for i in expected)


def test_sparsity_turns_the_dial_of_a_model_that_has_one(tmp_path: Path) -> None:
    config = tiny_config()
    for name, gates in {"fixed": {}, "dial": {"rule": "budget", "budget": (0.2, 0.8)}}.items():
        save_checkpoint(tmp_path / name, checkpoint_of(gated_model(config, **gates)[0], config), {})
    with pytest.raises(ConfigError, match="no dial"):
        Transcriber(tmp_path / "fixed", sparsity=0.3, device="cpu")
    with pytest.raises(ConfigError):
        Transcriber(tmp_path / "dial", sparsity=0.9, device="cpu")
    assert Transcriber(tmp_path / "fixed", device="cpu").known.languages == ["eng", "rus"]
    talks = [
        Transcriber(tmp_path / "dial", sparsity=share, device="cpu").transcribe(ENGLISH[0], src="en")
        for share in (0.2, 0.8)
    ]
    assert talks[0].segments != talks[1].segments
