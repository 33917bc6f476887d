"""MuPDF's structured text as arrays, copied from its memory without a Python object per character.

MuPDF allocates the structs of a page from a pool: equal blocks of memory in a linked list. The blocks are copied, and
everything else happens in the copy: a wrong offset raises `LayoutError` and never reads foreign memory. The layout of
the structs is MuPDF's own (mupdf/fitz/structured-text.h, pool.c). `mupdf_text` reads the same by the library's
accessors where the copy cannot be read.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

CHAR = np.dtype(
    [("code", "<i4"), ("bidi", "<u2"), ("flags", "<u2"), ("argb", "<u4"), ("origin", "<f4", 2), ("quad", "<f4", 8)]
    + [("size", "<f4"), ("font", "<u8"), ("next", "<u8")],
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
    lines: list[tuple[bool, float, float, int, int]]  # vertical, direction, number of block and of line within it
    shapes: list[tuple[int, int, tuple[float, float, float, float], int]]  # type, block, box, lines before it


def read_layer(page: Any, most_shapes: int) -> Layer:
    """Return the layer of an `FzStextPage`. Shapes after the first `most_shapes` are left out.

    Raises:
        LayoutError: The structs are not those of `mupdf/fitz/structured-text.h`.
    """
    inner = page.m_internal
    if not inner.first_block:
        return Layer(np.zeros(0, CHAR), np.zeros(0, np.int64), [], [])
    copy = _Copy(int(inner.pool), int(inner.first_block.this))
    lines: list[tuple[bool, float, float, int, int]] = []
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
                    lines.append((bool(vertical), x, y, number, place))
                place += 1
            if kind != 0 and len(shapes) < most_shapes:
                shapes.append((kind, number, (x0, y0, x1, y1), len(runs)))
            number += 1
        return Layer(*copy.characters(runs), lines, shapes)
    except (struct.error, KeyError, IndexError) as error:
        raise LayoutError(str(error)) from error


class _Copy:
    """A copy of a pool's memory, addressed as the original."""

    def __init__(self, pool: int, first_block: int) -> None:
        size, node, last, _, end = _POOL.unpack(ctypes.string_at(pool, _POOL.size))
        # `size` is that of all blocks but the first; blocks of another size would leave a remainder
        if size % _STRIDE or not 0 < first_block - node < _NODE or end != last + 8 + _NODE:
            raise LayoutError("the pool")
        self._nodes: list[int] = []
        parts: list[bytes] = []
        for _ in range(size // _STRIDE + 1):
            parts.append(ctypes.string_at(node, _STRIDE))
            self._nodes.append(node)
            node = int.from_bytes(parts[-1][:8], "little")
        if node or self._nodes[-1] != last:
            raise LayoutError("the pool's blocks")
        self.data = b"".join(parts)
        self._pages: dict[int, list[int]] = {}  # page of memory → blocks that reach into it
        for index, start in enumerate(self._nodes):
            for page in range(start >> 12, (start + _NODE + 7 >> 12) + 1):
                self._pages.setdefault(page, []).append(index)

    def offset(self, address: int) -> int:
        """Return the offset of an address in `data`."""
        for index in self._pages[address >> 12]:
            within = address - self._nodes[index]
            if 8 <= within <= _NODE:
                return index * _STRIDE + within
        raise KeyError(address)

    def characters(self, runs: list[tuple[int, int]]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return the characters of all lines, and the line of each, for the offsets of first and last characters."""
        offsets = [self._row(first, last) for first, last in runs]
        for _ in range(2):
            line = np.repeat(np.arange(len(offsets)), [len(row) for row in offsets])
            offset = np.concatenate([*offsets, np.zeros(0, np.int64)]).astype(np.int64)
            words = np.frombuffer(self.data, "<u8")
            chars = words[offset[:, None] // 8 + np.arange(_CHAR_WORDS)].view(CHAR).reshape(-1)
            address = np.array(self._nodes, np.int64)[offset // _STRIDE] + offset % _STRIDE
            follows = np.where(np.append(np.diff(line) == 0, False)[: len(line)], np.roll(address, -1), 0)
            wrong = np.unique(line[chars["next"] != follows.astype(np.uint64)]).tolist()
            if not wrong:
                return chars, line
            for number in wrong:
                offsets[number] = self._links(runs[number][0])
        raise LayoutError("the characters' links")

    def _row(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return the offsets from the first to the last character if the line lies in one piece, as most do.

        It goes on at the beginning of the next block. Lines written from right to left are reversed, and drawings may
        lie between characters; `_links` reads those.
        """
        size, parts = CHAR.itemsize, []
        while first // _STRIDE < last // _STRIDE:
            end = first // _STRIDE * _STRIDE + _STRIDE
            parts.append(np.arange(first, end - size + 1, size))
            first = end + 8
        parts.append(np.arange(first, max(last, first) + 1, size))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _links(self, offset: int) -> npt.NDArray[np.int64]:
        offsets = [offset]
        end = CHAR.itemsize
        while address := int.from_bytes(self.data[offsets[-1] + end - 8 : offsets[-1] + end], "little"):
            offsets.append(self.offset(address))
            if len(offsets) > len(self.data) // end:
                raise LayoutError("a circle of characters")
        return np.array(offsets, np.int64)
