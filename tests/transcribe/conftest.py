from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgate.audio import Recording
from speechgate.decoding.search import SearchOptions
from speechgate.transcribe.transcriber import Transcriber
from tests.transcribe.bundled import ENGLISH


@pytest.fixture(scope="session")
def transcriber() -> Transcriber:
    return Transcriber(options=SearchOptions(beam_size=2), device="cpu")


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts with half a second between them."""
    path = tmp_path_factory.mktemp("talk") / "talk.wav"
    parts = []
    for source in ENGLISH:
        with Recording(source) as opened:
            parts += [*opened.blocks("flt"), np.zeros(8_000, np.float32)]
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path
