"""A Whisper encoder as a teacher of acoustics: the student's encoder learns to predict its output frames.

Two hours of prompts do not teach acoustics from random weights through CTC alone; a dense target for every frame does.
Feature regression as in FitNets (Romero et al., ICLR 2015), on layer-normalised outputs.  The teacher is used in
training only and leaves no trace in the checkpoint.

Shapes: B batch, N samples, T student frames, U teacher frames, M mel bins, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechgate.errors import ConfigError

FRAME_SECONDS = 0.02  # of Whisper's encoder: a hop of 10 ms, halved by its second convolution


class WhisperTeacher(nn.Module):
    """The frozen encoder of a Whisper checkpoint (transformers' format: hub name or local folder)."""

    def __init__(self, model: str) -> None:
        super().__init__()
        try:
            from transformers import WhisperFeatureExtractor, WhisperModel
        except ImportError as error:
            raise ConfigError("train.teacher needs transformers: install speechgate[whisper]") from error
        try:
            extractor = WhisperFeatureExtractor.from_pretrained(model)
            self.encoder = WhisperModel.from_pretrained(model, dtype=torch.float32).encoder.requires_grad_(False).eval()
        except OSError as error:
            raise ConfigError(f"train.teacher.model: {model!r} cannot be loaded: {error}") from error
        self.n_fft, self.hop = extractor.n_fft, extractor.hop_length
        self.mel_FM: Tensor
        self.register_buffer("mel_FM", torch.from_numpy(extractor.mel_filters).float(), persistent=False)
        self.width: int = self.encoder.config.d_model

    def train(self, mode: bool = True) -> "WhisperTeacher":
        return super().train(False)

    @torch.no_grad()
    def forward(self, speech_BN: Tensor) -> Tensor:
        """Return layer-normalised encoder outputs (B, U, D), a frame every 20 ms.

        The true length is encoded, not a window of 30 s: positions beyond the batch's longest recording are cut.
        """
        even = -speech_BN.size(1) % (2 * self.hop)
        window = torch.hann_window(self.n_fft, device=speech_BN.device)
        spectrum = torch.stft(F.pad(speech_BN, (0, even)), self.n_fft, self.hop, window=window, return_complex=True)
        power_BMT = self.mel_FM.T @ spectrum[..., :-1].abs().square()
        mel_BMT = power_BMT.clamp(min=1e-10).log10()
        mel_BMT = (mel_BMT.maximum(mel_BMT.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
        x_BUD = F.gelu(self.encoder.conv2(F.gelu(self.encoder.conv1(mel_BMT)))).transpose(1, 2)
        positions_UD = self.encoder.embed_positions.weight
        if x_BUD.size(1) > len(positions_UD):
            raise ConfigError(f"the teacher hears at most 30 s; train.max_seconds lets {x_BUD.size(1) * 0.02:.0f} s in")
        x_BUD = x_BUD + positions_UD[: x_BUD.size(1)]
        for layer in self.encoder.layers:
            out = layer(x_BUD, None)
            x_BUD = out[0] if isinstance(out, tuple) else out
        return F.layer_norm(self.encoder.layer_norm(x_BUD), (self.width,))


def distillation_loss(
    predicted_BTD: Tensor, lengths_B: Tensor, target_BUD: Tensor, frame_seconds: float, offset_seconds: float
) -> Tensor:
    """Squared error per dimension, summed over the real frames of an utterance, averaged over the batch.

    Student frame t is centred at ``offset_seconds + t * frame_seconds``; the teacher's frames are interpolated there.
    """
    frames = torch.arange(predicted_BTD.size(1), device=predicted_BTD.device)
    place_T = ((offset_seconds + frames * frame_seconds - FRAME_SECONDS / 2) / FRAME_SECONDS).clamp(
        0, target_BUD.size(1) - 1
    )
    left_T = place_T.floor().long().clamp(max=target_BUD.size(1) - 2)
    share_T = (place_T - left_T)[:, None]
    target_BTD = target_BUD[:, left_T] * (1 - share_T) + target_BUD[:, left_T + 1] * share_T
    error_BT = (predicted_BTD - target_BTD).square().mean(-1)
    real_BT = frames < lengths_B.to(frames.device)[:, None]
    return (error_BT * real_BT).sum(1).mean()
