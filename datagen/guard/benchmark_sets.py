"""The images of benchmarks as published (docs/sources/guard.md has their files and origin), and of own folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.inputs.image_ids import coco_id, image_id_of
from datagen.inputs.listing import list_files, name_of
from datagen.inputs.plain_pickle import load_plain_pickle
from varyforge.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkImage:
    """One image of one benchmark's split."""

    benchmark: str  # "refcoco testA"
    name: str  # as in the benchmark
    id: str = ""  # as in `datagen.inputs.image_ids`; "": the name identifies no image elsewhere
    path: Path | None = None  # None: without image files

    @property
    def key(self) -> str:
        """A key that benchmarks with the same image share."""
        return self.id or str(self.path or self.name)


def refcoco_images(folder: Path, coco_images: Path | None) -> Iterator[BenchmarkImage]:
    """Yield the images with referring expressions in val, testA, testB or test.

    The images are those of COCO train2014.

    Raises:
        UserError: no such file exists, or a file has another format.
    """
    files = sorted(file for name in ("refcoco", "refcoco+", "refcocog") for file in (folder / name).glob("refs(*).*"))
    files = [file for file in files if file.suffix in {".p", ".json"}]
    if not files:
        raise UserError(f"{folder}: no refcoco/refs(unc).p nor refcoco+/, refcocog/ with such a file (--refcoco)")
    if coco_images and not next(coco_images.glob("COCO_train2014_*.jpg"), None):
        raise UserError(f"{coco_images}: no COCO_train2014_*.jpg there (--coco-images)")
    for file in files:
        # RefCOCOg has two ways of splitting, which become part of the name. The other sets have "unc" alone.
        maker = file.stem.removeprefix("refs(").removesuffix(")")
        dataset = file.parent.name if maker == "unc" else f"{file.parent.name}-{maker}"
        for split, number in sorted(set(_refs(file))):
            if split != "train":
                name = f"COCO_train2014_{number:012d}.jpg"
                path = coco_images / name if coco_images else None
                yield BenchmarkImage(benchmark=f"{dataset} {split}", name=name, id=coco_id(number), path=path)


def docvqa_images(folder: Path) -> Iterator[BenchmarkImage]:
    """Yield the pages of val and test, including pages without an image file.

    Raises:
        UserError: a split's file is missing or has another format.
    """
    for split in ("val", "test"):
        files = sorted(folder.rglob(f"{split}_v1.0*.json"))
        if not files:
            raise UserError(f"{folder}: no {split}_v1.0.json nor {split}_v1.0_withQT.json below it (--docvqa)")
        for file in files:
            records = _json(file)
            data = records.get("data") if isinstance(records, dict) else None
            for name in sorted(set(_names(file, data, "image", "an object with a list `data`"))):
                paths = (file.parent / name, folder / "spdocvqa_images" / Path(name).name)
                path = next((path for path in paths if path.is_file()), paths[0])
                yield BenchmarkImage(
                    benchmark=f"docvqa {split}", name=name, id=image_id_of(name, "docvqa") or "", path=path
                )


def chartqa_images(folder: Path) -> Iterator[BenchmarkImage]:
    """Yield the charts of val and test, including charts without questions or without an image file.

    Raises:
        UserError: a split is missing, or a file has another format.
    """
    root = folder / "ChartQA Dataset" if (folder / "ChartQA Dataset").is_dir() else folder
    for split in ("val", "test"):
        names = {file.name for file in (root / split / "png").glob("*.png")}
        for file in sorted((root / split).glob(f"{split}_*.json")):
            names |= set(_names(file, _json(file), "imgname", "a list"))
        if not names:
            raise UserError(f"{root}: no {split}/png/*.png nor {split}/{split}_*.json (--chartqa)")
        for name in sorted(names):
            path = root / split / "png" / name
            image_id = image_id_of(name, "chartqa") or ""
            yield BenchmarkImage(benchmark=f"chartqa {split}", name=name, id=image_id, path=path)


def folder_images(benchmark: str, folder: Path) -> Iterator[BenchmarkImage]:
    """Yield all images of a folder at any depth. COCO file names become ids.

    Raises:
        UserError: the folder has no images.
    """
    for file in list_files([str(folder)], *SUFFIXES):
        name = name_of(file, [str(folder)])
        yield BenchmarkImage(benchmark=benchmark, name=name, id=image_id_of(name) or "", path=Path(file))


def _refs(file: Path) -> Iterator[tuple[str, int]]:
    """Yield split and image number of each reference."""
    try:
        refs = _json(file) if file.suffix == ".json" else load_plain_pickle(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    if not isinstance(refs, list):
        raise UserError(f"{file}: expected a list of references, found {type(refs).__name__}")
    for index, ref in enumerate(refs):
        split, number = (ref.get("split"), ref.get("image_id")) if isinstance(ref, dict) else (None, None)
        if not isinstance(split, str) or not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise UserError(f"{file}: reference {index} has no split and image_id; a guard must not miss images")
        yield split, number


def _names(file: Path, records: Any, key: str, expected: str) -> Iterator[str]:
    """Yield the text that each record has as `key`."""
    if not isinstance(records, list):
        raise UserError(f"{file}: expected {expected} of records with {key!r}")
    for index, record in enumerate(records):
        name = record.get(key) if isinstance(record, dict) else None
        if not isinstance(name, str) or not name:
            raise UserError(f"{file}: record {index} has no {key!r}; a guard must not miss images")
        yield name


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error
