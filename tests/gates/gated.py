"""Gated tiny models, masks for them, and what ran in them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from speechgate.config import GatesConfig, ModelConfig
from speechgate.gates.attach import attach
from speechgate.gates.layer import Gated
from speechgate.gates.module import Gates
from tests.model.tiny import LANGUAGES, random_model, randomise, tiny_config

RELATIVE = {"attention_layer_type": "rel_selfattn", "pos_enc_layer_type": "rel_pos"}
LEGACY = {**RELATIVE, "rel_pos_type": "legacy"}
ABSOLUTE = {"attention_layer_type": "selfattn", "pos_enc_layer_type": "abs_pos"}
BRANCHES = {"cgmlp_linear_units": 20, "cgmlp_conv_kernel": 5}
FFNS = {"linear_units": 24}
# The encoders that ESPnet can be asked for, each as its class and what it is given beside its size.
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "e_branchformer": ("e_branchformer", {**RELATIVE, **BRANCHES, **FFNS, "use_ffn": True, "macaron_ffn": True}),
    "e_branchformer absolute": (
        "e_branchformer",
        {**ABSOLUTE, **BRANCHES, **FFNS, "use_ffn": True, "macaron_ffn": True, "merge_conv_kernel": 5},
    ),
    "e_branchformer with one FFN, legacy positions": (
        "e_branchformer",
        {**LEGACY, **BRANCHES, **FFNS, "use_ffn": True},
    ),
    "e_branchformer without FFN": ("e_branchformer", {**ABSOLUTE, **BRANCHES}),
    "branchformer": ("branchformer", {**RELATIVE, **BRANCHES, "merge_method": "concat"}),
    "branchformer learned average": ("branchformer", {**ABSOLUTE, **BRANCHES, "merge_method": "learned_ave"}),
    "branchformer fixed average, legacy positions": (
        "branchformer",
        {**LEGACY, **BRANCHES, "merge_method": "fixed_ave"},
    ),
    "branchformer of attention": ("branchformer", {**RELATIVE, **BRANCHES, "use_cgmlp": False}),
    "branchformer of cgMLP": (
        "branchformer",
        {**RELATIVE, **BRANCHES, "merge_method": "fixed_ave", "cgmlp_weight": 1.0},
    ),
    "conformer": (
        "conformer",
        {
            "selfattention_layer_type": "rel_selfattn",
            "pos_enc_layer_type": "rel_pos",
            "rel_pos_type": "latest",
            **FFNS,
            "macaron_style": True,
            "cnn_module_kernel": 5,
        },
    ),
    "conformer without macaron": (
        "conformer",
        {**FFNS, "selfattention_layer_type": "selfattn", "pos_enc_layer_type": "abs_pos"},
    ),
    "conformer without convolution, legacy positions": (
        "conformer",
        {**FFNS, "macaron_style": True, "use_cnn_module": False},
    ),
    "transformer": ("transformer", FFNS),
}


def config_of(
    encoder: str, width: int = 16, heads: int = 2, encoder_layers: int = 2, decoder_layers: int = 2
) -> ModelConfig:
    """A tiny model with one of ``ENCODERS``."""
    config = tiny_config(width, heads, encoder_layers, decoder_layers)
    encoder_class, keys = ENCODERS[encoder]
    size = {"output_size": width, "attention_heads": heads, "num_blocks": encoder_layers}
    return replace(
        config,
        encoder_class=encoder_class,
        encoder={**size, **keys, "dropout_rate": 0.0, "positional_dropout_rate": 0.0},
    )


def _configs(encoders: list[str]) -> st.SearchStrategy[ModelConfig]:
    return st.builds(
        lambda encoder, heads, size, layers, decoder_layers: config_of(
            encoder, heads * size, heads, layers, decoder_layers
        ),
        st.sampled_from(encoders),
        st.sampled_from([1, 2]),
        st.sampled_from([6, 8]),
        st.integers(1, 3),
        st.integers(1, 2),
    )


configs = _configs(sorted(ENCODERS))
# With four heads, 24 channels in the encoder and 28 in the decoder, to be divided into groups.
grouped_configs = st.builds(config_of, st.sampled_from(sorted(ENCODERS)), st.just(24), st.just(4), st.integers(1, 2))
groups = st.sampled_from([{"heads": 2}, {"channels": 4}, {"heads": 4, "channels": 2}, {"heads": 2, "channels": 4}])
# ESPnet's older relative positions shift by the length of the batch, so that padding matters to the dense model too.
padded_configs = _configs(sorted(name for name in ENCODERS if "legacy" not in name))
seeds = st.integers(0, 2**16)
batches = st.lists(st.integers(1_500, 9_000), min_size=1, max_size=4)  # samples of each utterance


def gated_model(config: ModelConfig, seed: int = 0, **gates: Any) -> tuple[Any, Gates]:
    """A random model with random gates on both stacks, in evaluation mode, and its gates."""
    model = random_model(config, seed)
    attach(model, GatesConfig(**{"stack": "both", **gates}), LANGUAGES)
    randomise(model.gates, seed + 1)
    return model, model.gates


def random_mask(gates: Gates, batch: int, seed: int, share: float = 0.5) -> Tensor:
    """Booleans (B, S), open with probability ``share``."""
    return torch.rand(batch, len(gates.sites), generator=torch.Generator().manual_seed(seed)) < share


def encode(model: Any, speech_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """The encoder's output, zero beyond each length, and the lengths."""
    out_BTD, frames_B = model.encode(speech_BN, lengths_B)
    padded_BT = torch.arange(out_BTD.size(1)) >= frames_B[:, None]
    return out_BTD.masked_fill(padded_BT[..., None], 0.0), frames_B


def decode(model: Any, encoder_out_BTD: Tensor, frames_B: Tensor, seed: int = 0, length: int = 6) -> Tensor:
    """The teacher-forced decoder's logits (B, L, V) for random tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens_BL = torch.randint(model.vocab_size, (len(frames_B), length), generator=generator)
    return model.decoder(encoder_out_BTD, frames_B, tokens_BL, torch.full((len(frames_B),), length))[0]


def gated_layers(model: Any) -> list[Gated]:
    return [module for module in model.modules() if isinstance(module, Gated)]


def train(model: Any) -> Any:
    """Training mode, but for batch norms: those of a Conformer's convolution would make the two modes differ."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    return model


@contextmanager
def count_calls(model: Any) -> Iterator[Counter[str]]:
    """Count the calls of every module that has a site, by the site's name, and of the joints ("encoder.0.merge")."""
    calls: Counter[str] = Counter()
    handles = []

    def count(module: Any, name: str) -> None:
        handles.append(module.register_forward_hook(lambda *_: calls.update([name])))

    for layer in gated_layers(model):
        for module in (*layer.kinds_in(layer), *layer.joints):
            count(getattr(layer, module.parts[0]), f"{layer.gate_stack}.{layer.gate_layer}.{module.name}")
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
