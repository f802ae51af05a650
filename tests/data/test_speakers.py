"""Embeddings reach the manifest; the package that computes them is optional."""

import importlib.util
import math
import sys

import numpy as np
import pytest

from speechgate.data.speakers import NAME, SIZE, embed_speakers, load_encoder
from speechgate.data.vectors import load_vectors
from speechgate.errors import ConfigError
from tests.data.dummies import dummy_cut, write_audio


class LoudnessEncoder:
    """Stands for Resemblyzer's: a unit vector that depends on the samples."""

    def embed_utterance(self, samples: np.ndarray) -> np.ndarray:
        angle = float(np.abs(samples).mean())
        return np.array([math.cos(angle), math.sin(angle), *[0.0] * (SIZE - 2)], dtype=np.float32)


@pytest.fixture
def cuts_with_audio(tmp_path):
    lengths = {"one": 0.5, "two": 0.8}
    samples = np.random.default_rng(0).normal(0.0, 0.05, (16_000, 1))
    return [
        dummy_cut(
            name, seconds, path=write_audio(tmp_path / f"{name}.wav", seconds, samples=samples[: int(16_000 * seconds)])
        )
        for name, seconds in lengths.items()
    ]


def test_cuts_get_embeddings_that_batches_can_load(cuts_with_audio):
    embedded = list(embed_speakers(cuts_with_audio, LoudnessEncoder()))
    assert [cut.id for cut in embedded] == [cut.id for cut in cuts_with_audio]
    vectors_BV = load_vectors(embedded, {NAME: SIZE})[NAME]
    assert vectors_BV.shape == (len(embedded), SIZE)
    assert vectors_BV.isfinite().all()
    assert len(vectors_BV.unique(dim=0)) > 1


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(ConfigError, match="uv pip install --no-deps resemblyzer webrtcvad-wheels"):
        load_encoder("cpu")


@pytest.mark.skipif(importlib.util.find_spec("resemblyzer") is None, reason="resemblyzer is not installed")
def test_the_real_encoder(cuts_with_audio):
    (cut,) = embed_speakers(cuts_with_audio[:1], load_encoder("cpu"))
    assert math.hypot(*cut.custom[NAME]) == pytest.approx(1.0, abs=1e-3)
