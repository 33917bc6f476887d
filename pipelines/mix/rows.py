"""Random access to the index rows of a mixture's sources, and unique keys for repeated samples.

A shard of a shuffled mixture has samples from everywhere in its sources' indexes. The indexes are therefore copied once
into a mapped temporary file, from which any row can be read alone. The file has no name and ends with the process.
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

from pipelines.mix.count import CHUNK, Ints
from trainer.data.mixture import Mixture

Row = dict[str, Any]

_AGAIN = re.compile(r"(?:-r[0-9]+)+$")
_BASE_CHARS = 64 - len("-r9999999")  # of the 64 characters of a key
_DIGEST_CHARS = 24


class RowFile:
    """The rows of several tables, numbered consecutively, in a mapped file without a name.

    `schema` is the rows' own, with a column "key" for `bases`.
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
        """(rows,) hashes of the keys without the endings of `key_again`."""

    def rows(self, numbers: Ints) -> list[Row]:
        """Return the rows with these numbers, in this order."""
        rows: list[Row] = [{}] * len(numbers)
        batch_of = np.searchsorted(self._ends, numbers, side="right") - 1
        for batch in np.unique(batch_of):
            positions = np.flatnonzero(batch_of == batch)
            picked = self._reader.get_batch(int(batch)).take(pa.array(numbers[positions] - self._ends[batch]))
            for position, row in zip(positions.tolist(), picked.to_pylist(), strict=True):
                rows[position] = row
        return rows


def occurrences(mixture: Mixture, positions: int, bases: Sequence[NDArray[np.uint64]]) -> NDArray[np.int32]:
    """Number the occurrences of each sample from 1, in the order of positions: (positions,) numbers.

    `bases` are `RowFile.bases` of each source. Two samples with equal hashes count as one, so that the second gets an
    unnecessary ending. With 100 million keys, this happens in one of 4,000 sets.
    """
    drawn = np.empty(positions, np.uint64)
    for first in range(0, positions, CHUNK):
        chunk = np.arange(first, min(first + CHUNK, positions))
        source, row = mixture.at(chunk)
        for number, hashes in enumerate(bases):
            mine = source == number
            drawn[chunk[mine]] = hashes[row[mine]]
    by_base = np.argsort(drawn, kind="stable")
    ordered = drawn[by_base]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    numbers = np.empty(positions, np.int32)
    numbers[by_base] = np.arange(positions) - np.repeat(starts, np.diff(np.append(starts, positions))) + 1
    return numbers


def key_again(key: str, number: int) -> str:
    """Return the key of the `number`-th occurrence (from 1) of a sample in a set.

    Keys that differ only in this ending belong to one sample, so a mixture of written mixtures has unique keys, too.

    >>> key_again("pdf-0a1b", 1), key_again("pdf-0a1b", 2)
    ('pdf-0a1b', 'pdf-0a1b-r2')
    """
    return f"{base_of(key)}-r{number}" if number > 1 else _plain(key)


def base_of(key: str) -> str:
    """Return a key without the ending of `key_again`, short enough for any such ending. A base is its own base."""
    plain = _plain(key)
    if len(plain) <= _BASE_CHARS:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:_DIGEST_CHARS]
    return f"{plain[: _BASE_CHARS - len(digest) - 1]}-{digest}"


def _plain(key: str) -> str:
    return _AGAIN.sub("", key) or key


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(base_of(key).encode(), digest_size=8).digest())
