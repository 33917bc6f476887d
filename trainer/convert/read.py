"""Released checkpoints opened lazily: names, shapes and types at once, a tensor's bytes when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.model.weights import check_fetched, read_pickle
from varyforge.errors import UserError

Shape = tuple[int, ...]

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_WRAPPERS = ("model", "state_dict")  # keys under which a training run's file has the model's tensors


class Checkpoint:
    """The tensors of a file or a folder, and the config.json beside them. Nothing in it is executed.

    Pages of the files are mapped and not copied: the kernel drops them when memory is wanted.
    """

    def __init__(self, path: Path) -> None:
        """Reads names, shapes and types.

        Raises:
            UserError: nothing there, a shard is missing, or a file cannot be read.
        """
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        config = self.folder / "config.json"
        self.config: dict[str, Any] = read_json(config) if config.is_file() else {}
        self.shapes: dict[str, Shape] = {}
        self.dtypes: dict[str, str] = {}  # safetensors' names: F32, BF16, …
        self.metadata: dict[str, str] = {}  # of a safetensors file
        self._read: dict[str, Callable[[], Tensor]] = {}
        names: dict[str, Path] = {}
        for file, expected in _files(path).items():
            found = set(self._open(file))
            if missing := sorted(expected - found):
                raise UserError(f"{file}: lacks {missing[0]}, which the index says it has; fetch the file again")
            if twice := sorted(found & names.keys()):
                raise UserError(f"{file}: {twice[0]} is in {names[twice[0]].name} too; expected each tensor once")
            names.update(dict.fromkeys(found, file))

    def read(self, name: str) -> Tensor:
        """A tensor as it is stored, contiguous."""
        return self._read[name]().contiguous()

    def put(self, name: str, tensor: Tensor) -> None:
        """From now on `name` is `tensor`, whatever the file has."""
        self.shapes[name], self.dtypes[name] = tuple(tensor.shape), dtype_name(tensor.dtype)
        self._read[name] = lambda: tensor

    def _open(self, file: Path) -> list[str]:
        """Adds the tensors of a file; returns their names. Safetensors are told by their content, too."""
        check_fetched(file)
        with open(file, "rb") as content:
            is_safetensors = content.read(9)[8:] == b"{" or file.suffix == ".safetensors"
        return self._open_safetensors(file) if is_safetensors else self._open_pickle(file)

    def _open_safetensors(self, file: Path) -> list[str]:
        try:
            stored = safe_open(file, framework="pt")
        except SafetensorError as error:
            raise UserError(f"{file}: not a whole safetensors file ({error}); fetch it again") from error
        self.metadata.update(stored.metadata() or {})
        for name in stored.keys():
            part = stored.get_slice(name)
            self.shapes[name], self.dtypes[name] = tuple(part.get_shape()), part.get_dtype()
            self._read[name] = partial(stored.get_tensor, name)
        return list(stored.keys())

    def _open_pickle(self, file: Path) -> list[str]:
        tensors: Mapping[str, Any] = read_pickle(str(file), "")
        for wrapper in _WRAPPERS:
            if isinstance(tensors.get(wrapper), Mapping):
                tensors = tensors[wrapper]
        for name, tensor in tensors.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                raise UserError(f"{file}: {name}: expected a tensor, found a {type(tensor).__name__}")
            self.put(name, tensor)
        return list(tensors)


def dtype_name(dtype: torch.dtype) -> str:
    """What a type is called in the header of a safetensors file."""
    made = save({"": torch.empty(0, dtype=dtype)})
    header = json.loads(made[8 : 8 + int.from_bytes(made[:8], "little")])
    return cast(str, header[""]["dtype"])


def _files(path: Path) -> dict[Path, set[str]]:
    """The files that make up a checkpoint, and the names that its index says each has."""
    if path.is_file():
        return {path: set()}
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; give a checkpoint that has been fetched to this machine")
    for index in _INDEXES:
        if (path / index).is_file():
            return _shards(path / index)
    for name in _SINGLE:
        if (path / name).is_file():
            return {path / name: set()}
    found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise UserError(
            f"{path}: expected {' or '.join(_SINGLE)}, their index, or a single file of weights; found {names}"
        )
    return {found[0]: set()}


def _shards(index: Path) -> dict[Path, set[str]]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index}: expected a weight_map of names and files")
    shards: dict[Path, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise UserError(f"{index}: {name}: found {file!r}, expected the name of a file beside the index")
        shards.setdefault(index.parent / file, set()).add(name)
    for file in sorted(shards):
        if not file.is_file():
            raise UserError(f"{file}: missing; {index.name} names {len(shards)} shards; fetch it too")
    return shards


def read_json(path: Path) -> dict[str, Any]:
    """Keys and values of a JSON file; UserError when it is something else."""
    check_fetched(path)
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected keys and values, found a {type(found).__name__}")
    return found
