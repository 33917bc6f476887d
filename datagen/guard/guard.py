"""The guard, a file that recognises benchmark images by name or by appearance (decontamination)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import PIL.Image
import pyarrow as pa

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

if TYPE_CHECKING:
    from datagen.guard.benchmark_sets import BenchmarkImage

_VERSION = b"1"  # of the file format and of fingerprints
_CANDIDATES = 5  # most candidates compared in detail; the right one is nearly always among the first two


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A benchmark image that equals an image in question."""

    benchmark: str  # all benchmarks with the image, "refcoco val, refcoco+ val"
    name: str  # of the benchmark image
    by: Literal["id", "appearance"]
    similarity: float  # 1 by id; by appearance at least `datagen.guard.image_similarity.ALIKE`

    def __str__(self) -> str:
        return f"{self.benchmark}: {self.name}"


class Guard:
    """A set of benchmark images to recognise. Processes that read the same file share its pages in memory."""

    def __init__(self, location: str, data: pa.Buffer) -> None:
        try:
            with pa.ipc.open_file(data) as file:
                version = (file.schema.metadata or {}).get(b"guard")
                batch = file.get_batch(0) if version == _VERSION else None
        except pa.ArrowInvalid as error:
            raise UserError(f"{location}: not a guard: {error}; write one with python -m datagen.guard") from error
        if batch is None:
            raise UserError(f"{location}: a guard of another version; write it again with python -m datagen.guard")
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
        """Read the guard at a path or URL.

        Raises:
            UserError: the file is missing, not a guard, or of another version.
        """
        try:
            if is_url(path):
                folder, _, name = path.rpartition("/")
                return cls(path, pa.py_buffer(folder_at(folder).read(name)))
            return cls(path, pa.memory_map(path).read_buffer())
        except OSError as error:
            raise UserError(f"{path}: cannot read the guard: {error}") from error

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self._data).hexdigest()

    def find(self, ids: Iterable[str], picture: PIL.Image.Image) -> Match | None:
        """Return the benchmark image that equals a decoded, upright picture, or None.

        The fingerprint of the picture is compared if the guard has none of its possible ids (`image_id_of`).
        """
        for one in ids:
            if one in self._rows:
                return self._match(self._rows[one], "id", 1.0)
        if not len(self._vectors):
            return None
        query = fingerprint_of(picture)
        vectors, boxes = query_vectors(query)
        products = np.round(self._vectors @ vectors.T, 4).ravel()  # else ties would depend on the processor
        near = np.flatnonzero(products >= NEAR)
        if not len(near):
            return None
        near = near[np.argsort(-products[near], kind="stable")[:_CANDIDATES]]
        views, queries = near // len(vectors), near % len(vectors)
        owners = self._owners[views]
        guarded = np.stack([np.frombuffer(self._thumbnails[row].as_buffer(), np.uint8) for row in owners.tolist()])
        scores = similarities(query.thumbnail, boxes[queries], guarded.reshape(-1, SIDE, SIDE), self._boxes[views])
        scores = np.round(scores.astype(np.float64), 3)
        best = int(scores.argmax())
        similarity = float(scores[best])
        return self._match(int(owners[best]), "appearance", similarity) if similarity >= ALIKE else None

    def _match(self, row: int, by: Literal["id", "appearance"], similarity: float) -> Match:
        benchmark, name = self._benchmarks[row].as_py(), self._names[row].as_py()
        return Match(benchmark=benchmark, name=name, by=by, similarity=similarity)


def guard_at(path: str) -> Guard:
    """Return `Guard.read(path)`, cached until a local file changes."""
    try:
        return _read_once(path, "" if is_url(path) else signature(path))
    except OSError as error:
        raise UserError(f"{path}: cannot read the guard: {error}") from error


@lru_cache(maxsize=2)
def _read_once(path: str, _state: str) -> Guard:
    return Guard.read(path)


def guarded(path: str, ids: Iterable[str], picture: PIL.Image.Image) -> Rejected | None:
    """Reject a picture that `Guard.find` finds. Return None for other pictures, and without a guard (path "")."""
    match = guard_at(path).find(ids, picture) if path else None
    if match is None:
        return None
    return Rejected(gate="benchmark", value=match.similarity, threshold=ALIKE, detail=str(match))


def guard_version(path: str) -> dict[str, str]:
    """Return the guard's entry in `Source.versions`, on which the bytes of a set depend."""
    return {"benchmark guard": guard_at(path).digest[:16]} if path else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReport:
    """A summary of a guard."""

    images: Mapping[str, int]  # number of images by benchmark
    by_id: Mapping[str, int]  # number of images with an id
    by_appearance: Mapping[str, int]  # number of images with a fingerprint
    without_fingerprint: Sequence[str]  # a line per image with a path but without a fingerprint
    unguarded: int  # number of these images that have no id either


def build_guard(images: Iterable[BenchmarkImage], out: str | Path) -> GuardReport:
    """Write the guard of benchmark images. Its bytes depend on the images alone."""
    listed = list(images)
    merged = list(_merged(listed))
    with ThreadPoolExecutor() as pool, Progress("guard", total=len(merged), unit="image") as progress:
        fingerprints = []
        for one in pool.map(_fingerprint, (image.path for image in merged)):
            fingerprints.append(one)
            progress.advance(1)
    write_guard(merged, fingerprints, out)
    pairs = list(zip(merged, fingerprints, strict=True))
    known = {image.key: isinstance(one, Fingerprint) for image, one in pairs}
    without = [(image, one) for image, one in pairs if isinstance(one, str) and image.path]
    return GuardReport(
        images=Counter(image.benchmark for image in listed),
        by_id=Counter(image.benchmark for image in listed if image.id),
        by_appearance=Counter(image.benchmark for image in listed if known[image.key]),
        without_fingerprint=[f"{image.benchmark}: {image.name}: {problem}" for image, problem in without],
        unguarded=sum(not image.id for image, _ in without),
    )


def write_guard(images: Sequence[BenchmarkImage], fingerprints: Sequence[Fingerprint | str], out: str | Path) -> None:
    """Write a guard, one Arrow file that is memory-mapped, from images and their fingerprints or why these lack."""
    nothing = np.zeros((0, 4), dtype=np.float32)
    boxes = [one.boxes if isinstance(one, Fingerprint) else nothing for one in fingerprints]
    vectors = [guarded_vectors(one) for one in fingerprints if isinstance(one, Fingerprint)]
    thumbnails = [one.thumbnail.tobytes() if isinstance(one, Fingerprint) else b"" for one in fingerprints]
    ends = np.cumsum([0, *map(len, boxes)], dtype=np.int32)
    columns = {
        "benchmark": pa.array([image.benchmark for image in images], pa.string()),
        "name": pa.array([image.name for image in images], pa.string()),
        "id": pa.array([image.id for image in images], pa.string()),
        "problem": pa.array([one if isinstance(one, str) else "" for one in fingerprints], pa.string()),
        "boxes": _lists(ends, np.concatenate([nothing, *boxes])),
        "vectors": _lists(ends, np.concatenate([np.zeros((0, DIMENSIONS), dtype=np.float32), *vectors])),
        "thumbnail": pa.array(thumbnails, pa.large_binary()),
    }
    schema = pa.schema([(name, column.type) for name, column in columns.items()], metadata={b"guard": _VERSION})
    batch = pa.record_batch(list(columns.values()), schema=schema)
    with atomic_file(Path(out)) as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)


def _merged(images: Sequence[BenchmarkImage]) -> Iterator[BenchmarkImage]:
    """Yield each image once, with all benchmarks that have it."""
    groups: dict[str, list[BenchmarkImage]] = {}
    for image in images:
        groups.setdefault(image.key, []).append(image)
    for group in groups.values():
        benchmarks = ", ".join(dict.fromkeys(image.benchmark for image in group))
        path = next((image.path for image in group if image.path and image.path.is_file()), group[0].path)
        yield replace(group[0], benchmark=benchmarks, path=path)


def _fingerprint(path: Path | None) -> Fingerprint | str:
    """Return the fingerprint of an image, or the reason why it has none."""
    if path is None:
        return ""
    try:
        fingerprint = fingerprint_of(read_picture(path.read_bytes(), ImagePolicy()).pixels)
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return str(error)
    return fingerprint if len(fingerprint.boxes) else "nearly of one colour: nothing tells it from others"


def _lists(ends: np.ndarray, rows: np.ndarray) -> pa.Array:
    """Return an array with one list of rows per image."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return pa.ListArray.from_arrays(pa.array(ends), values)
