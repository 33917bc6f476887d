"""Grouping of scattered rows by key on disk, so that memory holds a 64th of the rows at a time."""

from __future__ import annotations

import pickle
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from typing import IO, Generic, TypeVar

Row = TypeVar("Row")

_BUCKETS = 64
_ROWS_PER_WRITE = 1000


class Buckets(ExitStack, Generic[Row]):
    """Rows by key (text or whole number), with all rows of a key in one bucket. A context manager.

    30 million boxes take 64 temporary files of half a million rows. A few thousand rows stay in memory. The rows can be
    read once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._files: dict[int, IO[bytes]] = {}
        self._waiting: list[list[tuple[str | int, Row]]] = [[] for _ in range(_BUCKETS)]

    def add(self, key: str | int, row: Row) -> None:
        """Add a row to the bucket of its key."""
        number = zlib.crc32(repr(key).encode()) % _BUCKETS  # hash() differs between processes
        self._waiting[number].append((key, row))
        if len(self._waiting[number]) == _ROWS_PER_WRITE:
            if number not in self._files:
                self._files[number] = self.enter_context(tempfile.TemporaryFile(prefix="varyforge-"))
            pickle.dump(self._waiting[number], self._files[number], protocol=5)
            self._waiting[number].clear()

    def __iter__(self) -> Iterator[dict[str | int, list[Row]]]:
        """Yield per bucket its rows by key. Keys and rows are in the order in which they were added."""
        for number, waiting in enumerate(self._waiting):
            rows: dict[str | int, list[Row]] = {}
            for key, row in chain(self._written(number), waiting):
                rows.setdefault(key, []).append(row)
            yield rows

    def _written(self, number: int) -> Iterator[tuple[str | int, Row]]:
        if file := self._files.get(number):
            size = file.tell()
            file.seek(0)
            while file.tell() < size:
                yield from pickle.load(file)
