"""The index rows of a mixture's sources, and how often a key has come before: what copying a sample needs to know.

A shard of a shuffled mixture has samples from all over its sources' indexes. So these are copied once into a file that
is mapped, from where any row is read without the others; it has no name and goes with the process.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.mix.count import CHUNK, Order

Ints = NDArray[np.int64]
Row = dict[str, Any]

_AGAIN = re.compile(r"(?:-r[0-9]+)+$")
_BASE_CHARS = 64 - len("-r9999999")  # of the 64 that a key may have
_DIGEST_CHARS = 24


class RowFile:
    """Tables, one after the other in a mapped file without a name.

    Args:
        tables: their rows are numbered through all of them.
        schema: of the rows; has a column "key", of which `bases` remembers a hash.
    """

    def __init__(self, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        ends, bases = [0], [np.zeros(0, np.uint64)]
        with tempfile.NamedTemporaryFile(prefix="varyforge-") as file:
            with pa.ipc.new_file(file, schema) as writer:
                for table in tables:
                    for batch in table.cast(schema).combine_chunks().to_batches():
                        writer.write_batch(batch)
                        ends.append(ends[-1] + len(batch))
                        keys = batch.column("key").to_pylist()
                        bases.append(np.fromiter(map(_hash, keys), np.uint64, len(keys)))
            file.flush()
            self._reader = pa.ipc.open_file(pa.memory_map(file.name))
        self._ends = np.array(ends)
        self.bases: NDArray[np.uint64] = np.concatenate(bases)
        """(rows,) equal for keys that differ by what `key_again` appends."""

    def rows(self, numbers: Ints) -> list[Row]:
        """Rows by their numbers, in that order."""
        found: list[Row] = [{}] * len(numbers)
        batch_of = np.searchsorted(self._ends, numbers, side="right") - 1
        for batch in np.unique(batch_of):
            places = np.flatnonzero(batch_of == batch)
            picked = self._reader.get_batch(int(batch)).take(pa.array(numbers[places] - self._ends[batch]))
            for place, row in zip(places.tolist(), picked.to_pylist(), strict=True):
                found[place] = row
        return found


def occurrences(order: Order, positions: int, bases: Sequence[NDArray[np.uint64]]) -> NDArray[np.int32]:
    """The how-manieth occurrence (from 1) of its sample each of the first `positions` positions is.

    Args:
        order: the mixture.
        positions: so many.
        bases: of each source's rows, see `RowFile`. Two samples with the same are taken for one, which costs the
            second a needless ending; of 100 million keys that happens once in 4,000 sets.
    """
    drawn = np.empty(positions, np.uint64)
    for first in range(0, positions, CHUNK):
        chunk = np.arange(first, min(first + CHUNK, positions))
        source, row = order.at(chunk)
        for number, of in enumerate(bases):
            mine = source == number
            drawn[chunk[mine]] = of[row[mine]]
    by_base = np.argsort(drawn, kind="stable")
    ordered = drawn[by_base]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    found = np.empty(positions, np.int32)
    found[by_base] = np.arange(positions) - np.repeat(starts, np.diff(np.append(starts, positions))) + 1
    return found


def key_again(key: str, number: int) -> str:
    """The key of the `number`-th occurrence (from 1) of the sample `key` in a set.

    Keys that differ only by such an ending count as one sample's, so that a mixture of a written mixture has unique
    keys too.

    >>> key_again("pdf-0a1b", 1), key_again("pdf-0a1b", 2)
    ('pdf-0a1b', 'pdf-0a1b-r2')
    """
    return f"{base_of(key)}-r{number}" if number > 1 else _plain(key)


def base_of(key: str) -> str:
    """A key without the ending that `key_again` appends, and short enough for any; that of a base is itself."""
    plain = _plain(key)
    if len(plain) <= _BASE_CHARS:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{plain[: _BASE_CHARS - len(digest) - 1]}-{digest}"


def _plain(key: str) -> str:
    return _AGAIN.sub("", key) or key


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(base_of(key).encode(), digest_size=8).digest())
