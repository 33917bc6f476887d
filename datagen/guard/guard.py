"""Keeps benchmarks' images out of training data: by name where it is known, by look where it is not.

python -m datagen.guard --out guard.arrow --refcoco refer/data --coco-images train2014/ --folder mine=exam/
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import pyarrow as pa

from datagen.guard.benchmark_sets import BenchmarkImage
from datagen.guard.image_similarity import (
    ALIKE,
    DIMENSIONS,
    NEAR,
    SIDE,
    Fingerprint,
    fingerprint_of,
    guarded_vectors,
    query_vectors,
    similarities,
)
from varyforge.console import Progress
from varyforge.errors import UserError
from varyforge.files import atomic_file
from varyforge.images import ImagePolicy, read_picture
from varyforge.outcome import Rejected
from varyforge.storage import folder_at, is_url, signature

_VERSION = b"1"  # of the file's form and of what a look is
_CANDIDATES = 5  # at most so many are compared closely; the right one is nearly always among the first two


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An image is one of a benchmark's."""

    benchmark: str  # "refcoco val, refcoco+ val": all that have it
    name: str  # of the benchmark's image
    by: Literal["id", "look"]
    similarity: float  # 1 by id; by look at least `datagen.guard.image_similarity.ALIKE`

    def __str__(self) -> str:
        return f"{self.benchmark}: {self.name}"


class Guard:
    """Benchmarks' images, to be recognised. The file's pages in memory are shared by all processes that read it."""

    def __init__(self, place: str, data: pa.Buffer) -> None:
        try:
            with pa.ipc.open_file(data) as file:
                version = (file.schema.metadata or {}).get(b"guard")
                batch = file.get_batch(0) if version == _VERSION else None
        except pa.ArrowInvalid as error:
            raise UserError(f"{place}: no guard: {error}; make one with python -m datagen.guard") from error
        if batch is None:
            raise UserError(f"{place}: a guard of another version; make it again with python -m datagen.guard")
        self._data = data
        self._benchmarks, self._names = batch.column("benchmark"), batch.column("name")
        self._thumbnails = batch.column("thumbnail")
        ids: list[str] = batch.column("id").to_pylist()
        self._rows = {one: row for row, one in enumerate(ids) if one}
        views = batch.column("boxes")
        self._owners = np.repeat(np.arange(len(batch)), np.diff(views.offsets.to_numpy()))
        self._boxes = views.values.values.to_numpy().reshape(-1, 4)
        self._vectors = batch.column("vectors").values.values.to_numpy().reshape(-1, DIMENSIONS)

    @classmethod
    def read(cls, path: str) -> Guard:
        """The guard at a path or URL.

        Raises:
            UserError: there is none, or it was made by another version.
        """
        try:
            if is_url(path):
                folder, _, name = path.rpartition("/")
                return cls(path, pa.py_buffer(folder_at(folder).read(name)))
            return cls(path, pa.memory_map(path).read_buffer())
        except OSError as error:
            raise UserError(f"{path}: no guard can be read there: {error}") from error

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file: what is guarded, and how."""
        return hashlib.sha256(self._data).hexdigest()

    def find(self, ids: Iterable[str], picture: PIL.Image.Image) -> Match | None:
        """The benchmark's image that this one is; None for none.

        Args:
            ids: names it may be known by (`datagen.inputs.image_ids.image_id_of`).
            picture: decoded, as it is shown; looked at only where no name is known.
        """
        for one in ids:
            if one in self._rows:
                return self._match(self._rows[one], "id", 1.0)
        return self._find_look(fingerprint_of(picture)) if len(self._vectors) else None

    def _find_look(self, look: Fingerprint) -> Match | None:
        vectors, boxes = query_vectors(look)
        products = (self._vectors @ vectors.T).ravel()
        near = np.flatnonzero(products >= NEAR)
        if not len(near):
            return None
        near = near[np.argsort(-products[near], kind="stable")[:_CANDIDATES]]
        views, asked = near // len(vectors), near % len(vectors)
        owners = self._owners[views]
        guarded = np.stack([np.frombuffer(self._thumbnails[row].as_buffer(), np.uint8) for row in owners.tolist()])
        found = similarities(look.thumbnail, boxes[asked], guarded.reshape(-1, SIDE, SIDE), self._boxes[views])
        best = int(found.argmax())
        similarity = round(float(found[best]), 3)
        return self._match(int(owners[best]), "look", similarity) if similarity >= ALIKE else None

    def _match(self, row: int, by: Literal["id", "look"], similarity: float) -> Match:
        benchmark, name = self._benchmarks[row].as_py(), self._names[row].as_py()
        return Match(benchmark=benchmark, name=name, by=by, similarity=similarity)


def guard_at(path: str) -> Guard:
    """`Guard.read`, once in a process, and again when the file on this machine is another."""
    try:
        return _read_once(path, "" if is_url(path) else signature(path))
    except OSError as error:
        raise UserError(f"{path}: no guard can be read there: {error}") from error


@lru_cache(maxsize=2)
def _read_once(path: str, _state: str) -> Guard:
    return Guard.read(path)


def guarded(path: str, ids: Iterable[str], picture: PIL.Image.Image) -> Rejected | None:
    """The verdict on a picture that is one of a benchmark's; None for others, and where there is no guard.

    Args:
        path: of the guard; "" for none.
        ids: as for `Guard.find`.
        picture: as for `Guard.find`.
    """
    match = guard_at(path).find(ids, picture) if path else None
    if match is None:
        return None
    return Rejected(gate="benchmark", value=match.similarity, threshold=ALIKE, detail=str(match))


def guard_version(path: str) -> dict[str, str]:
    """What the bytes of a set depend on by its guard; for `Source.versions`."""
    return {"benchmark guard": guard_at(path).digest[:16]} if path else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReport:
    """What a guard guards."""

    images: Mapping[str, int]  # by benchmark
    by_id: Mapping[str, int]
    by_appearance: Mapping[str, int]
    without_fingerprint: Sequence[str]  # a line for each image that was given, but cannot be known by its look
    unguarded: int  # of these, how many have no name either


def build_guard(images: Iterable[BenchmarkImage], out: str | Path) -> GuardReport:
    """Writes the guard of some benchmarks' images. The bytes depend on the images alone."""
    listed = list(images)
    merged = list(_merged(listed))
    with ThreadPoolExecutor() as pool, Progress("guard", total=len(merged), unit="image") as progress:
        seen = []
        for one in pool.map(_look, (image.path for image in merged)):
            seen.append(one)
            progress.advance(1)
    write_guard(merged, seen, out)
    return _report(listed, merged, seen)


def write_guard(images: Sequence[BenchmarkImage], looks: Sequence[Fingerprint | str], out: str | Path) -> None:
    """Writes a guard: one Arrow file, used as it lies on disk. For a look there may be a line why there is none."""
    batch = _batch(images, looks)
    with atomic_file(Path(out)) as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _merged(images: Sequence[BenchmarkImage]) -> Iterator[BenchmarkImage]:
    """Each image once, with all the benchmarks that have it."""
    groups: dict[str, list[BenchmarkImage]] = {}
    for image in images:
        groups.setdefault(image.key, []).append(image)
    for group in groups.values():
        benchmarks = ", ".join(dict.fromkeys(image.benchmark for image in group))
        path = next((image.path for image in group if image.path and image.path.is_file()), group[0].path)
        yield BenchmarkImage(benchmark=benchmarks, name=group[0].name, id=group[0].id, path=path)


def _look(path: Path | None) -> Fingerprint | str:
    """The look of an image, or why it has none."""
    if path is None:
        return ""
    try:
        look = fingerprint_of(read_picture(path.read_bytes(), ImagePolicy()).pixels)
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return str(error)
    return look if len(look.boxes) else "nearly of one colour: nothing tells it from others"


def _batch(images: Sequence[BenchmarkImage], looks: Sequence[Fingerprint | str]) -> pa.RecordBatch:
    nothing = np.zeros((0, 4), dtype=np.float32)
    boxes = [one.boxes if isinstance(one, Fingerprint) else nothing for one in looks]
    vectors = [guarded_vectors(one) for one in looks if isinstance(one, Fingerprint)]
    ends = np.cumsum([0, *map(len, boxes)], dtype=np.int32)
    columns = {
        "benchmark": pa.array([image.benchmark for image in images], pa.string()),
        "name": pa.array([image.name for image in images], pa.string()),
        "id": pa.array([image.id for image in images], pa.string()),
        "problem": pa.array([one if isinstance(one, str) else "" for one in looks], pa.string()),
        "boxes": _lists(ends, np.concatenate([nothing, *boxes])),
        "vectors": _lists(ends, np.concatenate([np.zeros((0, DIMENSIONS), dtype=np.float32), *vectors])),
        "thumbnail": pa.array(
            [one.thumbnail.tobytes() if isinstance(one, Fingerprint) else b"" for one in looks], pa.large_binary()
        ),
    }
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata={b"guard": _VERSION})
    return pa.record_batch(list(columns.values()), schema=schema)


def _lists(ends: np.ndarray, rows: np.ndarray) -> pa.Array:
    """A list of rows for each image."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return pa.ListArray.from_arrays(pa.array(ends), values)


def _report(
    listed: Sequence[BenchmarkImage], merged: Sequence[BenchmarkImage], looks: Sequence[Fingerprint | str]
) -> GuardReport:
    seen = {image.key: isinstance(look, Fingerprint) for image, look in zip(merged, looks, strict=True)}
    without = [(image, look) for image, look in zip(merged, looks, strict=True) if isinstance(look, str) and image.path]
    return GuardReport(
        images=Counter(image.benchmark for image in listed),
        by_id=Counter(image.benchmark for image in listed if image.id),
        by_appearance=Counter(image.benchmark for image in listed if seen[image.key]),
        without_fingerprint=[f"{image.benchmark}: {image.name}: {problem}" for image, problem in without],
        unguarded=sum(not image.id for image, _ in without),
    )
