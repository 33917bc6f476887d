"""Lazy reading of released checkpoints: names, shapes and types on opening, a tensor's bytes on request."""

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
_WRAPPERS = ("model", "state_dict")  # keys of the model's tensors in a training run's file


class Checkpoint:
    """The tensors of a file or folder and its config.json. No code in the files is executed.

    Files are mapped, not copied, so the kernel can drop their pages when memory is short.
    """

    def __init__(self, path: Path) -> None:
        """Read names, shapes and types. UserError: no checkpoint, a shard is missing, or a file cannot be read."""
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
            stored = set(self._open(file))
            if missing := sorted(expected - stored):
                raise UserError(f"{file}: lacks {missing[0]}, which the index says it has; fetch the file again")
            if twice := sorted(stored & names.keys()):
                raise UserError(f"{file}: {twice[0]} is in {names[twice[0]].name} too; expected each tensor once")
            names.update(dict.fromkeys(stored, file))

    def read(self, name: str) -> Tensor:
        """Return a tensor in its stored type, contiguous."""
        return self._read[name]().contiguous()

    def put(self, name: str, tensor: Tensor) -> None:
        """Replace or add a tensor. The file stays unchanged."""
        self.shapes[name], self.dtypes[name] = tuple(tensor.shape), dtype_name(tensor.dtype)
        self._read[name] = lambda: tensor

    def _open(self, file: Path) -> list[str]:
        """Add the tensors of a file and return their names. Safetensors are recognised by content or suffix."""
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
    """Return a type's name in the header of a safetensors file, e.g. "BF16"."""
    content = save({"": torch.empty(0, dtype=dtype)})
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return cast(str, header[""]["dtype"])


def _files(path: Path) -> dict[Path, set[str]]:
    """Return the files of a checkpoint, each with the tensor names that its index lists."""
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
    files = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise UserError(
            f"{path}: expected {' or '.join(_SINGLE)}, their index, or a single file of weights; found {names}"
        )
    return {files[0]: set()}


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
    """Return the keys and values of a JSON file. UserError: the file is something else."""
    check_fetched(path)
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, found a {type(content).__name__}")
    return content
