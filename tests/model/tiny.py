"""Tiny models with weights worth comparing, and short recordings for them."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from speechgate.config import ModelConfig
from speechgate.data.batch import pad_speech
from speechgate.model.build import build_model
from speechgate.model.checkpoint import Checkpoint
from speechgate.task import Task
from speechgate.text.tokenizer import Tokenizer

LANGUAGES = ("eng", "rus")
TASKS = (Task.asr("eng"), Task.asr("rus"), Task.st("rus", "eng"))
TEXTS = ("please try again", "введите номер", "thank you")


@cache
def tokenizer() -> Tokenizer:
    """One of characters; shared, so not to be changed."""
    return Tokenizer.train(TEXTS, TASKS, "char", 0)


def tiny_config(
    width: int = 16, heads: int = 2, encoder_layers: int = 2, decoder_layers: int = 2, relative: bool = True
) -> ModelConfig:
    """OWSM's architecture, with relative or absolute positions, in some thousands of parameters and without dropout."""
    return ModelConfig(
        frontend={"n_fft": 512, "win_length": 400, "hop_length": 128, "n_mels": 20},
        encoder={
            "output_size": width,
            "attention_heads": heads,
            "num_blocks": encoder_layers,
            "linear_units": 24,
            "cgmlp_linear_units": 20,
            "cgmlp_conv_kernel": 5,
            "merge_conv_kernel": 3,
            "use_ffn": True,
            "macaron_ffn": True,
            "attention_layer_type": "rel_selfattn" if relative else "selfattn",
            "pos_enc_layer_type": "rel_pos" if relative else "abs_pos",
            "max_pos_emb_len": 200,
            "dropout_rate": 0.0,
            "positional_dropout_rate": 0.0,
        },
        decoder={
            "attention_heads": heads,
            "linear_units": 28,
            "num_blocks": decoder_layers,
            "dropout_rate": 0.0,
            "positional_dropout_rate": 0.0,
        },
        hybrid={"ctc_weight": 0.3, "lsm_weight": 0.1},
    )


def randomise(module: nn.Module, seed: int) -> None:
    """Draw every parameter anew: ones, zeros and the tiny weights that ESPnet begins with would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * noise + ("norm" in name and name.endswith("weight")))


def random_model(config: ModelConfig, seed: int = 0) -> Any:
    """A dense model in evaluation mode."""
    model = build_model(config, tokenizer().token_list)
    randomise(model, seed)
    return model.eval()


def searchable(model: Any) -> Any:
    """Sharpen the logits of ``model``, without which all tokens are about equal, and rule out the special symbols."""
    specials = sorted(tokenizer().specials - {tokenizer().eos, tokenizer().blank})
    with torch.no_grad():
        for layer in (model.decoder.output_layer, model.ctc.ctc_lo):
            layer.weight.mul_(4.0)
            layer.bias[specials] = -60.0
        model.decoder.output_layer.bias[tokenizer().blank] = -60.0
        model.decoder.output_layer.bias[tokenizer().eos] += 2.0
    return model


def checkpoint_of(model: Any, config: ModelConfig) -> Checkpoint:
    """``model``, gated or not, as decoding takes it."""
    gates = getattr(model, "gates", None)
    return Checkpoint(
        model, tokenizer(), config, gates and gates.config, () if gates is None else tuple(gates.languages)
    )


def recordings(lengths: list[int], seed: int = 0) -> list[Tensor]:
    """Noise of so many samples, each at its own loudness."""
    generator = torch.Generator().manual_seed(seed)
    return [0.1 * (1 + i) * torch.randn(length, generator=generator) for i, length in enumerate(lengths)]


def speech(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A padded batch of such noise, and its lengths."""
    return pad_speech(recordings(lengths, seed), min_seconds=0.0)
