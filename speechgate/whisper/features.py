"""Whisper's log-mel features and convolutions on recordings of their true length, in batches.

Shapes: B batch, N samples, M mel bins, F feature frames (10 ms), T encoder frames (20 ms), D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import WhisperFeatureExtractor

from speechgate.data.batch import SAMPLE_RATE, TAIL_SAMPLES
from speechgate.errors import AudioError

HOP = 160  # samples between feature frames
FLOOR = 1e-10  # of the power


class LogMel(nn.Module):
    """Log-mel features as ``WhisperFeatureExtractor`` computes them, for a batch on its device.

    Attributes:
        hop_length: samples between frames.
    """

    hop_length = HOP

    def __init__(self, mels: int) -> None:
        super().__init__()
        extractor = WhisperFeatureExtractor(feature_size=mels, hop_length=HOP)
        self.n_fft: int = extractor.n_fft
        self.mel_FM: Tensor
        self.register_buffer("mel_FM", torch.from_numpy(extractor.mel_filters).float(), persistent=False)

    def output_size(self) -> int:
        return self.mel_FM.size(1)

    def forward(self, speech_BN: Tensor) -> Tensor:
        """(B, M, F) features of 16 kHz waveforms, each scaled by its own peak."""
        with torch.autocast(speech_BN.device.type, enabled=False):
            window = torch.hann_window(self.n_fft, device=speech_BN.device)
            spectrum = torch.stft(speech_BN.float(), self.n_fft, HOP, window=window, return_complex=True)
            power_BMF = self.mel_FM.T @ spectrum[..., :-1].abs().square()
            mel_BMF = power_BMF.clamp(min=FLOOR).log10()
            return (mel_BMF.maximum(mel_BMF.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0


def frame_counts(lengths_B: Tensor, most: int) -> Tensor:
    """(B,) encoder frames of waveforms of ``lengths_B`` samples, which end in the tail of ``pad_speech``.

    Raises:
        AudioError: more than ``most``, the positions that the model has.
    """
    frames_B = (lengths_B - TAIL_SAMPLES).clamp(min=1).add(2 * HOP - 1).div(2 * HOP, rounding_mode="floor")
    if int(frames_B.max()) > most:
        seconds = most * 2 * HOP / SAMPLE_RATE
        raise AudioError(f"a recording of more than {seconds:g} s, which is all that Whisper hears at once: cut it")
    return frames_B


def embed_frames(encoder: Any, mel_BMF: Tensor, frames_B: Tensor) -> tuple[Tensor, Tensor]:
    """The input of the first layer of transformers' ``WhisperEncoder``.

    Only the positions of the longest recording are computed.  What lies beyond the end of a shorter one is kept zero
    before each convolution, as at the end of the batch, so that utterances do not influence each other.

    Returns:
        x_BTD, and mask_B11T, True on real frames.
    """
    most = int(frames_B.max())
    frames_B = frames_B.to(mel_BMF.device)
    mask_BT = torch.arange(most, device=mel_BMF.device) < frames_B[:, None]
    mask_B1F = mask_BT.repeat_interleave(2, dim=1)[:, None]
    mel_BMF = F.pad(mel_BMF, (0, max(0, 2 * most - mel_BMF.size(2))))[..., : 2 * most] * mask_B1F
    x_BDF = F.gelu(encoder.conv1(mel_BMF)) * mask_B1F
    x_BTD = F.gelu(encoder.conv2(x_BDF)).transpose(1, 2)
    return x_BTD + encoder.embed_positions.weight[:most].to(x_BTD.dtype), mask_BT[:, None, None]
