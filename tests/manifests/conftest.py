from collections.abc import Callable

import pytest
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment


@pytest.fixture
def make_cut() -> Callable[..., MonoCut]:
    """Make a cut without audio; any part may be replaced."""

    def make(
        cut_id: str = "rus-hello",
        *,
        start: float = 0.0,
        duration: float = 2.0,
        recording_seconds: float = 2.0,
        rate_hz: int = 16_000,
        channels: int = 1,
        supervisions: int = 1,
        text: str | None = "Здравствуйте!",
        language: str | None = "rus",
        speaker: str | None = "maxim",
        translated: dict[str, str] | None = None,
    ) -> MonoCut:
        source = AudioSource(type="file", channels=list(range(channels)), source="absent.flac")
        num_samples = round(recording_seconds * rate_hz)
        recording = Recording(cut_id, [source], rate_hz, num_samples, num_samples / rate_hz)
        custom = {"translated_text": {"eng": "Hello."} if translated is None else translated, "prompt_id": "hello"}
        supervision = SupervisionSegment(
            cut_id, cut_id, 0.0, duration, text=text, language=language, speaker=speaker, custom=custom
        )
        return MonoCut(cut_id, start, duration, 0, supervisions=[supervision] * supervisions, recording=recording)

    return make
