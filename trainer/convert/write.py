"""Mapped tensors into a file, one at a time: memory for the largest is all it takes. Bytes are copied as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainer.convert.mapping import Mapped, Piece
from trainer.convert.read import Checkpoint
from varyforge.errors import UserError
from varyforge.files import atomic_file


def write_safetensors(path: Path, source: Checkpoint, mapped: Mapped, metadata: Mapping[str, str]) -> None:
    """The tensors that `mapped` makes of `source`, in its order, as https://github.com/huggingface/safetensors says."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, pieces in mapped.pieces.items():
        dtype = _dtype_of(source, name, pieces)
        size = sum(_piece(source, piece).nbytes for piece in pieces)
        header[name] = {"dtype": dtype, "shape": mapped.shapes[name], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # what follows is aligned, so that readers need not copy it
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for pieces in mapped.pieces.values():
            for piece in pieces:
                file.write(_piece(source, piece).view(-1).view(torch.uint8).numpy().data)


def write_pickle(path: Path, source: Checkpoint, mapped: Mapped, key: str | None) -> None:
    """The same as a file of `torch.save`, under `key` if there is one. Holds all stacked tensors at once."""
    tensors: dict[str, Tensor] = {}
    for name, pieces in mapped.pieces.items():
        _dtype_of(source, name, pieces)
        parts = [_piece(source, piece) for piece in pieces]
        tensors[name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    with atomic_file(path) as file:
        torch.save({key: tensors} if key else tensors, file)


def _piece(source: Checkpoint, piece: Piece) -> Tensor:
    tensor = source.read(piece.name)
    return tensor if piece.rows is None else tensor[slice(*piece.rows)]


def _dtype_of(source: Checkpoint, name: str, pieces: tuple[Piece, ...]) -> str:
    found = {source.dtypes[piece.name] for piece in pieces}
    if len(found) > 1:
        raise UserError(
            f"{source.path}: {', '.join(piece.name for piece in pieces)} are of several types, {name} is one"
        )
    return found.pop()
