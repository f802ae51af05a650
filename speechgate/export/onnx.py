"""A checkpoint as two ONNX graphs and what a program needs to run them; neither PyTorch nor ESPnet is needed then.

encoder.onnx  speech_BN, samples_B -> encoder_out_BTD, frames_B, ctc_log_probs_BTV, source_C2BHTE
decoder.onnx  tokens_BQ, past_A2BHPE, source_C2BHTE, frames_B -> log_probs_BV, present_A2BHSE

The decoder's graph reads Q tokens after P earlier ones, S = P + Q in all, and gives the log-probabilities of the next.
A caller begins with an empty past (P = 0) and the prompt, then hands back what was present, a token at a time.

Shapes: B batch, N samples, F feature frames, M features, K frequencies, T encoder frames, D width, V vocabulary,
H heads, E width of a head; A open self-attentions and C open source attentions, 2 being their keys and values.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from speechgate.data.batch import SAMPLE_RATE, TAIL_SAMPLES
from speechgate.decoding.search import DecoderWeights, prepare_decoder
from speechgate.decoding.search.blocks import FeedForward, SelfAttention, SourceAttention
from speechgate.errors import ConfigError
from speechgate.files import atomic_path, write_json
from speechgate.model.checkpoint import Checkpoint
from speechgate.model.espnet_compat import GlobalMVN
from speechgate.task import Task


class LogMel(nn.Module):
    """ESPnet's DefaultFrontend; its Fourier transform is a convolution here, since graphs have no complex numbers."""

    basis: Tensor  # (2K, 1, window)
    mel: Tensor  # (K, M)

    def __init__(self, frontend: Any) -> None:
        super().__init__()
        stft = frontend.stft
        self.hop, self.pad = stft.hop_length, stft.n_fft // 2 if stft.center else 0
        make_window = torch.ones if stft.window is None else getattr(torch, f"{stft.window}_window")
        window = make_window(stft.win_length)
        left = (stft.n_fft - stft.win_length) // 2
        window = F.pad(window.double(), (left, stft.n_fft - stft.win_length - left))
        if stft.normalized:
            window = window / stft.n_fft**0.5
        turns = torch.outer(torch.arange(stft.n_fft // 2 + 1), torch.arange(stft.n_fft)).double() / stft.n_fft
        angles = 2 * torch.pi * turns
        self.register_buffer("basis", (torch.cat([angles.cos(), angles.sin()]) * window).float()[:, None])
        self.register_buffer("mel", frontend.logmel.melmat)

    def forward(self, speech_BN: Tensor, samples_B: Tensor) -> tuple[Tensor, Tensor]:
        padded_BN = F.pad(speech_BN[:, None], (self.pad, self.pad), mode="reflect")
        real_BFK, imaginary_BFK = F.conv1d(padded_BN, self.basis, stride=self.hop).transpose(1, 2).chunk(2, dim=2)
        power_BFK = real_BFK.square() + imaginary_BFK.square()
        frames_B = (samples_B + 2 * self.pad - self.basis.size(2)) // self.hop + 1
        return (power_BFK @ self.mel).clamp(min=1e-10).log(), frames_B


class Encoder(nn.Module):
    """From the waveform to all that decoding needs of an utterance."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.features = LogMel(model.frontend)
        self.normalize, self.encoder, self.ctc = model.normalize, model.encoder, model.ctc.ctc_lo
        self.sources = [b for b in prepare_decoder(model.decoder).blocks if isinstance(b, SourceAttention)]

    def forward(self, speech_BN: Tensor, samples_B: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features_BFM, lengths_B = self.features(speech_BN, samples_B)
        mask_BF = torch.arange(features_BFM.size(1), device=features_BFM.device) < lengths_B[:, None]
        x_BFM = self._normalised(features_BFM, mask_BF[..., None])
        x, mask_B1T = self.encoder.embed(x_BFM, mask_BF[:, None])
        for layer in self.encoder.encoders:
            x, mask_B1T = layer(x, mask_B1T)
        x_BTD = self.encoder.after_norm(x[0] if isinstance(x, tuple) else x)
        return x_BTD, mask_B1T.sum((1, 2)), F.log_softmax(self.ctc(x_BTD), dim=-1), self._sources(x_BTD)

    def _sources(self, x_BTD: Tensor) -> Tensor:
        """Keys and values of every open source attention, (C, 2, B, H, T, E)."""
        batch, frames, _ = x_BTD.shape
        if not self.sources:
            return x_BTD.new_zeros(0, 2, batch, 1, frames, 1)
        projected = [source.key_value(x_BTD).unflatten(2, (2, source.heads, -1)) for source in self.sources]
        return torch.stack([each_BT2HE.permute(2, 0, 3, 1, 4) for each_BT2HE in projected])

    def _normalised(self, x_BFM: Tensor, real_BF1: Tensor) -> Tensor:
        """What ESPnet's normalisation does, which asks for lengths in Python and so cannot be traced."""
        if isinstance(self.normalize, GlobalMVN):
            mean_M, std_M = self.normalize.mean.to(x_BFM), self.normalize.std.to(x_BFM)
            x_BFM = (x_BFM - mean_M if self.normalize.norm_means else x_BFM).masked_fill(~real_BF1, 0.0)
            return x_BFM / std_M if self.normalize.norm_vars else x_BFM
        x_BFM = x_BFM.masked_fill(~real_BF1, 0.0)
        frames_B11 = real_BF1.sum(1, keepdim=True)
        centred_BFM = (x_BFM - x_BFM.sum(1, keepdim=True) / frames_B11).masked_fill(~real_BF1, 0.0)
        if self.normalize.norm_means:
            x_BFM = centred_BFM
        if self.normalize.norm_vars:
            variance_B1M = centred_BFM.square().sum(1, keepdim=True) / frames_B11
            x_BFM = x_BFM / variance_B1M.sqrt().clamp(min=self.normalize.eps)
        return x_BFM


class DecoderStep(nn.Module):
    """Tokens after those of the past: the open modules alone, with their caches."""

    def __init__(self, weights: DecoderWeights) -> None:
        super().__init__()
        self.weights = weights
        self.positions_PD = weights.positions_PD
        self.scale = weights.embedding_VD.shape[1] ** 0.5

    def forward(
        self, tokens_BQ: Tensor, past_A2BHPE: Tensor, source_C2BHTE: Tensor, frames_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        past, new = past_A2BHPE.size(4), tokens_BQ.size(1)
        steps_S = torch.arange(past + new, device=tokens_BQ.device)
        earlier_QS = steps_S <= steps_S[past:, None]
        real_B11T = (torch.arange(source_C2BHTE.size(4), device=frames_B.device) < frames_B[:, None])[:, None, None]
        x_BQD = F.embedding(tokens_BQ, self.weights.embedding_VD) * self.scale
        x_BQD = x_BQD + F.embedding(steps_S[past:], self.positions_PD)
        present: list[Tensor] = []
        attended = 0
        for block in self.weights.blocks:
            y_BQD = block.norm(x_BQD)
            match block:
                case SelfAttention():
                    qkv = block.query_key_value(y_BQD).unflatten(2, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
                    cache_2BHSE = torch.cat([past_A2BHPE[len(present)], qkv[1:]], dim=3)
                    y_BQD = block.out(_attend(qkv[0], cache_2BHSE, earlier_QS))
                    present.append(cache_2BHSE)
                case SourceAttention():
                    query_BHQE = block.query(y_BQD).unflatten(2, (block.heads, -1)).transpose(1, 2)
                    y_BQD = block.out(_attend(query_BHQE, source_C2BHTE[attended], real_B11T))
                    attended += 1
                case FeedForward():
                    y_BQD = block.down(block.activation(block.up(y_BQD)))
            x_BQD = x_BQD + y_BQD
        logits_BV = self.weights.output(self.weights.norm(x_BQD[:, -1]))
        empty = past_A2BHPE.new_zeros(0, 2, tokens_BQ.size(0), 1, past + new, 1)
        return F.log_softmax(logits_BV, dim=-1), torch.stack(present) if present else empty


def _attend(query_BHQE: Tensor, keys_values_2BHSE: Tensor, mask: Tensor) -> Tensor:
    keys, values = keys_values_2BHSE.unbind(0)
    return F.scaled_dot_product_attention(query_BHQE, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)


def write_onnx(checkpoint: Checkpoint, folder: Path) -> tuple[Path, Path]:
    """Write encoder.onnx, decoder.onnx, onnx.json and the tokens; returns the paths of the graphs.

    onnx.json tells what the waveform must be, the ids of the prompt, the end and the blank, and an empty past's sizes.

    Raises:
        ConfigError: the packages of the extra ``export`` are not installed, or gates of heads leave the layers'
            attention with different numbers of these.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise ConfigError("--format onnx needs more packages: pip install 'speechgate[export]'")
    model = checkpoint.model.eval()
    for module in model.modules():
        if hasattr(module, "use_sdpa"):
            module.use_sdpa = False  # ESPnet views its result in a way that the exporter cannot follow
    weights = prepare_decoder(model.decoder)
    own = [block for block in weights.blocks if isinstance(block, SelfAttention)]
    sources = [block for block in weights.blocks if isinstance(block, SourceAttention)]
    for attentions, kind in ((own, "self_attn"), (sources, "src_attn")):
        if len({attention.heads for attention in attentions}) > 1:
            raise ConfigError(
                f"--format onnx keeps the caches of all decoder layers in one tensor, but the gates leave {kind} "
                f"{sorted({attention.heads for attention in attentions})} heads: use --format speechgate"
            )
    past_size = (len(own), 2, 2, *_heads_and_width(own, 3))
    source_size = (len(sources), 2, 2, *_heads_and_width(sources, 5))
    batch, samples, past, new, frames = (Dim.DYNAMIC,) * 5
    _write(
        folder / "encoder.onnx",
        Encoder(model),
        {"speech_BN": torch.randn(2, 16_000), "samples_B": torch.tensor([16_000, 12_000])},
        {"speech_BN": {0: batch, 1: samples}, "samples_B": {0: batch}},
        ["encoder_out_BTD", "frames_B", "ctc_log_probs_BTV", "source_C2BHTE"],
    )
    _write(
        folder / "decoder.onnx",
        DecoderStep(weights),
        {
            "tokens_BQ": torch.tensor([[3, 4], [5, 6]]),
            "past_A2BHPE": torch.randn(past_size),
            "source_C2BHTE": torch.randn(source_size),
            "frames_B": torch.tensor([5, 4]),
        },
        {
            "tokens_BQ": {0: batch, 1: new},
            "past_A2BHPE": {2: batch, 4: past},
            "source_C2BHTE": {2: batch, 4: frames},
            "frames_B": {0: batch},
        },
        ["log_probs_BV", "present_A2BHSE"],
    )
    checkpoint.tokenizer.save(folder)
    write_json(folder / "onnx.json", _description(checkpoint, past_size))
    return folder / "encoder.onnx", folder / "decoder.onnx"


def _heads_and_width(attentions: Sequence[SelfAttention | SourceAttention], length: int) -> tuple[int, int, int]:
    """H, the length and E of an example's cache; ones where no attention is open."""
    if not attentions:
        return 1, length, 1
    return attentions[0].heads, length, attentions[0].out.weight.shape[1] // attentions[0].heads


def _write(
    path: Path, module: nn.Module, inputs: dict[str, Tensor], dynamic: dict[str, dict[int, Any]], outputs: list[str]
) -> None:
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            kwargs=inputs,
            f=str(temporary),
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _description(checkpoint: Checkpoint, past_size: tuple[int, ...]) -> dict[str, Any]:
    specialised = checkpoint.specialised
    assert specialised is not None
    tokenizer = checkpoint.tokenizer
    return {
        "task": specialised.task,
        "closed": list(specialised.closed),
        "sample_rate_hz": SAMPLE_RATE,
        "tail_samples": TAIL_SAMPLES,
        "min_seconds": checkpoint.config.min_seconds,
        "prompt": [tokenizer.sos, *tokenizer.prompt(Task.parse(specialised.task))],
        "eos": tokenizer.eos,
        "blank": tokenizer.blank,
        "empty_past": [*past_size[:2], 1, past_size[3], 0, past_size[5]],
    }
