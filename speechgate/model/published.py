"""Checkpoints in ESPnet's own format (as OWSM): a YAML configuration, weights, tokens and pieces.

A folder as published holds exp/.../config.yaml with the tokens in it, exp/.../*.pth, a sentencepiece model bpe.model,
and for models with global statistics feats_stats.npz; the weights hold those statistics too, and theirs are used.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechgate.config import ModelConfig, load_yaml
from speechgate.errors import CheckpointError, ConfigError
from speechgate.model.build import build_model
from speechgate.model.checkpoint import Checkpoint
from speechgate.model.weights import load_state
from speechgate.text.tokenizer import Tokenizer

KINDS = {"frontend": "default", "encoder": "e_branchformer", "decoder": "transformer"}
SCOPES = {"utterance_mvn": "utterance", "global_mvn": "global"}
SECONDS_OF_OWSM = 30.0  # all OWSM models are trained on recordings padded to it
HYBRID = ("ctc_weight", "lsm_weight", "length_normalized_loss")  # what sets the loss; the rest reports on training
# How ESPnet is to compute in training, which changes no output: here train.activation_checkpointing and the kernels do.
COMPUTING = ("use_flash_attn", "use_sdpa", "gradient_checkpoint_layers")


def import_espnet(folder: Path, weights: Path | None = None) -> Checkpoint:
    """Read a published model, in evaluation mode.

    Args:
        weights: which of several .pth files to take.

    Raises:
        CheckpointError: a file is missing, ambiguous or damaged, or the model is of another architecture.
        ConfigError: the configuration has keys that ESPnet's classes do not take.
    """
    config_file = _only(folder, "config.yaml", containing="token_list:")
    values = load_yaml(config_file)
    config = model_config(values, str(config_file))
    tokens = values["token_list"]
    if not isinstance(tokens, list):
        raise CheckpointError(f"{config_file} names its tokens by a file, {tokens}: put the list itself there")
    pieces = _only(folder, Path(values.get("bpemodel") or "bpe.model").name)
    tokenizer = Tokenizer.of_tokens(tokens, pieces.read_bytes(), str(pieces))
    weights = weights or _only(folder, "*.pth")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{weights} cannot be read safely: {str(error).splitlines()[0]}") from error
    model = build_model(config, tokens)
    load_state(model, _present_names(state), weights)
    return Checkpoint(model.eval(), tokenizer, config)


def model_config(values: Mapping[str, Any], where: str) -> ModelConfig:
    """The project's form of an ESPnet training configuration.

    Raises:
        CheckpointError: a part that this project does not build.
    """
    for part, kind in KINDS.items():
        if values.get(part) != kind:
            raise CheckpointError(f"{where}: {part} is {values.get(part)!r}; only {kind!r} can be imported")
    for part in ("preencoder", "postencoder"):
        if values.get(part) is not None:
            raise CheckpointError(f"{where}: it has a {part}, {values[part]!r}, which cannot be imported")
    if values.get("normalize") not in SCOPES:
        known = ", ".join(SCOPES)
        raise CheckpointError(f"{where}: normalize is {values.get('normalize')!r}; choose from: {known}")
    normalize = {key: value for key, value in _section(values, "normalize").items() if key != "stats_file"}
    seconds = _section(values, "preprocessor").get("speech_length", SECONDS_OF_OWSM)
    return ModelConfig(
        frontend=_section(values, "frontend"),
        specaug=_section(values, "specaug") if values.get("specaug") else None,
        normalize={**normalize, "scope": SCOPES[values["normalize"]]},
        encoder=_section(values, "encoder"),
        decoder=_section(values, "decoder"),
        hybrid={key: value for key, value in _section(values, "model").items() if key in HYBRID},
        min_seconds=float(seconds),
    )


def _section(values: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {key: value for key, value in (values.get(f"{part}_conf") or {}).items() if key not in COMPUTING}


def _present_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names that they have in ESPnet now: the linear layer of the subsampling was in a sequence once."""
    return {name.replace("encoder.embed.out.0.", "encoder.embed.out."): value for name, value in state.items()}


def _only(folder: Path, pattern: str, containing: str = "") -> Path:
    """The one file of that name below ``folder``."""
    found = sorted(path for path in folder.rglob(pattern) if not containing or containing in path.read_text())
    if len(found) != 1:
        listed = ", ".join(str(path) for path in found) or "none"
        raise CheckpointError(f"{folder} should hold one {pattern} of a model; found: {listed}")
    return found[0]


def extend_tokens(checkpoint: Checkpoint, symbols: list[str]) -> Checkpoint:
    """A checkpoint that also knows the language or task ``symbols``, such as "<swa>" or "<st_swa>".

    The new rows of the embedding and of both output layers begin as the mean of the rows of the symbols of their kind.

    Raises:
        ConfigError: a symbol is neither a language nor a task, or is known already.
    """
    if checkpoint.gates is not None:
        raise ConfigError("extend the tokens of the dense model, then train gates on it")
    config, old = checkpoint.of_espnet("extend-tokens")
    tokenizer = old.extended(symbols)
    model = build_model(config, tokenizer.token_list)
    ids = {token: i for i, token in enumerate(old.token_list)}
    kind = {symbol: old.tasks if symbol in tokenizer.tasks else old.languages for symbol in symbols}
    state = checkpoint.model.state_dict()
    own = model.state_dict()
    for name, value in state.items():
        if own[name].shape == value.shape:
            continue
        rows = [
            value[ids[token]] if token in ids else value[[ids[each] for each in kind[token]]].mean(0)
            for token in tokenizer.token_list
        ]
        state[name] = torch.stack(rows)
    load_state(model, state, Path("the extended model"))
    return Checkpoint(model.eval(), tokenizer, checkpoint.config)
