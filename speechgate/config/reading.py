"""Strict reading: YAML to dataclasses and back.  A misspelt key is an error that suggests the nearest."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from speechgate.errors import ConfigError


def choices(key: str, value: str, known: Iterable[str]) -> str:
    """Return ``value`` if it is among ``known``; otherwise raise a ConfigError that lists them and the nearest."""
    known = list(known)
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(f"{key}: {value!r} is not known{hint} Choose from: {', '.join(known)}")


def check_keys(where: str, given: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Raise a ConfigError for the first key of ``given`` that is not ``allowed``."""
    allowed = list(allowed)
    for key in given:
        choices(where, key, allowed)


def from_mapping[T](cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from plain values; nested dataclasses are built from nested mappings.

    Raises:
        ConfigError: an unknown key, or a value of another type than the default's.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    check_keys(where, values, fields)
    built = {}
    for key, value in values.items():
        nested = dataclass_in(hints[key], value if isinstance(value, Mapping) else {})
        if nested is None:
            value = _checked(f"{where}.{key}", value, fields[key])
        elif isinstance(value, Mapping):
            value = from_mapping(nested, value, f"{where}.{key}")
        elif value is not None:
            keys = ", ".join(field.name for field in dataclasses.fields(nested))
            raise ConfigError(f"{where}.{key} is {value!r}: give a mapping with any of the keys: {keys}")
        built[key] = value
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error


def dataclass_in(hint: Any, values: Mapping[str, Any]) -> Any:
    """The dataclass that a type names, else None; of a union the first whose required keys ``values`` has, or the last.

    So ``WhisperConfig | ModelConfig`` is told apart by the key ``whisper``.
    """
    named = [cls for cls in get_args(hint) or (hint,) if dataclasses.is_dataclass(cls)]
    return next((cls for cls in named if _required(cls) <= values.keys()), named[-1] if named else None)


def _required(cls: Any) -> set[str]:
    missing = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing}


def _checked(where: str, value: Any, spec: dataclasses.Field) -> Any:
    """Convert lists to tuples and integers to floats as the field's default asks; refuse other types."""
    default = spec.default
    if isinstance(value, list):
        return tuple(value)
    if isinstance(default, bool) or default is None or default is dataclasses.MISSING:
        return value
    if isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, type(default)) or isinstance(value, bool):
        raise ConfigError(f"{where}: {value!r} is not of type {type(default).__name__}")
    return value


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: no such file (the message lists its neighbours), not YAML, or not a mapping.
    """
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ConfigError(f"no configuration {path}; in that folder: {', '.join(known) or 'nothing'}")
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain form of a configuration dataclass, as stored in config.yaml."""
    return OmegaConf.to_container(OmegaConf.create(dataclasses.asdict(config)))  # type: ignore[return-value]


def to_yaml(config: Any) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(to_mapping(config)))
