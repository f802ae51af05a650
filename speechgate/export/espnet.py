"""A checkpoint as ESPnet writes its own: config.yaml, model.pth, tokens.txt and tokens.model; speechgate is not needed.

A model that is normalised by global statistics has them in feats_stats.npz too, since ESPnet builds its layer from a
file; those in the weights, the same, are then put in their place.

ESPnet's layers have all their modules.  A closed one stays, with its last projection zero, so that it adds exactly 0;
of a closed group of heads or channels the columns of that projection are zero.
A layer with nothing open is left out if it ends on its residual stream (the decoder's, and a Transformer encoder's).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from speechgate.data.batch import SAMPLE_RATE
from speechgate.files import atomic_path, write_text
from speechgate.gates.attach import detach
from speechgate.gates.espnet import espnet_stacks
from speechgate.gates.fixed import partly_closed, silence
from speechgate.gates.sites import in_groups
from speechgate.model.checkpoint import Checkpoint, Specialised
from speechgate.model.espnet_compat import GlobalMVN
from speechgate.model.published import SCOPES
from speechgate.task import NO_TIMESTAMPS

WINDOW_SECONDS = 30.0  # ESPnet's own inference for such models pads or cuts every recording to one length: OWSM's
STATISTICS = "feats_stats.npz"
NORMALIZERS = {scope: normalizer for normalizer, scope in SCOPES.items()}


def write_espnet(checkpoint: Checkpoint, specialised: Specialised, folder: Path) -> Path:
    """Write ``checkpoint`` with the gates fixed; its model is changed on the way.  Returns the path of the weights."""
    model = checkpoint.model
    if hasattr(model, "gates"):
        detach(model)
    stacks = in_groups(espnet_stacks(model), checkpoint.gates)
    silence(stacks, specialised.closed)
    for layer, kind, open_G in partly_closed(stacks, specialised.closed):
        weight: Any = layer.get_submodule(kind.out).weight
        with torch.no_grad():
            weight.unflatten(1, (len(open_G), -1))[:, ~torch.tensor(open_G)] = 0.0
    blocks = {}
    for stack in stacks:
        owner, name = (model.encoder, "encoders") if stack.name == "encoder" else (model.decoder, "decoders")
        kept = [
            layer
            for index, layer in enumerate(stack.layers)
            if hasattr(layer, "norm_final")
            or any(str(s) not in specialised.closed for kind in stack.kinds for s in stack.sites(index, kind))
        ]
        setattr(owner, name, type(getattr(owner, name))(*kept))
        blocks[stack.name] = len(kept)
    checkpoint.tokenizer.save(folder)
    if isinstance(model.normalize, GlobalMVN):
        _write_statistics(model.normalize, folder / STATISTICS)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(_config(checkpoint, blocks, folder))))
    with atomic_path(folder / "model.pth") as temporary:
        torch.save({name: value.detach().cpu().clone() for name, value in model.state_dict().items()}, temporary)
    return folder / "model.pth"


def _write_statistics(normalize: GlobalMVN, path: Path) -> None:
    """The sums over one frame that have this mean and standard deviation."""
    mean_M, std_M = (each.double().cpu().numpy() for each in (normalize.mean, normalize.std))
    with atomic_path(path) as temporary:
        np.savez(temporary, count=1, sum=mean_M, sum_square=std_M**2 + mean_M**2)


def _config(checkpoint: Checkpoint, blocks: dict[str, int], folder: Path) -> dict[str, Any]:
    """The arguments of ESPnet's S2T task that build the model, and those that its inference asks for."""
    config, _ = checkpoint.of_espnet("--format espnet")
    normalize_conf = dict(config.normalize)
    normalizer = NORMALIZERS[normalize_conf.pop("scope", "utterance")]
    if normalizer == "global_mvn":
        normalize_conf["stats_file"] = str(folder / STATISTICS)
    return {
        "input_size": None,
        "token_list": checkpoint.tokenizer.token_list,
        "token_type": "bpe",
        "bpemodel": str(folder / "tokens.model"),
        "frontend": "default",
        "frontend_conf": config.frontend,
        "specaug": None if config.specaug is None else "specaug",
        "specaug_conf": config.specaug or {},
        "normalize": normalizer,
        "normalize_conf": normalize_conf,
        "preencoder": None,
        "postencoder": None,
        "encoder": config.encoder_class,
        "encoder_conf": config.encoder | {"num_blocks": blocks["encoder"]},
        "decoder": "transformer",
        "decoder_conf": config.decoder | {"num_blocks": blocks["decoder"]},
        "ctc_conf": {},
        "model": "espnet",
        "model_conf": config.hybrid | {"report_cer": False, "report_wer": False},
        "init": None,
        # The model writes no times.  ESPnet forbids the tokens from the first to the last of them: here this one alone.
        "preprocessor_conf": {
            "notime_symbol": NO_TIMESTAMPS,
            "first_time_symbol": NO_TIMESTAMPS,
            "last_time_symbol": NO_TIMESTAMPS,
            "fs": SAMPLE_RATE,
            "speech_length": max(WINDOW_SECONDS, config.min_seconds),
        },
    }
