"""Checkpoints: a folder with model.safetensors, config.yaml, the tokens and run.json.

Nothing in it is unpickled.  Gates are saved with the model, under ``gates.``.  A specialised checkpoint has none: it is
made for one task, and lacks the modules that the gates close there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from speechgate.config import GatesConfig, ModelConfig, from_mapping, load_yaml, model_config, to_mapping
from speechgate.errors import CheckpointError, ConfigError
from speechgate.files import write_json, write_text
from speechgate.gates.attach import attach, detach
from speechgate.gates.cost import CostTable
from speechgate.gates.fixed import drop_closed
from speechgate.model.build import build_model
from speechgate.model.weights import load_weights, save_weights
from speechgate.text.tokenizer import Tokenizer, Tokens
from speechgate.whisper.config import WhisperConfig

FORMAT = 1


@dataclass(frozen=True)
class Specialised:
    """What a checkpoint without its closed modules is for.

    Attributes:
        task: the one that it was made for, such as "st:deu-eng".
        closed: the sites that are gone, such as "decoder.3.ffn".
        utterances: how many the gates were decided by; 0 where they depend on the task alone.
        agreement: the share of those utterances' decisions that are the ones kept; 1 where there were none.
        sparsity: the share that the gates were to skip, where the dial stood if they have one.
    """

    task: str
    closed: tuple[str, ...]
    utterances: int = 0
    agreement: float = 1.0
    sparsity: float = 0.0


@dataclass
class Checkpoint:
    """A model with what is needed to use it.

    ``languages`` are those that the gates know, empty without gates.  Where it is ``specialised``, ``gates`` are those
    that decided what it lacks, and ``full_cost`` is the cost of the model before that was dropped.
    """

    model: Any
    tokenizer: Tokens
    config: ModelConfig | WhisperConfig
    gates: GatesConfig | None = None
    languages: tuple[str, ...] = ()
    specialised: Specialised | None = None
    full_cost: CostTable | None = None

    @property
    def stack(self) -> str:
        """The gated stack, "none" for a dense model."""
        return "none" if self.gates is None else self.gates.stack

    @property
    def sparsity_target(self) -> float:
        """The share of the stack that is to be skipped: where the dial stands, if there is one."""
        if self.specialised is not None:
            return self.specialised.sparsity
        return 0.0 if self.gates is None else float(self.model.gates.budget)

    def of_espnet(self, purpose: str) -> tuple[ModelConfig, Tokenizer]:
        """The configuration and tokens of a model of ESPnet's classes, which ``purpose`` needs.

        Raises:
            ConfigError: it is a Whisper.
        """
        if isinstance(self.config, ModelConfig) and isinstance(self.tokenizer, Tokenizer):
            return self.config, self.tokenizer
        raise ConfigError(f"{purpose} is for models with a CTC head of ESPnet's classes, and this is a Whisper")

    def turn(self, budget: float) -> None:
        """Turn the budget dial of the gates.

        Raises:
            ConfigError: there is no dial, or it does not go so far.
        """
        if self.gates is None:
            raise ConfigError("a dense model has no budget dial: choose a checkpoint of gates")
        if self.specialised is not None:
            raise ConfigError("a specialised model has no budget dial: choose the checkpoint that it was made of")
        self.model.gates.budget = budget

    def add_gates(self, gates: GatesConfig, languages: Iterable[str]) -> None:
        if self.specialised is not None:
            raise CheckpointError(
                f"this checkpoint is specialised for {self.specialised.task} and lacks modules: "
                "gate the one that it was made of"
            )
        self.gates, self.languages = gates, tuple(languages)
        attach(self.model, gates, self.languages)

    def calibrate(self, thresholds: Mapping[str, float]) -> None:
        """Let gates open above these scores; see ``GatesConfig.thresholds``."""
        assert self.gates is not None
        self.gates = self.model.gates.config = replace(self.gates, thresholds=dict(thresholds))

    def specialise(self, specialised: Specialised) -> None:
        """Take the gates off, and drop what is closed."""
        if hasattr(self.model, "gates"):
            detach(self.model)
        self.full_cost = CostTable(self.model, config=self.gates)
        drop_closed(self.model, specialised.closed, config=self.gates)
        self.specialised = specialised


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, run: Mapping[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write ``checkpoint`` to ``folder``; the weights come last, so a folder that has them is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {"format": FORMAT, "model": to_mapping(checkpoint.config)}
    if checkpoint.gates is not None:
        values |= {"gates": to_mapping(checkpoint.gates), "languages": list(checkpoint.languages)}
    if checkpoint.specialised is not None:
        values["specialised"] = to_mapping(checkpoint.specialised)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(values)))
    checkpoint.tokenizer.save(folder)
    write_json(folder / "run.json", dict(run))
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in checkpoint.model.state_dict().items()
    }
    save_weights(state, folder / "model.safetensors")


def load_checkpoint(folder: Path | str, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a checkpoint folder; the model comes in float32 and evaluation mode.

    Keys that config.yaml does not have, being older than they are, get their defaults: a new key's default is what was
    done before there was the key.  Where that cannot be, ``FORMAT`` goes up.

    Raises:
        CheckpointError: not a checkpoint, of another format, damaged, or weights that do not fit the configuration.
        ConfigError: config.yaml has keys or values that this version does not know.
    """
    folder = Path(folder)
    for name in ("model.safetensors", "config.yaml"):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} holds no {name}: not a checkpoint, or its training has not ended")
    values = load_yaml(folder / "config.yaml")
    _check_format(values, folder / "config.yaml")
    checkpoint = _without_weights(model_config(values["model"], f"{folder}/config.yaml: model"), folder)
    if "gates" in values:
        gates = from_mapping(GatesConfig, values["gates"], f"{folder}/config.yaml: gates")
        checkpoint.add_gates(gates, values["languages"])
    if "specialised" in values:
        checkpoint.specialise(from_mapping(Specialised, values["specialised"], f"{folder}/config.yaml: specialised"))
    load_weights(checkpoint.model, folder / "model.safetensors")
    checkpoint.model.to(device).eval()
    return checkpoint


def _check_format(values: Mapping[str, Any], path: Path) -> None:
    written = values.get("format")
    if written != FORMAT:
        newer = isinstance(written, int) and written > FORMAT
        again = f"train it again, or load it with the commit in {path.parent}/run.json"
        advice = "update speechgate" if newer else again
        raise CheckpointError(f"{path} has format {written}; this version reads {FORMAT}: {advice}")
    needed = ("model", "languages") if "gates" in values else ("model",)
    for key in needed:
        if key not in values:
            raise CheckpointError(f"{path} has no {key!r}: copy the checkpoint again, or train it again")


def _without_weights(config: ModelConfig | WhisperConfig, folder: Path) -> Checkpoint:
    if isinstance(config, WhisperConfig):
        whisper = import_whisper()
        return Checkpoint(whisper.build_whisper(config), whisper.WhisperTokens.load(folder), config)
    tokenizer = Tokenizer.load(folder)
    return Checkpoint(build_model(config, tokenizer.token_list), tokenizer, config)


def import_whisper() -> Any:
    """The module ``speechgate.whisper.build``, which needs transformers.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from speechgate.whisper import build
    except ImportError as error:
        raise ConfigError("a Whisper model needs transformers: install speechgate[whisper]") from error
    return build
