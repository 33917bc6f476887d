"""Configuration: YAML is merged onto a dataclass, `key=value` from the command line on top. The result is frozen.

No other module imports omegaconf.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from varyforge.errors import UserError

T = TypeVar("T")

_SHIPPED = (Path(__file__).parent / "recipes", Path(__file__).parents[1] / "recipes")  # in a wheel, in a checkout


def find_recipe(name: str | Path) -> Path:
    """Return the path of a recipe: a file of that name, else the shipped recipe, else `name` as it is.

    Of a shipped recipe, `recipes/` and `.yaml` may be left out: `recipes/toy_pretrain.yaml` and `toy_pretrain` are the
    same one.
    """
    return _recipe_at(Path(name), name)


def load(
    schema: type[T], path: Path | None, overrides: Sequence[str] = (), *, inputs: Mapping[str, Any] | None = None
) -> T:
    """Load a recipe into a dataclass.

    Args:
        schema: a dataclass; its fields are the keys.
        path: YAML file or the name of a shipped recipe. A top-level `base: other.yaml` (relative to the file), or a
            list of such names in order, is merged below the file, recursively. A mapping further down may have a
            `base:` too, which is merged below that mapping. None: only defaults and overrides.
        overrides: `a.b=value`, the value in YAML syntax.
        inputs: values that the caller knows, such as parsed input paths. Overrides go on top.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown or absent, or a value has the wrong type. The
            message names file and key.
    """
    layers = [] if path is None else _layers(find_recipe(path), seen=())
    layers += [("command line", OmegaConf.create(dict(inputs or {}))), ("command line", _from_overrides(overrides))]
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
    """List the files of a recipe: the recipe and what `base:` names anywhere in it, lowest first, each once."""
    return [Path(origin) for origin in dict.fromkeys(origin for origin, _ in _layers(find_recipe(path), seen=()))]


def keys_of(path: Path) -> set[str]:
    """Return the top-level keys of a recipe and its bases, by which callers choose the schema.

    Raises:
        UserError: as for `load`.
    """
    return {str(key) for _, layer in _layers(find_recipe(path), seen=()) for key in layer}


def to_yaml(settings: object) -> str:
    """Write a settings object as YAML, which `load` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def to_dict(settings: object) -> dict[str, Any]:
    """Convert a settings object to dicts and lists, for hashing and JSON."""
    return dataclasses.asdict(cast(Any, settings))


def _recipe_at(path: Path, name: str | Path) -> Path:
    """Return `path` if it is a file, else the shipped recipe `name`, else `path`."""
    inside = Path(name).relative_to("recipes") if Path(name).parts[:1] == ("recipes",) else Path(name)
    shipped = (folder / f"{inside}{end}" for folder in _SHIPPED for end in ("", ".yaml"))
    known = (file for file in shipped if file.suffix == ".yaml" and file.is_file())
    return path if path.is_file() or inside.is_absolute() else next(known, path)


def _similar(path: Path) -> str:
    """Return a hint at the shipped recipe with the most similar name, or ""."""
    paths = (recipe.relative_to(folder) for folder in _SHIPPED for recipe in folder.rglob("*.yaml"))
    names = sorted({recipe.with_suffix("").as_posix() for recipe in paths})
    nearest = difflib.get_close_matches(path.with_suffix("").as_posix().removeprefix("recipes/"), names, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def _layers(path: Path, seen: tuple[Path, ...]) -> list[tuple[str, DictConfig]]:
    if path.resolve() in seen:
        raise UserError(f"{path}: base: leads in a circle: {' -> '.join(str(p) for p in (*seen, path))}")
    if not path.is_file():
        raise UserError(f"{path}: no such recipe" + (f" (named by base: in {seen[-1]})" if seen else _similar(path)))
    try:
        layer = OmegaConf.load(path)
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(layer, DictConfig):
        raise UserError(f"{path}: expected keys and values at the top, found {type(layer).__name__}")
    content = cast(dict[str, Any], OmegaConf.to_container(layer, resolve=False))
    below: list[tuple[str, DictConfig]] = []
    for keys, name in _bases(content):
        for origin, base in _layers(_recipe_at(path.parent / name, name), (*seen, path.resolve())):
            below.append((origin, reduce(lambda inner, key: OmegaConf.create({key: inner}), reversed(keys), base)))
    return [*below, (str(path), OmegaConf.create(content))]


def _bases(content: dict[Any, Any], keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Remove every `base:` from nested mappings and yield (keys above it, file name), outermost first."""
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
            raise UserError(f"command line: {item!r} is not key=value")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except (YAMLError, OmegaConfBaseException) as error:
        raise UserError(_one_line(error, "command line")) from error


def _one_line(error: Exception, origin: str) -> str:
    message = next(iter(str(error).splitlines()), type(error).__name__)
    if message.startswith("Invalid value assigned") and "is not a ListConfig" in message:
        message = "is a list: write it as [a,b], or [a] for one item"
    key = getattr(error, "full_key", None)
    return f"{origin}: {key}: {message}" if key else f"{origin}: {message}"
