"""Whisper with the interface of ESPnet's ``ESPnetS2TModel``, as far as training, gates and the engine use it.

Shapes: B batch, N samples, T encoder frames, L tokens, D width, V vocabulary.
"""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from speechgate.errors import ConfigError
from speechgate.gates.cost import Outside
from speechgate.gates.macs import weights
from speechgate.gates.sites import Stack
from speechgate.gates.transfer import real_frames
from speechgate.model.espnet_compat import SpecAug
from speechgate.whisper.features import LogMel, embed_frames, frame_counts
from speechgate.whisper.layers import decoder_stack, encoder_stack


class WhisperHost(nn.Module):
    """transformers' Whisper encoder and decoder around this project's batches.

    Attributes:
        encoder: transformers' ``WhisperEncoder``.
        decoder: transformers' ``WhisperDecoder`` and the output layer, called as ESPnet's decoders are.
        ctc: None: Whisper has no such head.
    """

    ctc = None

    def __init__(self, whisper: Any, lsm_weight: float, specaug: SpecAug | None) -> None:
        """``whisper`` is a ``WhisperForConditionalGeneration``, whose modules become this model's."""
        super().__init__()
        self.config = whisper.config
        self.vocab_size: int = whisper.config.vocab_size
        self.frontend = LogMel(whisper.config.num_mel_bins)
        self.specaug = specaug
        self.encoder = whisper.model.encoder
        self.decoder = WhisperTextDecoder(whisper.model.decoder)
        self.criterion_att = SimpleNamespace(smoothing=lsm_weight)

    def encode(self, speech_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's output (B, T, D) and its lengths (B), a frame every 20 ms of the recording's true length.

        Raises:
            AudioError: a recording is longer than the positions that the model has.
        """
        frames_B = frame_counts(lengths_B.cpu(), self.config.max_source_positions)
        mel_BMF = self.frontend(speech_BN)
        if self.specaug is not None and self.training:
            masked_BFM, _ = self.specaug(mel_BMF.transpose(1, 2), 2 * frames_B.to(mel_BMF.device))
            mel_BMF = masked_BFM.transpose(1, 2)
        x_BTD, mask_B11T = embed_frames(self.encoder, mel_BMF, frames_B)
        x_BTD = F.dropout(x_BTD, self.encoder.dropout, self.encoder.training)
        alike = bool((frames_B == frames_B[0]).all())
        for layer in self.encoder.layers:
            x_BTD = layer(x_BTD, None if alike else mask_B11T)
        return self.encoder.layer_norm(x_BTD), frames_B

    def stacks(self) -> tuple[Stack, ...]:
        """What gates see of it."""
        return encoder_stack(self.encoder), decoder_stack(self.decoder.decoder, self.decoder, _decoder_input)

    def outside(self) -> Outside:
        """The cost of what lies outside the stacks: the convolutions and the output layer."""
        convolutions = [self.encoder.conv1, self.encoder.conv2]
        return Outside(
            bins=1,
            convolutions=tuple((each.weight.numel(), each.kernel_size, each.stride, 1) for each in convolutions),
            frame=0,
            token=weights(self.decoder.output_layer),
        )


class WhisperTextDecoder(nn.Module):
    """transformers' ``WhisperDecoder`` over padded encoder outputs, and the output layer tied to its embedding."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    @property
    def output_layer(self) -> nn.Linear:
        """The embedding as a projection, without a bias; it shares the embedding's parameter."""
        embedding = self.decoder.embed_tokens.weight
        layer = nn.Linear(embedding.size(1), embedding.size(0), bias=False, device="meta")
        layer.weight = embedding
        return layer

    def forward(
        self, encoder_out_BTD: Tensor, lengths_B: Tensor, tokens_BL: Tensor, token_lengths_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, L, V) of the tokens after each of ``tokens_BL``, and ``token_lengths_B``.

        What follows an utterance's end takes no part, since attention looks back alone.

        Raises:
            ConfigError: more tokens than the model has positions for.
        """
        decoder, count = self.decoder, tokens_BL.size(1)
        if count > len(decoder.embed_positions.weight):
            raise ConfigError(
                f"a text of {count} tokens, and this Whisper has {len(decoder.embed_positions.weight)} positions: "
                "leave long recordings out by train.max_seconds"
            )
        x_BLD = F.embedding(tokens_BL, decoder.embed_tokens.weight) + decoder.embed_positions.weight[:count]
        x_BLD = F.dropout(x_BLD, decoder.dropout, self.training)
        mask_B11T = None
        if bool((lengths_B != encoder_out_BTD.size(1)).any()):
            mask_B11T = _real_frames(encoder_out_BTD, lengths_B)[:, None, None]
        for layer in decoder.layers:
            x_BLD = layer(x_BLD, None, encoder_out_BTD, mask_B11T, use_cache=False)
        return F.linear(decoder.layer_norm(x_BLD), decoder.embed_tokens.weight), token_lengths_B


def _real_frames(encoder_out_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    return real_frames(lengths_B, encoder_out_BTD.size(1), encoder_out_BTD.device)


def _decoder_input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    encoder_out_BTD, lengths_B = args[:2]
    return encoder_out_BTD, _real_frames(encoder_out_BTD, lengths_B)
