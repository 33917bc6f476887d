"""Writing of mapped tensors with unchanged bytes. A safetensors file takes memory for its largest tensor only."""

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
    """Write the tensors of `mapped` in order, in the format of https://github.com/huggingface/safetensors."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, pieces in mapped.pieces.items():
        dtype = _dtype_of(source, name, pieces)
        size = sum(_piece(source, piece).nbytes for piece in pieces)
        header[name] = {"dtype": dtype, "shape": mapped.shapes[name], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned, so that readers need not copy them
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for pieces in mapped.pieces.values():
            for piece in pieces:
                file.write(_piece(source, piece).view(-1).view(torch.uint8).numpy().data)


def write_pickle(path: Path, source: Checkpoint, mapped: Mapped, key: str | None) -> None:
    """Write the tensors with `torch.save`, under `key` if there is one. All stacked tensors are in memory at once."""
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
    dtypes = {source.dtypes[piece.name] for piece in pieces}
    if len(dtypes) > 1:
        raise UserError(
            f"{source.path}: {', '.join(piece.name for piece in pieces)} are of several types, {name} is one"
        )
    return dtypes.pop()
