"""Build a dense model from its configuration.

Shapes: B batch, N samples, T frames, D features, V tokens.
"""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from speechgate.config import ModelConfig, check_keys, choices
from speechgate.errors import ConfigError
from speechgate.model import espnet_compat as espnet

ENCODER_CLASSES = {
    "e_branchformer": espnet.EBranchformerEncoder,
    "branchformer": espnet.BranchformerEncoder,
    "conformer": espnet.ConformerEncoder,
    "transformer": espnet.TransformerEncoder,
}


def build_model(config: ModelConfig, token_list: Sequence[str]) -> espnet.ESPnetS2TModel:
    """Return an ``ESPnetS2TModel`` (encoder, Transformer decoder, CTC) with freshly initialised weights.

    With the E-Branchformer encoder the architecture is OWSM v3.1's (Peng et al., Interspeech 2024).

    Raises:
        ConfigError: a key that the ESPnet class does not take, or a value that it refuses.
    """
    vocab_size = len(token_list)
    frontend = _make(espnet.DefaultFrontend, "frontend", config.frontend)
    specaug = make_specaug(config.specaug)
    normalize = _normalizer(config.normalize, frontend.output_size())
    encoder_class = ENCODER_CLASSES[config.encoder_class]
    encoder = _make(encoder_class, "encoder", config.encoder, input_size=frontend.output_size())
    width = encoder.output_size()
    decoder = _make(
        espnet.TransformerDecoder, "decoder", config.decoder, vocab_size=vocab_size, encoder_output_size=width
    )
    model = _make(
        espnet.ESPnetS2TModel,
        "hybrid",
        config.hybrid,
        vocab_size=vocab_size,
        token_list=list(token_list),
        frontend=frontend,
        specaug=specaug,
        normalize=normalize,
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=decoder,
        ctc=espnet.CTC(odim=vocab_size, encoder_output_size=width),
        report_cer=False,
        report_wer=False,
    )
    if model.decoder is None or model.ctc is None:
        raise ConfigError("model.hybrid.ctc_weight: 0 and 1 leave out CTC or the decoder; train.ctc_weight does not")
    try:
        espnet.initialize(model, config.init)
    except ValueError as error:
        raise ConfigError(f"model.init: {error}") from error
    return model


def make_specaug(given: Mapping[str, Any] | None) -> espnet.SpecAug | None:
    """ESPnet's SpecAug with the arguments of a ``specaug`` section; None without one."""
    return None if given is None else _make(espnet.SpecAug, "specaug", given)


def _normalizer(given: Mapping[str, Any], width: int) -> Any:
    """Normalise each utterance by its own statistics or, with ``scope: global``, by those that come in the weights."""
    given = dict(given)
    scope = choices("model.normalize.scope", given.pop("scope", "utterance"), ("utterance", "global"))
    if scope == "utterance":
        return _make(espnet.UtteranceMVN, "normalize", given)
    with TemporaryDirectory() as folder:  # ESPnet reads the statistics from a file
        neutral = Path(folder) / "feats_stats.npz"
        np.savez(neutral, count=1, sum=np.zeros(width, np.float32), sum_square=np.ones(width, np.float32))
        return _make(espnet.GlobalMVN, "normalize", given, stats_file=neutral)


def _make(cls: Any, section: str, given: Mapping[str, Any], **fixed: Any) -> Any:
    if not isinstance(given, Mapping):
        raise ConfigError(f"model.{section} is {given!r}: give a mapping, the arguments of {cls.__name__}")
    signature = inspect.signature(inspect.unwrap(cls.__init__)).parameters
    allowed = [name for name in signature if name != "self" and name not in fixed]
    check_keys(f"model.{section}", given, allowed)
    try:
        return cls(**given, **fixed)
    except (AssertionError, TypeError, ValueError) as error:
        raise ConfigError(f"model.{section}: {cls.__name__} refuses {dict(given)}: {error}") from error
    except Exception as error:  # typeguard's own exception type is private to ESPnet's version
        if type(error).__name__ != "TypeCheckError":
            raise
        raise ConfigError(f"model.{section}: {error}") from error


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
