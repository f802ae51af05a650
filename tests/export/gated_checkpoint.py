"""Gated checkpoints in folders, and what their engines hear and say."""

from collections.abc import Mapping
from pathlib import Path

import torch

from speechgate.data.batch import pad_speech
from speechgate.decoding.engine import Decoded, Engine
from speechgate.decoding.search import SearchOptions
from speechgate.model.checkpoint import Checkpoint, save_checkpoint
from speechgate.model.espnet_compat import GlobalMVN
from speechgate.task import Task
from tests.gates.gated import config_of, gated_model
from tests.model.tiny import checkpoint_of, recordings, searchable

OPTIONS = SearchOptions(beam_size=3, ctc_weight=0.3, nbest=2)


def save_gated(
    folder: Path,
    encoder: str = "e_branchformer",
    seed: int = 0,
    layers: int = 2,
    use_sdpa: bool = False,
    normalize: Mapping[str, object] | None = None,
    **gates: object,
) -> Checkpoint:
    """Random gates on both stacks, that look at task and language unless told otherwise; random global statistics."""
    config = config_of(encoder, encoder_layers=layers, decoder_layers=layers)
    config.encoder["use_sdpa"] = use_sdpa
    config.normalize.update(normalize or {})
    model, _ = gated_model(config, seed, **{"context": ("task", "source"), **gates})
    if isinstance(model.normalize, GlobalMVN):
        generator = torch.Generator().manual_seed(seed)
        model.normalize.mean.uniform_(-9.0, -3.0, generator=generator)
        model.normalize.std.uniform_(0.5, 3.0, generator=generator)
    checkpoint = checkpoint_of(searchable(model), config)
    save_checkpoint(folder, checkpoint, {})
    return checkpoint


def decode_noise(checkpoint: Checkpoint, task: Task, seed: int = 0) -> list[Decoded]:
    samples = recordings([9_000, 4_000, 6_000], seed)
    return Engine(checkpoint, OPTIONS).decode(*pad_speech(samples, 0.0), [task] * 3)


def forced(checkpoint: Checkpoint, closed: tuple[str, ...]) -> Checkpoint:
    """The gated checkpoint with these sites closed and all others open."""
    gates = checkpoint.model.gates
    gates.force(torch.tensor([[str(site) not in closed for site in gates.sites]]))
    return checkpoint
