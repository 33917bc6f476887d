"""Weights from files and hubs into parts, all or nothing: a part that is only partly loaded is an error."""

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
"""Key in the header of an exported model's file."""

_TORN = (
    RuntimeError, ValueError, EOFError, UnpicklingError, LookupError, AttributeError, AssertionError, TypeError,
    OverflowError, struct.error,
)  # fmt: skip
"""What torch's reader of pickles ends with when bytes are wrong or missing, or name what it does not load."""

BAD_SIZES = (
    StrictDataclassError, ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What transformers and torch end with when a model is built or run with a configuration that makes no sense."""

_SAID_CHARS = 400
_MOST_LAYERS = 1000  # several times those of any model there is

Model = TypeVar("Model", bound=PreTrainedModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Where a part's weights came from."""

    source: str | None  # file, folder or hub name; None: nothing was loaded
    random: tuple[str, ...] = ()  # tensors that the source does not have and may lack; empty when source is None
    preprocess: ImagePreprocess | None = None  # of an encoder: what it was trained with, where the source says so


RANDOM = Loaded(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """One row of the table that is printed when a model has been built."""

    part: str  # as in the model: encoders.<name>, connectors.<name>, language
    parameters: int
    trainable: int  # of the parameters
    source: str  # where the weights come from, or RANDOM
    tensors_loaded: int
    tensors_random: int
    preprocess: ImagePreprocess | None = None  # of an encoder: what its weights were trained with, where that is known
    recomputed: bool = False  # the backward pass computes its blocks again (gradient checkpointing)

    @classmethod
    def of(cls, part: str, module: nn.Module, loaded: Loaded) -> PartReport:
        """Count a part after its weights are loaded and its frozen parameters marked."""
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
    """Copy `tensors` into `module`, name by name; UserError when one is missing, left over or of another shape.

    Tied tensors may stand in the source under any of their names. Only names in `may_miss` may be absent; they keep
    what they have and are reported as random.
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
    """The part that a tensor of a model belongs to: encoders.<name>, connectors.<name>, joint or language."""
    words = name.split(".")
    return ".".join(words[: 2 if words[0] in ("encoders", "connectors") else 1])


def is_export(path: str) -> bool:
    """Whether `path`, a file or a folder, is a model that this project exported."""
    file = _export_file(path)
    return file.is_file() and bool(_parts_of(file))


def load_encoder_of_export(encoder: nn.Module, path: str, *, may_miss: Collection[str] = ()) -> Loaded:
    """Load the one encoder of an exported model whose tensor names are those of `encoder`; UserError if not just one.

    The name an encoder has in its recipe does not matter, so what Vary-tiny calls one thing Vary-toy may call another.
    Names in `may_miss` may be absent, as in `copy_tensors`.
    """
    file = _export_file(path)
    parts = _parts_of(file)
    names = {part for part in parts if part.startswith("encoders.")}
    wanted = set(encoder.state_dict())
    fitting = [part for part in sorted(names) if wanted - set(may_miss) <= parts[part] <= wanted]
    if len(fitting) != 1:
        found = ", ".join(f"{part} ({len(parts[part])} tensors)" for part in sorted(names)) or "none"
        raise UserError(
            f"{file}: expected one encoder with the {len(encoder.state_dict())} tensors of {type(encoder).__name__}, "
            f"{len(fitting)} of its encoders fit; encoders found: {found}"
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
    """Of one tensor of an exported model; UserError when it has none of that name."""
    file = _export_file(path)
    with _opened(file) as stored:
        if name not in stored.keys():  # safetensors' own object
            raise UserError(f"{file} lacks {name}")
        return tuple(stored.get_slice(name).get_shape())


def export_header(preprocess: Mapping[str, ImagePreprocess]) -> dict[str, str]:
    """What the header of an exported model's file says: the preprocessing of each encoder, by its name."""
    return {_PREPROCESS: json.dumps({name: asdict(how) for name, how in preprocess.items()})}


def preprocess_of_export(path: str) -> dict[str, ImagePreprocess]:
    """What the encoders of an exported model were trained with; empty where its header does not say.

    UserError for a file that cannot be read.
    """
    file = _export_file(path)
    with _opened(file) as stored:
        text = (stored.metadata() or {}).get(_PREPROCESS, "{}")
    try:
        return {
            name: ImagePreprocess(**{**how, "mean": tuple(how["mean"]), "std": tuple(how["std"])})
            for name, how in json.loads(text).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: its header says of {_PREPROCESS} what this version cannot read: {error}") from error


def read_pickle(path: str, prefix: str) -> dict[str, Tensor]:
    """Tensors of a .pth file under `prefix`, which is cut off; nothing in the file is executed.

    Mapped and not copied, but for files of torch before 1.6, whose form cannot be mapped.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give the weights' path, or null for random weights")
    check_fetched(Path(path))
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except _TORN as error:
        # Of torch's refusal the reason, and not its advice to load the file without that protection.
        reason = re.search(r"WeightsUnpickler error: (.*)", str(error)) or re.search(r"(.*)", str(error))
        raise UserError(f"{path}: not a file of tensors that torch saved: {reason[1] if reason else ''}") from error
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: expected tensors by name, found a {type(tensors).__name__}")
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if str(key).startswith(prefix)}


def check_fetched(file: Path) -> None:
    """UserError for what often lies in the place of a large file: a pointer to it, or a server's page of an error."""
    with open(file, "rb") as content:
        start = content.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{file}: git-lfs's pointer to the file, not the file; run `git lfs pull` where it was cloned")
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(f"{file}: a web page, most likely of an error; fetch the file again")


def config_class_of(model_class: type[PreTrainedModel]) -> type[PreTrainedConfig]:
    """The configuration class of a transformers model class."""
    assert model_class.config_class is not None  # only transformers' abstract base has none
    return model_class.config_class


def class_named(model_type: Any, classes: Mapping[Any, Any], what: str) -> type[PreTrainedModel]:
    """The model class of transformers' `model_type` in one of its tables; UserError where there is no such `what`."""
    name = str(model_type)
    if name not in CONFIG_MAPPING or CONFIG_MAPPING[name] not in classes:
        raise UserError(
            f"transformers: model_type {name!r}: transformers has no such {what}{nearest(name, CONFIG_MAPPING)}"
        )
    found = classes[CONFIG_MAPPING[name]]
    model_class: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return model_class


def config_keys(config_class: type[PreTrainedConfig]) -> set[str]:
    """Sizes and switches that a transformers configuration takes, its base classes' among them."""
    own = [c for c in config_class.__mro__ if issubclass(c, PreTrainedConfig) and c is not PreTrainedConfig]
    return {key for each in own for key in each.__annotations__ if not key.startswith("_")}


def configuration_at(model_class: type[PreTrainedModel], name: str) -> dict[str, Any] | None:
    """The whole configuration of a checkpoint in a local folder or fetched from a hub before; None: it is not here."""
    try:
        with _quiet():
            return _configuration(config_class_of(model_class).from_pretrained(name, local_files_only=True))
    except OSError:
        return None
    except BAD_SIZES as error:
        raise UserError(f"{name}: cannot be read as {model_class.__name__}: {said_by(error)}") from error


def configuration_of(model: PreTrainedModel) -> dict[str, Any]:
    """A transformers model's whole configuration, in keys and values that `from_config` takes."""
    return _configuration(model.config)


def _configuration(config: PreTrainedConfig) -> dict[str, Any]:
    config_class = type(config)
    found = {key: value for key, value in config.to_dict().items() if key in config_keys(config_class)}
    # What is null by itself need not be said, what was set to null must be (a sliding window, say).
    return {key: value for key, value in found.items() if (value, getattr(config_class, key, None)) != (None, None)}


def from_config(model_class: type[Model], config: Mapping[str, Any], attention: str) -> Model:
    """A transformers model with random weights; UserError for values that its configuration or the model refuses."""
    what = config_class_of(model_class).model_type
    for key, value in config.items():  # of layers transformers itself takes any number
        if isinstance(value, int) and value < 0 and key.startswith("num_"):
            raise UserError(f"{what}: {key} {value}: expected 0 or more")
    try:
        model: Model = model_class._from_config(config_class_of(model_class)(**config), attn_implementation=attention)
    except BAD_SIZES as error:
        raise UserError(f"{what}: no {model_class.__name__} has this config: {said_by(error)}") from error
    return model


def said_by(error: Exception) -> str:
    """The words of somebody else's error in a line, with its kind where they alone say little (a missing key's)."""
    words = " ".join(str(error).split())[:_SAID_CHARS]
    return words if isinstance(error, (ValueError, StrictDataclassError)) else f"{type(error).__name__}: {words}"


def load_from_hub(model_class: type[Model], name: str, overrides: Mapping[str, Any], attention: str) -> Model:
    """A transformers model with all its weights, in fp32, from a local folder or a hub name.

    `overrides` replaces values of the checkpoint's own configuration. UserError when the checkpoint cannot be had and
    when it lacks a tensor of the model or has it in another shape. Tensors beyond the model (CLIP's text half) do not
    matter.
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
                ignore_mismatched_sizes=True,  # only to be told of them; refused below
            )
    except UserError:
        raise
    except (OSError, *BAD_SIZES) as error:
        place = "" if Path(name).exists() else "no such folder, and as a hub name: "
        raise UserError(
            f"{name}: cannot be read as {model_class.__name__}: {place}{said_by(error)}; "
            "give a local folder, or null for random weights"
        ) from error
    model: Model
    model, info = loaded
    if info["mismatched_keys"]:
        key, found, expected = min(info["mismatched_keys"])
        raise UserError(_wrong_shape(name, key, found, expected))
    _refuse(name, "lacks", info["missing_keys"])
    return model


def _check_layers(name: str, given: Mapping[str, Any]) -> None:
    """UserError before transformers builds, for hours and in all the memory there is, what a broken config asks for."""
    for part in (given, *(value for value in given.values() if isinstance(value, dict))):
        layers = part.get("num_hidden_layers", 0)
        if isinstance(layers, int) and layers > _MOST_LAYERS:
            raise UserError(f"{name}: config.json: num_hidden_layers {layers}, expected at most {_MOST_LAYERS}")


def _refuse(source: str, problem: str, names: Collection[str]) -> None:
    if names:
        first = ", ".join(sorted(names)[:5])
        raise UserError(f"{source} {problem} {len(names)} tensors: {first}{', …' if len(names) > 5 else ''}")


def _wrong_shape(source: str, key: str, found: Sequence[int], expected: Sequence[int]) -> str:
    return (
        f"{source}: {key} has shape {tuple(found)}, expected {tuple(expected)}; "
        "the recipe's config and these weights are of different models"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report on a checkpoint, a table of many lines: what matters in it is raised here."""
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
    """Tensor names of each part of an exported model; UserError when the file cannot be read."""
    with _opened(file) as stored:
        keys = list(stored.keys())
    parts: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        part = part_of(key)
        if part.split(".")[0] in ("encoders", "connectors", "joint", "language"):
            parts[part].add(key.removeprefix(f"{part}."))
    return parts
