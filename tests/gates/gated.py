"""Gated tiny models, masks for them, and what ran in them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from speechgate.config import GatesConfig, ModelConfig
from speechgate.gates.attach import attach
from speechgate.gates.module import Gates
from tests.model.tiny import LANGUAGES, random_model, randomise, tiny_config

configs = st.builds(
    lambda heads, size, encoder, decoder, relative: tiny_config(heads * size, heads, encoder, decoder, relative),
    st.sampled_from([1, 2]),
    st.sampled_from([6, 8]),
    st.integers(1, 3),
    st.integers(1, 2),
    st.booleans(),
)
seeds = st.integers(0, 2**16)
batches = st.lists(st.integers(1_500, 9_000), min_size=1, max_size=4)  # samples of each utterance

# What runs a module: the submodule of its layer that stands for it.
SUBMODULES = {
    "ffn1": "feed_forward_macaron",
    "attn": "attn",
    "cgmlp": "cgmlp",
    "ffn2": "feed_forward",
    "self_attn": "self_attn",
    "src_attn": "src_attn",
    "ffn": "feed_forward",
}


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


@contextmanager
def count_calls(model: Any) -> Iterator[Counter[str]]:
    """Count the calls of every module that has a site, by the site's name, and of the merges ("encoder.0.merge")."""
    calls: Counter[str] = Counter()
    handles = []

    def count(module: Any, name: str) -> None:
        handles.append(module.register_forward_hook(lambda *_: calls.update([name])))

    for site in model.gates.sites:
        layers = model.encoder.encoders if site.stack == "encoder" else model.decoder.decoders
        count(getattr(layers[site.layer], SUBMODULES[site.kind]), str(site))
    for index, layer in enumerate(model.encoder.encoders):
        count(layer.merge_proj, f"encoder.{index}.merge")
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
