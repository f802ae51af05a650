"""Where the frames of an encoder lie in the recording."""

from typing import Any

from lhotse.utils import Seconds
from torch import nn

from speechgate.audio import SAMPLE_RATE_HZ
from speechgate.errors import ConfigError


def encoder_frames(model: Any) -> tuple[Seconds, Seconds]:
    """Seconds from a frame to the next, and to the first one's centre: 0.04 and 0.03 in OWSM v3.1, 0.08 and 0.07 in v4.

    Raises:
        ConfigError: the encoder has no subsampling of ESPnet's.
    """
    embed = getattr(model.encoder, "embed", None)
    if embed is None:
        raise ConfigError("the times of this encoder's frames are not known: it has no subsampling of ESPnet's")
    step, width = 1, 1  # of the features that a frame is made of
    for part in embed.modules():
        if isinstance(part, nn.Conv1d | nn.Conv2d):
            width += (part.kernel_size[0] - 1) * step
            step *= part.stride[0]
    hop = model.frontend.hop_length / SAMPLE_RATE_HZ
    return step * hop, (width - 1) / 2 * hop
