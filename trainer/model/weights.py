"""Loading of parts' weights from files and hubs. A part that is only partly loaded is an error."""

from __future__ import annotations

import json
import re
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar
from zipfile import is_zipfile

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from trainer.images.preprocess import ImagePreprocess
from trainer.model.precision import dtype_of
from trainer.model.recompute import is_recomputed
from trainer.model.tables import nearest
from trainer.settings import EXPORT_FILE
from varyforge.errors import UserError

_PREPROCESS = "preprocess"
"""Key in the header of an exported model's file, for the encoders' preprocessing."""

_TORN = (
    RuntimeError, ValueError, EOFError, UnpicklingError, LookupError, AttributeError, AssertionError, TypeError,
    OverflowError, struct.error,
)  # fmt: skip
"""Exceptions of torch's pickle reader for bytes that are wrong, missing, or name something it does not load."""

BAD_SIZES = (
    StrictDataclassError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""Exceptions of transformers and torch for a model that is built or run with a configuration that makes no sense."""

_ERROR_CHARS = 400
_MOST_LAYERS = 1000  # several times as many as the deepest model has

Model = TypeVar("Model", bound=PreTrainedModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The source of a part's weights."""

    source: str | None  # file, folder or hub name; None: nothing was loaded
    random: tuple[str, ...] = ()  # tensors that the source lacks and may lack; empty when source is None
    preprocess: ImagePreprocess | None = None  # that an encoder was trained with, if the source states it


RANDOM = Loaded(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """One row of the table that is printed when a model has been built."""

    part: str  # as in the model: encoders.<name>, connectors.<name>, language
    parameters: int
    trainable: int  # of the parameters
    source: str  # of the weights, or RANDOM
    tensors_loaded: int
    tensors_random: int
    preprocess: ImagePreprocess | None = None  # that an encoder's weights were trained with, if known
    recomputed: bool = False  # gradient checkpointing: the backward pass computes its blocks again

    @classmethod
    def of(cls, part: str, module: nn.Module, loaded: Loaded) -> PartReport:
        """Return the report on a part whose weights are loaded and whose frozen parameters are marked."""
        parameters = list(module.parameters())
        tensors_random = len(parameters) if loaded.source is None else len(loaded.random)
        return cls(
            part=part,
            parameters=sum(p.numel() for p in parameters),
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            source=loaded.source or "RANDOM",
            tensors_loaded=len(parameters) - tensors_random,
            tensors_random=tensors_random,
            preprocess=loaded.preprocess,
            recomputed=is_recomputed(module),
        )


def copy_tensors(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, may_miss: Collection[str] = ()
) -> Loaded:
    """Copy `tensors` into `module` by name.

    Tied tensors may have any of their names in the source. Only names in `may_miss` may be absent. Their tensors stay
    unchanged and are reported as random.

    Raises:
        UserError: a tensor is missing, left over or of another shape.
    """
    state = module.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        if name in state and state[name].shape != tensor.shape:
            raise UserError(_wrong_shape(source, name, tensor.shape, state[name].shape))
    names_of = defaultdict(set)
    for name, parameter in state.items():
        names_of[id(parameter)].add(name)
    missing = {name for name, parameter in state.items() if not names_of[id(parameter)] & tensors.keys()}
    _refuse(source, "lacks", missing - set(may_miss))
    _refuse(source, "has more than the model:", tensors.keys() - state.keys())
    module.load_state_dict(dict(tensors), strict=False)
    return Loaded(source, tuple(sorted(missing)))


def part_of(name: str) -> str:
    """Return the part that a tensor of a model belongs to: encoders.<name>, connectors.<name>, joint or language."""
    words = name.split(".")
    return ".".join(words[: 2 if words[0] in ("encoders", "connectors") else 1])


def is_export(path: str) -> bool:
    """Return whether `path`, a file or a folder, is a model that this project exported."""
    file = _export_file(path)
    return file.is_file() and bool(_parts_of(file))


def load_encoder_of_export(encoder: nn.Module, path: str, *, may_miss: Collection[str] = ()) -> Loaded:
    """Load the encoder of an exported model that has the tensor names of `encoder`.

    Encoders' names in recipes do not matter, so Vary-tiny and Vary-toy may have different names for one encoder. Names
    in `may_miss` may be absent, as in `copy_tensors`. UserError if none or several of the model's encoders fit.
    """
    file = _export_file(path)
    parts = _parts_of(file)
    names = {part for part in parts if part.startswith("encoders.")}
    own = set(encoder.state_dict())
    fitting = [part for part in sorted(names) if own - set(may_miss) <= parts[part] <= own]
    if len(fitting) != 1:
        listed = ", ".join(f"{part} ({len(parts[part])} tensors)" for part in sorted(names)) or "none"
        raise UserError(
            f"{file}: expected one encoder with the {len(own)} tensors of {type(encoder).__name__}, "
            f"{len(fitting)} of its encoders fit; encoders found: {listed}"
        )
    trained = preprocess_of_export(path).get(fitting[0].removeprefix("encoders."))
    loaded = load_part_of_export(encoder, path, fitting[0], may_miss=may_miss)
    return replace(loaded, preprocess=trained)


def load_part_of_export(module: nn.Module, path: str, part: str, *, may_miss: Collection[str] = ()) -> Loaded:
    """Load the tensors under `part.` of an exported model into `module`."""
    file, prefix = _export_file(path), f"{part}."
    with safe_open(file, framework="pt") as stored:
        tensors = {key.removeprefix(prefix): stored.get_tensor(key) for key in stored.keys() if key.startswith(prefix)}
    return copy_tensors(module, tensors, str(file), may_miss=may_miss)


def shape_in_export(path: str, name: str) -> tuple[int, ...]:
    """Return the shape of one tensor of an exported model. UserError if the model has no tensor of that name."""
    file = _export_file(path)
    with _opened(file) as stored:
        if name not in stored.keys():  # not a dict: it has no `in`
            raise UserError(f"{file} lacks {name}")
        return tuple(stored.get_slice(name).get_shape())


def export_header(preprocess: Mapping[str, ImagePreprocess]) -> dict[str, str]:
    """Return the header of an exported model's file, with the preprocessing of each encoder by name."""
    return {_PREPROCESS: json.dumps({name: asdict(settings) for name, settings in preprocess.items()})}


def preprocess_of_export(path: str) -> dict[str, ImagePreprocess]:
    """Return the preprocessing in an exported model's header, or {}. UserError if the file cannot be read."""
    file = _export_file(path)
    with _opened(file) as stored:
        text = (stored.metadata() or {}).get(_PREPROCESS, "{}")
    try:
        return {
            name: ImagePreprocess(**{**settings, "mean": tuple(settings["mean"]), "std": tuple(settings["std"])})
            for name, settings in json.loads(text).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: its header says of {_PREPROCESS} what this version cannot read: {error}") from error


def read_pickle(path: str, prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a .pth file whose names begin with `prefix`, without it. No code in the file is executed.

    The file is memory-mapped, unless torch before 1.6 wrote it, whose format does not allow that.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give the weights' path, or null for random weights")
    check_fetched(Path(path))
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except _TORN as error:
        # Only the reason of torch's error, without its advice to load the file without protection.
        reason = re.search(r"WeightsUnpickler error: (.*)", str(error)) or re.search(r"(.*)", str(error))
        raise UserError(f"{path}: not a file of tensors that torch saved: {reason[1] if reason else ''}") from error
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: expected tensors by name, found a {type(tensors).__name__}")
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if str(key).startswith(prefix)}


def check_fetched(file: Path) -> None:
    """Raise UserError for a git-lfs pointer or a server's error page in place of the file."""
    with open(file, "rb") as content:
        start = content.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{file}: git-lfs's pointer to the file, not the file; run `git lfs pull` in its repository")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{file}: a web page, probably an error page; download the file again")


def config_class_of(model_class: type[PreTrainedModel]) -> type[PreTrainedConfig]:
    """Return the configuration class of a transformers model class."""
    assert model_class.config_class is not None  # only transformers' abstract base has none
    return model_class.config_class


def class_named(model_type: Any, classes: Mapping[Any, Any], kind: str) -> type[PreTrainedModel]:
    """Return the model class of `model_type` in one of transformers' tables. UserError if it has no such `kind`."""
    name = str(model_type)
    if name not in CONFIG_MAPPING or CONFIG_MAPPING[name] not in classes:
        raise UserError(
            f"transformers: model_type {name!r}: transformers has no such {kind}{nearest(name, CONFIG_MAPPING)}"
        )
    row = classes[CONFIG_MAPPING[name]]
    model_class: type[PreTrainedModel] = row[0] if isinstance(row, tuple) else row
    return model_class


def config_keys(config_class: type[PreTrainedConfig]) -> set[str]:
    """Return the keys that a transformers configuration class takes, including those of its base classes."""
    own = [c for c in config_class.__mro__ if issubclass(c, PreTrainedConfig) and c is not PreTrainedConfig]
    return {key for each in own for key in each.__annotations__ if not key.startswith("_")}


def configuration_at(model_class: type[PreTrainedModel], name: str) -> dict[str, Any] | None:
    """Return the configuration of a checkpoint in a local folder or in the hub's local cache, or None if in neither."""
    try:
        with _quiet():
            return configuration_of(config_class_of(model_class).from_pretrained(name, local_files_only=True))
    except OSError:
        return None
    except BAD_SIZES as error:
        raise UserError(f"{name}: cannot be read as {model_class.__name__}: {error_text(error)}") from error


def configuration_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a transformers model's whole configuration, in keys and values that `from_config` takes."""
    config_class = type(config)
    values = {key: value for key, value in config.to_dict().items() if key in config_keys(config_class)}
    # A null is left out where it is the default. A value that was set to null (a sliding window, say) must be stated.
    return {key: value for key, value in values.items() if (value, getattr(config_class, key, None)) != (None, None)}


def from_config(model_class: type[Model], config: Mapping[str, Any], attention: str) -> Model:
    """Return a transformers model with random weights. UserError for values that transformers refuses."""
    model_type = config_class_of(model_class).model_type
    for key, value in config.items():  # transformers itself accepts a negative number of layers
        if isinstance(value, int) and value < 0 and key.startswith("num_"):
            raise UserError(f"{model_type}: {key} {value}: expected 0 or more")
    try:
        model: Model = model_class._from_config(config_class_of(model_class)(**config), attn_implementation=attention)
    except BAD_SIZES as error:
        raise UserError(f"{model_type}: no {model_class.__name__} has this config: {error_text(error)}") from error
    return model


def error_text(error: Exception) -> str:
    """Return the message of a library's exception in one line, with its type where the message alone is too short."""
    words = " ".join(str(error).split())[:_ERROR_CHARS]
    return words if isinstance(error, (ValueError, StrictDataclassError)) else f"{type(error).__name__}: {words}"


def load_from_hub(model_class: type[Model], name: str, overrides: Mapping[str, Any], attention: str) -> Model:
    """Return a transformers model with all its weights, in fp32, from a local folder or a hub name.

    `overrides` replaces values of the checkpoint's configuration. Tensors that the model does not have, such as those
    of CLIP's text encoder, are ignored.

    Raises:
        UserError: the checkpoint cannot be read, lacks a tensor of the model, or has it in another shape.
    """
    try:
        with _quiet():
            config_class = config_class_of(model_class)
            _check_layers(name, config_class.get_config_dict(name)[0])
            config = config_class.from_pretrained(name, **overrides)
            loaded: Any = model_class.from_pretrained(
                name,
                config=config,
                dtype=dtype_of("fp32"),
                attn_implementation=attention,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that they are listed in `info` and refused below
            )
    except UserError:
        raise
    except (OSError, *BAD_SIZES) as error:
        location = "" if Path(name).exists() else "no such folder, and as a hub name: "
        raise UserError(
            f"{name}: cannot be read as {model_class.__name__}: {location}{error_text(error)}; "
            "give a local folder, or null for random weights"
        ) from error
    model: Model
    model, info = loaded
    if info["mismatched_keys"]:
        key, shape, expected = min(info["mismatched_keys"])
        raise UserError(_wrong_shape(name, key, shape, expected))
    _refuse(name, "lacks", info["missing_keys"])
    return model


def _check_layers(name: str, config: Mapping[str, Any]) -> None:
    """Raise UserError for an absurd number of layers, which transformers would build for hours until memory is full."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        layers = part.get("num_hidden_layers", 0)
        if isinstance(layers, int) and layers > _MOST_LAYERS:
            raise UserError(f"{name}: config.json: num_hidden_layers {layers}, expected at most {_MOST_LAYERS}")


def _refuse(source: str, problem: str, names: Collection[str]) -> None:
    if names:
        first = ", ".join(sorted(names)[:5])
        raise UserError(f"{source} {problem} {len(names)} tensors: {first}{', …' if len(names) > 5 else ''}")


def _wrong_shape(source: str, key: str, shape: Sequence[int], expected: Sequence[int]) -> str:
    return (
        f"{source}: {key} has shape {tuple(shape)}, expected {tuple(expected)}; "
        "the recipe's config and these weights are of different models"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: silence transformers' long report on a checkpoint. Its relevant part is raised as UserError."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def _export_file(path: str) -> Path:
    return Path(path) if path.endswith(".safetensors") else Path(path) / EXPORT_FILE


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if not file.is_file():
        raise UserError(f"{file}: no such file; give an exported model's folder, or null for random weights")
    check_fetched(file)
    try:
        with safe_open(file, framework="pt") as stored:
            yield stored
    except SafetensorError as error:
        raise UserError(f"{file}: not a readable safetensors file: {error}") from error


def _parts_of(file: Path) -> dict[str, set[str]]:
    """Return the tensor names of each part of an exported model. UserError if the file cannot be read."""
    with _opened(file) as stored:
        keys = list(stored.keys())
    parts: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        part = part_of(key)
        if part.split(".")[0] in ("encoders", "connectors", "joint", "language"):
            parts[part].add(key.removeprefix(f"{part}."))
    return parts
