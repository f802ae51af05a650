"""Noise and reverberation for training examples, by lhotse, as they are loaded in the workers.

What an example gets depends on the seed and its id alone, which tells its passes through the corpus apart: it is the
same in any worker and after a resumption, and another in every pass.

Shapes: N samples.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet, Recording, RecordingSet, load_manifest
from lhotse.audio.mixer import AudioMixer
from lhotse.augmentation import FastRandomRIRGenerator, ReverbWithImpulseResponse
from lhotse.cut import MonoCut, MultiCut
from lhotse.cut.data import DataCut
from torch import Tensor

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.config import NoiseConfig, ReverbConfig
from speechgate.errors import AudioError, ConfigError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph")


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker: where reflections arrive at once, lhotse's generator keeps one, and several threads any one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Augmentation:
    """Reverberates an example, then adds noise; each to the share of examples that its configuration says."""

    def __init__(self, noise: NoiseConfig | None, reverb: ReverbConfig | None, seed: int) -> None:
        """Raises ConfigError if there is no sound where the configuration says."""
        self.noise, self.reverb, self.seed = noise, reverb, seed
        self.noises = [] if noise is None else read_sounds(noise.sounds, "train.noise.sounds")
        responses = "" if reverb is None else reverb.responses
        self.responses = read_sounds(responses, "train.reverb.responses") if responses else []
        self.rooms: dict[int, np.ndarray] = {}  # the impulse responses drawn so far, about 30 kB each

    @_one_thread()
    def __call__(self, example_id: str, samples_N: Tensor) -> Tensor:
        """The samples of the example as it is to be heard, as many as before.

        Raises:
            AudioError: a noise or an impulse response cannot be read.
        """
        heard_1N = samples_N.numpy()[None]
        if self.reverb is not None:
            rng = random.Random(f"reverb {self.seed} {example_id}")
            if rng.random() < self.reverb.share:
                heard_1N = ReverbWithImpulseResponse(rir_generator=self._response(rng))(heard_1N, SAMPLE_RATE_HZ)
        if self.noise is not None:
            rng = random.Random(f"noise {self.seed} {example_id}")
            if rng.random() < self.noise.share:
                mixer = AudioMixer(heard_1N, SAMPLE_RATE_HZ)
                mixer.add_to_mix(self._noise(rng, heard_1N.shape[1]), snr=rng.uniform(*self.noise.snr_db))
                heard_1N = mixer.mixed_audio
        return torch.from_numpy(heard_1N[0])

    def _response(self, rng: random.Random) -> Callable[..., np.ndarray]:
        """A function that gives an impulse response, (1, samples), as lhotse calls it."""
        if self.responses:
            response = _load(rng.choice(self.responses))
            return lambda nsource: response
        assert self.reverb is not None
        if not self.reverb.rooms:
            response = draw_room(rng)
            return lambda nsource: response
        number = rng.randrange(self.reverb.rooms)
        if number not in self.rooms:
            self.rooms[number] = draw_room(random.Random(f"room {self.seed} {number}"))
        return lambda nsource: self.rooms[number]

    def _noise(self, rng: random.Random, samples: int) -> np.ndarray:
        """A piece of a noise, (1, N), which is repeated where it is too short."""
        sound = rng.choice(self.noises)
        seconds = min(sound.duration, samples / SAMPLE_RATE_HZ)
        piece = sound.truncate(offset=rng.uniform(0.0, sound.duration - seconds), duration=seconds)
        return np.resize(_load(piece), (1, samples))


def draw_room(rng: random.Random) -> np.ndarray:
    """The impulse response, (1, samples), of a room drawn by lhotse's generator, which is 0.1 to 0.8 s long."""
    room = FastRandomRIRGenerator(SAMPLE_RATE_HZ, room_seed=rng.getrandbits(32), source_seed=rng.getrandbits(32))
    with torch.random.fork_rng(devices=[]):  # the reflections come from PyTorch's generator
        torch.default_generator.manual_seed(rng.getrandbits(63))
        return room(1)


def read_sounds(path: str, key: str) -> list[MonoCut]:
    """The recordings at ``path`` in a fixed order, a cut of one channel at 16 kHz each.

    Args:
        path: a folder with recordings, at any depth, or a manifest of lhotse's with cuts or recordings.
        key: of the configuration, for messages.

    Raises:
        ConfigError: nothing is there, no recording is in it, or it is no such manifest.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(each for each in place.rglob("*") if each.suffix.lower() in SUFFIXES)
        sounds = [_recorded(file, key).to_cut() for file in files]
        empty = f"no recording in that folder ({', '.join(SUFFIXES)})"
    elif place.is_file():
        sounds = _listed(place, key)
        empty = "no recording in that manifest"
    else:
        raise ConfigError(f"{key}: no folder or manifest {path}")
    if not sounds:
        raise ConfigError(f"{key}: {path}: {empty}")
    mono = [each.to_mono()[0] if isinstance(each, MultiCut) else each for each in sounds]
    return [each if each.sampling_rate == SAMPLE_RATE_HZ else each.resample(SAMPLE_RATE_HZ) for each in mono]


def _listed(manifest: Path, key: str) -> list[DataCut]:
    try:
        listed = load_manifest(manifest)
        if isinstance(listed, RecordingSet):
            return [recording.to_cut() for recording in listed]
        if isinstance(listed, CutSet):
            return [cut for cut in listed if isinstance(cut, DataCut) and cut.has_recording]
    except Exception as error:  # whatever lhotse meets in a file that is something else
        raise ConfigError(f"{key}: {manifest} cannot be read as a manifest of lhotse's: {error}") from error
    raise ConfigError(f"{key}: {manifest} is a {type(listed).__name__}; give cuts or recordings")


def _recorded(file: Path, key: str) -> Recording:
    try:
        return Recording.from_file(file)
    except Exception as error:  # of whichever decoder lhotse tried last
        raise ConfigError(f"{key}: {file} cannot be read: {error}; repair it or take it out") from error


def _load(sound: MonoCut) -> np.ndarray:
    where = f"noise or impulse response {sound.recording.sources[0].source}"
    try:
        samples = sound.load_audio()
    except Exception as error:  # as above
        raise AudioError(f"{where} cannot be read: it is missing, damaged, or not as long as it was") from error
    if samples.size == 0 or not np.isfinite(samples).all():
        raise AudioError(f"{where} is empty, or has samples that are not finite: take it out")
    return samples
