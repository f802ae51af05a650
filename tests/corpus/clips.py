"""Short recordings with their texts, and files of them in the containers that corpora use."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from lhotse.cut import Cut

RATE_HZ = 16_000


@dataclass(frozen=True)
class Clip:
    """A real recording (T,) int16 with its text in five languages."""

    samples: np.ndarray
    texts: dict[str, str]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE_HZ


def clip_of(cut: Cut) -> Clip:
    supervision = cut.supervisions[0]
    samples = (cut.load_audio()[0] * 32767).astype(np.int16)
    return Clip(samples, {supervision.language: supervision.text, **supervision.custom["translated_text"]})


def write_audio(path: Path, *clips: Clip, channels: int = 1) -> list[tuple[float, float]]:
    """Write the clips one after the other, half a second apart; return where each is.  The first channel has all.

    The container follows from the name: m4a (AAC) and opus through FFmpeg, the others through libsndfile.
    """
    places, parts, position = [], [], 0.0
    pause = np.zeros(RATE_HZ // 2, np.int16)
    for clip in clips:
        places.append((round(position, 2), round(position + clip.seconds, 2)))
        parts += [clip.samples, pause]
        position += clip.seconds + 0.5
    samples = np.zeros((sum(map(len, parts)), channels), np.int16)
    samples[:, 0] = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".m4a", ".opus"):
        _encode(path, samples)
    else:
        soundfile.write(path, samples, RATE_HZ)
    return places


def _encode(path: Path, samples: np.ndarray) -> None:
    codec, rate_hz = {".m4a": ("aac", RATE_HZ), ".opus": ("libopus", RATE_HZ)}[path.suffix]
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(str(path), "w", format="ogg" if path.suffix == ".opus" else None) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
        resampler = av.AudioResampler(
            format=stream.format.name, layout=layout, rate=rate_hz, frame_size=stream.frame_size
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def write(path: Path, *lines: str, end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + end for line in lines), encoding="utf-8", newline="")
