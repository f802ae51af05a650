"""Speaker embeddings of cuts, computed once and kept in the manifest: a context for gates (``vector:speaker:256``).

The model is the one inside the Resemblyzer package, trained with GE2E (Wan et al., ICASSP 2018): nothing is fetched.
"""

import importlib
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from lhotse.cut import Cut

from speechgate.data.batch import load_audio
from speechgate.errors import AudioError, ConfigError

NAME, SIZE = "speaker", 256
INSTALL = "uv pip install --no-deps resemblyzer webrtcvad-wheels"  # its own dependencies do not install on Python 3.12


def load_encoder(device: str) -> Any:
    """Resemblyzer's VoiceEncoder.

    Raises:
        ConfigError: the package is not installed; the message says how to.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            resemblyzer = importlib.import_module("resemblyzer")
    except ImportError as error:
        raise ConfigError(f"speaker embeddings need resemblyzer ({error}): {INSTALL}") from error
    return resemblyzer.VoiceEncoder(device, verbose=False)


def embed_speakers(cuts: Iterable[Cut], encoder: Any) -> Iterator[Cut]:
    """Yield the cuts with ``custom["speaker"]``, 256 numbers of norm 1.

    A cut whose recording cannot be read keeps none, with a warning: gates use their "unknown" entry for it.
    """
    for cut in cuts:
        try:
            vector = encoder.embed_utterance(load_audio(cut).numpy())
        except AudioError as error:
            warnings.warn(f"no speaker embedding: {error}", stacklevel=2)
            yield cut
            continue
        embedded = cut.with_id(cut.id)
        embedded.custom = {**(cut.custom or {}), NAME: [round(float(x), 5) for x in vector]}
        yield embedded
