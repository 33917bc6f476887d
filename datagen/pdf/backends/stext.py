"""MuPDF's structured text as arrays, copied from its memory without a Python object per character.

MuPDF allocates the structs of a page from a pool: equal blocks of memory in a linked list. The blocks are copied, and
everything else happens in the copy: a wrong offset raises `LayoutError` and never reads foreign memory. The layout of
the structs is MuPDF's own (mupdf/fitz/structured-text.h, pool.c). `mupdf_text` reads the same by the library's
accessors where the copy cannot be read.
"""

from __future__ import annotations

import ctypes
import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CHAR = np.dtype(
    [
        *[("code", "<i4"), ("bidi", "<u2"), ("flags", "<u2"), ("argb", "<u4"), ("origin", "<f4", 2)],
        *[("quad", "<f4", 8), ("size", "<f4"), ("font", "<u8"), ("next", "<u8")],
    ],
    align=True,
)
"""A character. Its quad is upper left, upper right, lower left, lower right; `font` and `next` are addresses."""

_POOL = struct.Struct("<QQQQQ")  # size, first and last block, first and last free byte
_BLOCK = struct.Struct("<i4x4fQ32xQ")  # type, box, first line, next
_LINE = struct.Struct("<B3x2f16x4xQQ8xQ")  # vertical, direction, first and last character, next
_NODE = 4096  # bytes of a block of the pool, without the address of the next one
_STRIDE = _NODE + 8
_CHAR_WORDS = CHAR.itemsize // 8


class LayoutError(Exception):
    """The memory does not look like the structs that this module knows."""


class Layer(NamedTuple):
    """The text, pictures and drawings of a page in the order of the document. Coordinates are points."""

    chars: npt.NDArray[Any]  # (N,) of `CHAR`
    line: npt.NDArray[np.int64]  # (N,) index of the line
    vertical: npt.NDArray[np.bool_]  # (L,)
    direction: npt.NDArray[np.float64]  # (L, 2)
    places: list[tuple[int, int]]  # of the lines: number of the block, and of the line within it
    shapes: list[tuple[int, int, tuple[float, float, float, float], int]]  # type, block, box, lines before it


def read_layer(page: Any, most_shapes: int) -> Layer:
    """Return the layer of an `FzStextPage`. Shapes after the first `most_shapes` are left out.

    Raises:
        LayoutError: The structs are not those of `mupdf/fitz/structured-text.h`.
    """
    inner = page.m_internal
    if not inner.first_block:
        return Layer(np.zeros(0, CHAR), np.zeros(0, np.int64), *columns_of([]), [], [])
    copy = _Copy(int(inner.pool), int(inner.first_block.this))
    lines: list[tuple[int, float, float]] = []
    places: list[tuple[int, int]] = []
    runs: list[tuple[int, int]] = []
    shapes: list[tuple[int, int, tuple[float, float, float, float], int]] = []
    address, number = int(inner.first_block.this), 0
    try:
        while address:
            kind, x0, y0, x1, y1, line, address = _BLOCK.unpack_from(copy.data, copy.offset(address))
            place = 0
            while kind == 0 and line:
                vertical, x, y, first, last, line = _LINE.unpack_from(copy.data, copy.offset(line))
                if first:
                    runs.append((copy.offset(first), copy.offset(last)))
                    lines.append((vertical, x, y))
                    places.append((number, place))
                place += 1
            if kind != 0 and len(shapes) < most_shapes:
                shapes.append((kind, number, (x0, y0, x1, y1), len(runs)))
            number += 1
        return Layer(*copy.characters(runs), *columns_of(lines), places, shapes)
    except (struct.error, KeyError, IndexError) as error:
        raise LayoutError(str(error)) from error


def columns_of(lines: Sequence[tuple[int, float, float]]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return the two columns `vertical` and `direction` of a layer from both of each line."""
    table = np.array(lines, np.float64).reshape(-1, 3)
    return table[:, 0] > 0, table[:, 1:].copy()


class _Copy:
    """A copy of a pool's memory, addressed as the original."""

    def __init__(self, pool: int, first_block: int) -> None:
        size, node, last, _, end = _POOL.unpack(ctypes.string_at(pool, _POOL.size))
        # `size` is that of all blocks but the first; blocks of another size would leave a remainder
        if size % _STRIDE or not 0 < first_block - node < _NODE or end != last + 8 + _NODE:
            raise LayoutError("the pool")
        nodes: list[int] = []
        parts: list[bytes] = []
        for _ in range(size // _STRIDE + 1):
            parts.append(ctypes.string_at(node, _STRIDE))
            nodes.append(node)
            node = int.from_bytes(parts[-1][:8], "little")
        if node or nodes[-1] != last:
            raise LayoutError("the pool's blocks")
        self.data = b"".join(parts)
        self._nodes = np.array(nodes, np.int64)
        self._sorted = sorted(nodes)
        self._moves: list[int] = [_STRIDE * number - nodes[number] for number in np.argsort(self._nodes).tolist()]

    def offset(self, address: int) -> int:
        """Return the offset of an address in `data`."""
        index = bisect_right(self._sorted, address) - 1
        if index < 0 or not 8 <= address - self._sorted[index] <= _NODE:
            raise KeyError(address)
        return address + self._moves[index]

    def characters(self, runs: list[tuple[int, int]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return the characters of all lines, and the line of each, for the offsets of first and last characters."""
        pieces = [_pieces(first, last) for first, last in runs]
        for _ in range(2):
            flat = [piece for of_line in pieces for piece in of_line]
            start, count = np.array(flat, np.int64).reshape(-1, 2).T
            of_piece = np.repeat(np.arange(len(pieces)), [len(of_line) for of_line in pieces])
            line = np.repeat(of_piece, count)
            before = np.cumsum(count) - count
            offset = np.repeat(start - CHAR.itemsize * before, count) + CHAR.itemsize * np.arange(len(line))
            words = np.frombuffer(self.data, "<u8")
            chars = words[offset[:, None] // 8 + np.arange(_CHAR_WORDS)].view(CHAR).reshape(-1)
            address = self._nodes[offset // _STRIDE] + offset % _STRIDE
            follows = np.zeros(len(line), np.int64)
            follows[:-1] = np.where(line[1:] == line[:-1], address[1:], 0)
            wrong = set(line[chars["next"] != follows.astype(np.uint64)].tolist())
            if not wrong:
                return chars, line
            for number in wrong:
                pieces[number] = self._links(runs[number][0])
        raise LayoutError("the characters' links")

    def _links(self, offset: int) -> list[tuple[int, int]]:
        """Return the pieces of a line's characters, each alone, by following the links."""
        offsets = [offset]
        end = CHAR.itemsize
        while address := int.from_bytes(self.data[offsets[-1] + end - 8 : offsets[-1] + end], "little"):
            offsets.append(self.offset(address))
            if len(offsets) > len(self.data) // end:
                raise LayoutError("a circle of characters")
        return [(offset, 1) for offset in offsets]


def _pieces(first: int, last: int) -> list[tuple[int, int]]:
    """Return offset and length of the pieces of memory from the first to the last character of a line.

    Most lines lie in one piece, and go on at the beginning of the next block. Lines written from right to left are
    reversed, and drawings may lie between characters; `_links` reads those.
    """
    pieces = []
    while first // _STRIDE < last // _STRIDE:
        end = first // _STRIDE * _STRIDE + _STRIDE
        pieces.append((first, (end - first) // CHAR.itemsize))
        first = end + 8
    pieces.append((first, max(last - first, 0) // CHAR.itemsize + 1))
    return pieces
