"""The one configuration mechanism: YAML merged onto a dataclass, `key=value` on top, frozen afterwards.

The only module that imports omegaconf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from varyforge.errors import UserError

T = TypeVar("T")


def load(
    schema: type[T], path: Path | None, overrides: Sequence[str] = (), *, given: Mapping[str, Any] | None = None
) -> T:
    """Reads a recipe.

    Args:
        schema: a dataclass; its fields are the keys.
        path: YAML file. A top-level `base: other.yaml` (relative to the file), or a list of them in order, is merged
            below it, recursively. A mapping further down may have a `base:` too; it stands for what belongs there.
            None: only the schema's defaults and the overrides.
        overrides: `a.b=value`, the value in YAML syntax.
        given: values known to the caller, e.g. parsed input paths; below the overrides.

    Raises:
        UserError: file missing, not YAML, unknown key, wrong type, required key absent; names file and key.
    """
    layers = [] if path is None else _layers(path, seen=())
    layers += [("command line", OmegaConf.create(dict(given or {}))), ("command line", _from_overrides(overrides))]
    config = OmegaConf.structured(schema)
    for origin, layer in layers:
        try:
            config = OmegaConf.merge(config, layer)
        except (OmegaConfBaseException, ValueError, TypeError) as error:  # TypeError: a list where keys belong
            raise UserError(_one_line(error, origin)) from error
    try:
        return cast(T, OmegaConf.to_object(cast(DictConfig, config)))
    except (OmegaConfBaseException, ValueError) as error:  # ValueError: a schema's own __post_init__
        raise UserError(_one_line(error, str(path or "command line"))) from error


def files_of(path: Path) -> list[Path]:
    """The files a recipe consists of: itself and what `base:` names anywhere in it, lowest first, each once."""
    return [Path(origin) for origin in dict.fromkeys(origin for origin, _ in _layers(path, seen=()))]


def keys_of(path: Path) -> set[str]:
    """The top-level keys of a recipe and of what it inherits from: tells which schema it is of.

    Raises:
        UserError: as for `load`.
    """
    return {str(key) for _, layer in _layers(path, seen=()) for key in layer}


def to_yaml(settings: object) -> str:
    """The YAML of a settings object; `load` reads it back."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def to_dict(settings: object) -> dict[str, Any]:
    """Plain containers of a settings object, for hashing and JSON."""
    return dataclasses.asdict(cast(Any, settings))


def _layers(path: Path, seen: tuple[Path, ...]) -> list[tuple[str, DictConfig]]:
    if path.resolve() in seen:
        raise UserError(f"{path}: base: goes round in a circle: {' -> '.join(str(p) for p in (*seen, path))}")
    if not path.is_file():
        raise UserError(f"{path}: no such recipe" + (f" (named by base: in {seen[-1]})" if seen else ""))
    try:
        layer = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(layer, DictConfig):
        raise UserError(f"{path}: expected keys and values at the top, found {type(layer).__name__}")
    content = cast(dict[str, Any], OmegaConf.to_container(layer, resolve=False))
    below: list[tuple[str, DictConfig]] = []
    for keys, name in _bases(content):
        for origin, base in _layers(path.parent / name, (*seen, path.resolve())):
            below.append((origin, reduce(lambda inner, key: OmegaConf.create({key: inner}), reversed(keys), base)))
    return [*below, (str(path), OmegaConf.create(content))]


def _bases(content: dict[Any, Any], keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Takes every `base:` out of nested mappings: the keys above it and the file named, outermost first."""
    base = content.get("base")
    names = [base] if isinstance(base, str) else base
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        del content["base"]
        yield from ((keys, name) for name in names)
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _bases(value, (*keys, key))


def _from_overrides(overrides: Sequence[str]) -> DictConfig:
    for item in overrides:
        key, separator, _ = item.partition("=")
        if not separator or not key:
            raise UserError(f"command line: {item!r} is not of the form key=value")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(_one_line(error, "command line")) from error


def _one_line(error: Exception, origin: str) -> str:
    message = next(iter(str(error).splitlines()), type(error).__name__)
    key = getattr(error, "full_key", None)
    return f"{origin}: {key}: {message}" if key else f"{origin}: {message}"
