"""A Whisper host from transformers' weights, or from the description kept with a checkpoint."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, WhisperForConditionalGeneration
from transformers import WhisperConfig as Architecture

from speechgate.errors import ConfigError
from speechgate.model.build import make_specaug
from speechgate.task import Task
from speechgate.whisper.config import WhisperConfig
from speechgate.whisper.host import WhisperHost
from speechgate.whisper.tokens import WhisperTokens

_NOT_ARCHITECTURE = ("architectures", "transformers_version", "dtype", "torch_dtype", "_name_or_path")


def load_whisper(config: WhisperConfig, tasks: Sequence[Task]) -> tuple[WhisperHost, WhisperTokens, WhisperConfig]:
    """The pretrained model, its tokens with symbols for ``tasks``, and the configuration to keep with a checkpoint.

    Raises:
        ConfigError: the name or folder holds no Whisper, or one that knows English alone.
    """
    name = config.whisper
    try:
        whisper = WhisperForConditionalGeneration.from_pretrained(name, dtype=torch.float32, use_safetensors=True)
        generation = GenerationConfig.from_pretrained(name)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.whisper: {name!r} cannot be loaded: {error}") from error
    tokens = WhisperTokens.of_pretrained(tokenizer, generation, whisper.config.vocab_size).extended(tasks)
    _add_symbols(whisper, tokens)
    plain = {key: value for key, value in whisper.config.to_diff_dict().items() if key not in _NOT_ARCHITECTURE}
    config = dataclasses.replace(config, architecture=plain)
    return _host(whisper, config), tokens, config


def build_whisper(config: WhisperConfig) -> WhisperHost:
    """The model that a checkpoint's configuration describes, with freshly initialised weights."""
    return _host(WhisperForConditionalGeneration(Architecture(**config.architecture)), config)


def _host(whisper: Any, config: WhisperConfig) -> WhisperHost:
    host = WhisperHost(whisper, config.lsm_weight, make_specaug(config.specaug))
    for part in (host.encoder, host.decoder.decoder, *host.encoder.layers, *host.decoder.decoder.layers):
        part.dropout = config.dropout
    return host.train()  # transformers hands pretrained models over in evaluation mode


@torch.no_grad()
def _add_symbols(whisper: Any, tokens: WhisperTokens) -> None:
    if not tokens.added:
        return
    embedding_VD = whisper.get_input_embeddings().weight
    first = len(embedding_VD)
    rows = [embedding_VD[tokens.like(symbol)].mean(0) for symbol in tokens.added]
    whisper.resize_token_embeddings(len(tokens), mean_resizing=False)
    whisper.get_input_embeddings().weight[first:] = torch.stack(rows)
