"""What there is to read: the samples of one source after its filters, and how one of them is read."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from numpy.typing import NDArray

from trainer.data.cache import Pieces, cache_folder, one_at_a_time
from trainer.data.external import COLUMNS as FOREIGN_COLUMNS
from trainer.data.external import ForeignSet
from trainer.data.external_sample import decode_foreign
from trainer.data.filters import COLUMNS, Condition, Kind, conditions_of
from trainer.data.rows import FORMAT, NUMBERS, TEXTS, Rows, open_rows, rows_of, write_rows
from trainer.images.layout import PlannedImage
from trainer.settings import SourceSettings
from varyforge.console import Progress, say, warn
from varyforge.errors import UserError
from varyforge.sample import TASKS, Sample
from varyforge.shards import JOB, IndexRow, ShardSet, decode_sample, position_of, read_exactly
from varyforge.storage import Folder, LocalFolder, folder_at, is_url

_READERS = 8  # threads; what they wait for is the network, or a disk


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Where a sample lies, and what it costs. Small, picklable: what a worker is given."""

    source: str  # name in the mixture
    place: str  # folder or URL of the shard set
    shard: str  # file name of the tar
    version: str  # of the tar: another one under the same name is of another version
    offset: int  # bytes from the start of the tar
    size: int  # bytes
    tokens: int  # of all turns, estimated; images not counted
    images: int
    task: str
    foreign: bool  # in a tar that others wrote

    def planned(self, image: PlannedImage, max_length: int) -> tuple[int, int]:
        """Tokens of the sample in a row, at most `max_length` of them, and views of its images; estimated."""
        return min(self.tokens + image.tokens * self.images, max_length), image.views * self.images


def read_item(item: Item, pieces: Pieces | None = None) -> Sample:
    """Reads a sample: its bytes on this machine's disk, or one range behind a URL, kept in `pieces`; no other byte.

    Raises:
        ValueError, OSError: its bytes cannot be read, or are no sample; the message names tar, place and rule.
    """
    folder = _folder_at(item.place)
    where = position_of(folder, item.shard, item.offset)
    data = _bytes_of(item, folder, pieces)
    return decode_foreign(data, where, item.shard, item.task) if item.foreign else decode_sample(data, where)


_folder_at = lru_cache(maxsize=256)(folder_at)
"""One per place and process."""


def _bytes_of(item: Item, folder: Folder, pieces: Pieces | None) -> bytes:
    if pieces is None or isinstance(folder, LocalFolder):
        return read_exactly(folder, item.shard, item.offset, item.size)
    name = f"{item.place}/{item.shard} {item.version} {item.offset}+{item.size}"
    data = pieces.get(name)
    if data is None:
        data = read_exactly(folder, item.shard, item.offset, item.size)
        pieces.put(name, data)
    return data


class Shards(Protocol):
    """A shard set as a catalog needs it: what lies in which tar, as tables."""

    place: str
    tars: Sequence[str]  # file names
    versions: Sequence[str]  # of the tars
    kinds: dict[str, Kind]  # columns to filter by
    identity: str  # changes with the bytes
    foreign: bool

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Columns of the index of a tar, by its place in `tars`."""
        ...


class OwnShards:
    """See `Shards`: a set that a data job wrote."""

    foreign = False

    def __init__(self, place: str) -> None:
        self._set = ShardSet(place)
        self.place = str(self._set.folder)
        self.tars: Sequence[str] = [f"{record.name}.tar" for record in self._set.records]
        self.versions: Sequence[str] = [record.tar_sha256[:16] for record in self._set.records]
        made = [[record.name, record.tar_sha256, record.index_sha256] for record in self._set.records]
        self.identity = hashlib.sha256(json.dumps(made).encode()).hexdigest()
        named = {item.name for item in fields(IndexRow)}
        self.kinds: dict[str, Kind] = dict(COLUMNS)
        for column in self._set.index(0, None).schema:
            if column.name not in named:
                self.kinds[column.name] = "text" if pa.types.is_string(column.type) else "number"

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """See `Shards`."""
        texts = [name for name in columns if name != "key" and self.kinds.get(name) == "text"]
        return self._set.index(number, columns, coded=texts)


class ForeignShards:
    """See `Shards`: tars that others wrote. What of them cannot be used is said."""

    foreign = True

    def __init__(self, place: str, task: str | None, cache: Path) -> None:
        self._set = ForeignSet(place, task, cache)
        self.place = str(self._set.folder)
        self.tars: Sequence[str] = [tar.name for tar in self._set.tars]
        self.versions: Sequence[str] = self._set.versions
        self.identity = self._set.identity
        self.kinds: dict[str, Kind] = {name: COLUMNS[name] for name in FOREIGN_COLUMNS}
        if os.environ.get("RANK", "0") == "0":
            self._say()

    def index(self, number: int, columns: Sequence[str]) -> pa.Table:
        """See `Shards`."""
        return self._set.index(number, columns)

    def _say(self) -> None:
        for line in self._set.cuts:
            warn(line)
        samples = sum(tar.samples for tar in self._set.tars)
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._set.left_out.items())
        noticed = reasons or "nothing"
        say(f"{self.place}: {samples:,} samples in {len(self.tars):,} tars of others; left out or odd: {noticed}")


class Catalog:
    """The samples of one source that pass its filters.

    Their rows are worked out of the index once, and kept in a file in the cache folder that further runs, and the
    other ranks, map. It is named by all that it depends on; one that is torn is made again.

    Args:
        name: of the source in its mixture.
        source: with `shards`.
        cache: folder for the file; null: the user's cache folder.
        at: the source's key, for messages.

    Raises:
        UserError: no such shard set, a filter that does not suit it, or none of its samples passes.
    """

    def __init__(self, name: str, source: SourceSettings, cache: str | None = None, *, at: str = "") -> None:
        at = at or f"data.mixture.sources.{name}"
        self.name = name
        folder = cache_folder(cache)
        self.shards = _open(source, folder, at)
        self._conditions = _conditions(source, self.shards, at)
        about = [FORMAT, self.shards.place, self.shards.identity, [str(one) for one in self._conditions]]
        self.identity = hashlib.sha256(json.dumps(about[2:]).encode()).hexdigest()
        """Of the samples and their order, wherever they lie."""
        digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        self._rows = self._open_rows(folder / "catalogs" / f"{digest[:40]}.rows", digest)
        self._keys = lru_cache(maxsize=64)(self._keys_of)
        if not len(self):
            raise UserError(f"{at}: {self._losses()}")

    def __len__(self) -> int:
        return len(self._rows.rows)

    @property
    def tokens(self) -> NDArray[Any]:
        """(samples,) int32: tokens of all turns, estimated; images not counted."""
        return self._field("tokens")

    @property
    def answer_tokens(self) -> NDArray[Any]:
        """(samples,) int32: supervised tokens, estimated as `trainer.data.rows` says."""
        return self._field("answer_tokens")

    @property
    def images(self) -> NDArray[Any]:
        """(samples,) int16."""
        return self._field("images")

    @property
    def task(self) -> NDArray[Any]:
        """(samples,) int8: number in TASKS."""
        return self._field("task")

    @property
    def tasks(self) -> dict[str, int]:
        """Samples of each task."""
        return dict(self._rows.tasks)

    @property
    def sums(self) -> tuple[int, int]:
        """Tokens of all samples, and supervised ones among them, estimated."""
        return self._rows.tokens, self._rows.answer_tokens

    @property
    def kept(self) -> list[tuple[str, int]]:
        """What each filter left: ("", all samples), then (filter, samples) in the order in which they were asked."""
        return list(zip(["", *map(str, self._conditions)], self._rows.kept, strict=True))

    def item(self, row: int) -> Item:
        """Where the sample of a row lies."""
        offset, size, shard, tokens, _, images, task = self._rows.rows[row].item()
        return Item(
            source=self.name,
            place=self.shards.place,
            shard=self.shards.tars[shard],
            version=self.shards.versions[shard],
            offset=offset,
            size=size,
            tokens=tokens,
            images=images,
            task=TASKS[task],
            foreign=self.shards.foreign,
        )

    def key(self, row: int) -> str:
        """Key of the sample of a row; reads the index of its shard."""
        found = self._rows.rows[row]
        return self._keys(int(found["shard"]))[int(found["offset"])]

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Columns of the index for the samples of the catalog, in order of their rows."""
        return pa.concat_tables(self.tables(columns))

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The same, tar by tar; columns of text may be values and codes (pa.dictionary)."""
        needed = list(dict.fromkeys([*columns, *(one.column for one in self._conditions)]))
        for table in _each(self.shards, needed):
            for one in self._conditions:
                table = table.filter(pa.array(one.holds(table.column(one.column))))  # noqa: PLW2901  # one by one
            yield table.select(columns).unify_dictionaries()

    def _keys_of(self, shard: int) -> dict[int, str]:
        table = self.shards.index(shard, ["key", "offset"])
        return dict(zip(table.column("offset").to_pylist(), table.column("key").to_pylist(), strict=True))

    def _field(self, name: str) -> NDArray[Any]:
        found: NDArray[Any] = self._rows.rows[name]
        return found

    def _open_rows(self, path: Path, identity: str) -> Rows:
        rows = open_rows(path, identity)
        if rows is None:
            with one_at_a_time(path):
                rows = open_rows(path, identity)  # another rank may have been at it
                if rows is None:
                    write_rows(path, identity, self._made())
                    rows = open_rows(path, identity)
        assert rows is not None, path
        return rows

    def _made(self) -> Iterator[tuple[NDArray[Any], list[int]]]:
        columns = list(dict.fromkeys([*TEXTS, *NUMBERS, *(one.column for one in self._conditions)]))
        with Progress(f"index of {self.name}", total=len(self.shards.tars), unit="shard") as progress:
            for number, table in enumerate(_each(self.shards, columns)):
                try:
                    yield rows_of(table, number, self._conditions)
                except ValueError as error:
                    raise UserError(f"{self.shards.place}/{self.shards.tars[number]}: {error}") from error
                progress.advance(1)

    def _losses(self) -> str:
        """What became of the samples, for a message when none is left."""
        (_, total), *rest = self.kept
        steps = ", ".join(f"{left:,} with {what}" for what, left in rest)
        return f"none of the {total:,} samples in {self.shards.place} is left: {steps}; change task, where or shards"


def _open(source: SourceSettings, cache: Path, at: str) -> Shards:
    assert source.shards is not None, at
    if source.task is not None and source.task not in TASKS:
        near = difflib.get_close_matches(source.task, TASKS, n=1, cutoff=0.0)[0]
        raise UserError(f"{at}.task: no task {source.task!r}; did you mean {near}? There are {', '.join(TASKS)}")
    try:
        folder = folder_at(source.shards)
        if folder.size(JOB) is not None:
            return OwnShards(source.shards)
        if folder.exists():
            return ForeignShards(source.shards, source.task, cache)
        if source.shards.endswith(".tar"):
            raise UserError(f"{source.shards}: name the folder of the tars, not a tar or a pattern")
        return OwnShards(source.shards)
    except UserError as error:
        raise UserError(f"{at}.shards: {error}") from error
    except Exception as error:
        if not is_url(source.shards):
            raise
        said = " ".join(str(error).split())  # what is behind a URL fails in ways of its own: no credentials, no route
        raise UserError(f"{at}.shards: {source.shards}: {type(error).__name__}: {said}") from error


def _conditions(source: SourceSettings, shards: Shards, at: str) -> list[Condition]:
    conditions = conditions_of(source.where, shards.kinds, f"{at}.where")
    if source.task is None:
        return conditions
    return [Condition(column="task", kind="text", values=(source.task,)), *conditions]


def _each(shards: Shards, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The index of each tar in order, read some tars ahead."""
    with ThreadPoolExecutor(_READERS) as pool:
        numbers = iter(range(len(shards.tars)))
        ahead = deque(pool.submit(shards.index, number, columns) for number in islice(numbers, 4 * _READERS))
        while ahead:
            table = ahead.popleft().result()
            ahead.extend(pool.submit(shards.index, number, columns) for number in islice(numbers, 1))
            yield table
