"""Which images benchmarks ask about: RefCOCO/+/g, DocVQA and ChartQA as published, and folders of one's own."""

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
    name: str  # as the benchmark gives it
    id: str = ""  # see `datagen.inputs.image_ids`; "" where its name is not known elsewhere
    path: Path | None = None  # None where the images were not given

    @property
    def key(self) -> str:
        """The same for an image that several benchmarks have."""
        return self.id or str(self.path or self.name)


def refcoco_images(folder: Path, coco_images: Path | None) -> Iterator[BenchmarkImage]:
    """Images with referring expressions of val, testA, testB or test.

    The layout of https://github.com/lichengunc/refer: refcoco/refs(unc).p, refcoco+/refs(unc).p, refcocog/refs(umd).p,
    refcocog/refs(google).p; a list of the same records as .json will do. The images are COCO's of train2014.

    Raises:
        UserError: nothing of the kind is there, or a file is not what it should be.
    """
    files = sorted(file for name in ("refcoco", "refcoco+", "refcocog") for file in (folder / name).glob("refs(*).*"))
    files = [file for file in files if file.suffix in {".p", ".json"}]
    if not files:
        raise UserError(f"{folder}: no refcoco/refs(unc).p nor refcoco+/, refcocog/ with such a file (--refcoco)")
    if coco_images and not next(coco_images.glob("COCO_train2014_*.jpg"), None):
        raise UserError(f"{coco_images}: no COCO_train2014_*.jpg there (--coco-images)")
    for file in files:
        # Of RefCOCOg's two splits the second is named; "unc" is the only one that the others have.
        maker = file.stem.removeprefix("refs(").removesuffix(")")
        dataset = file.parent.name if maker == "unc" else f"{file.parent.name}-{maker}"
        for split, number in sorted(set(_refs(file))):
            if split != "train":
                name = f"COCO_train2014_{number:012d}.jpg"
                path = coco_images / name if coco_images else None
                yield BenchmarkImage(benchmark=f"{dataset} {split}", name=name, id=coco_id(number), path=path)


def docvqa_images(folder: Path) -> Iterator[BenchmarkImage]:
    """Pages of val and test.

    The layouts of https://www.docvqa.org, task 1: val/val_v1.0.json beside val/documents/, and spdocvqa_qas/
    val_v1.0_withQT.json with spdocvqa_images/. Pages that are not there are listed all the same.

    Raises:
        UserError: a split's file is not there, or not what it should be.
    """
    for split in ("val", "test"):
        files = sorted(folder.rglob(f"{split}_v1.0*.json"))
        if not files:
            raise UserError(f"{folder}: no {split}_v1.0.json nor {split}_v1.0_withQT.json below it (--docvqa)")
        for file in files:
            records = _json(file)
            data = records.get("data") if isinstance(records, dict) else None
            for name in sorted(set(_names(file, data, "image", "an object with a list `data`"))):
                places = (file.parent / name, folder / "spdocvqa_images" / Path(name).name)
                path = next((place for place in places if place.is_file()), places[0])
                yield BenchmarkImage(
                    benchmark=f"docvqa {split}", name=name, id=image_id_of(name, "docvqa") or "", path=path
                )


def chartqa_images(folder: Path) -> Iterator[BenchmarkImage]:
    """Charts of val and test.

    The layout of https://github.com/vis-nlp/ChartQA: val/png/*.png, val/val_human.json, val/val_augmented.json and the
    same for test, in the folder or in "ChartQA Dataset" there. Charts with or without questions, there or not.

    Raises:
        UserError: a split is not there, or a file is not what it should be.
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
    """All images of a folder, at any depth. COCO's are known by their names, too.

    Raises:
        UserError: there are none.
    """
    for file in list_files([str(folder)], *SUFFIXES):
        name = name_of(file, [str(folder)])
        yield BenchmarkImage(benchmark=benchmark, name=name, id=image_id_of(name) or "", path=Path(file))


def _refs(file: Path) -> Iterator[tuple[str, int]]:
    """(split, image number) of each reference."""
    try:
        refs = _json(file) if file.suffix == ".json" else load_plain_pickle(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error
    if not isinstance(refs, list):
        raise UserError(f"{file}: expected a list of references, found {type(refs).__name__}")
    for place, ref in enumerate(refs):
        split, number = (ref.get("split"), ref.get("image_id")) if isinstance(ref, dict) else (None, None)
        if not isinstance(split, str) or not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise UserError(f"{file}: reference {place} has no split and image_id: a guard with holes is none")
        yield split, number


def _names(file: Path, records: Any, key: str, expected: str) -> Iterator[str]:
    """The text that each record has as `key`."""
    if not isinstance(records, list):
        raise UserError(f"{file}: expected {expected} of records with {key!r}")
    for place, record in enumerate(records):
        name = record.get(key) if isinstance(record, dict) else None
        if not isinstance(name, str) or not name:
            raise UserError(f"{file}: record {place} has no {key!r}: a guard with holes is none")
        yield name


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}") from error
