"""Sample images with boxes: coloured shapes, annotated in COCO format."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageDraw

from datagen.examples.texts import text_bank
from varyforge.files import atomic_file, write_text

_SIZES_PX = ((320, 240), (400, 300), (480, 360), (512, 512), (640, 480), (360, 480))
_GRIDS = ((3, 2, 2), (8, 4, 3), (54, 9, 6))  # most objects, columns, rows
_CROWDED_EVERY = 10  # every tenth image has more than 30 boxes
_SUPERSAMPLING = 2  # images are drawn larger and reduced, for smooth edges

Point = tuple[float, float]


def _ring(corners: int, start: float = -0.25, inner: float = 1.0) -> list[Point]:
    """Return the corners of a shape in the unit square. Every second corner is `inner` times as far from the centre."""
    turns = [start + i / corners for i in range(corners)]
    reach = [inner if i % 2 else 1.0 for i in range(corners)]
    points = [(r * math.cos(math.tau * t), r * math.sin(math.tau * t)) for t, r in zip(turns, reach, strict=True)]
    lowest = [min(p[axis] for p in points) for axis in (0, 1)]
    extent = [max(p[axis] for p in points) - lowest[axis] for axis in (0, 1)]
    return [((x - lowest[0]) / extent[0], (y - lowest[1]) / extent[1]) for x, y in points]


_SHAPES: Mapping[str, list[Point]] = {
    "circle": _ring(72),
    "square": _ring(4, start=0.125),
    "triangle": _ring(3),
    "diamond": _ring(4),
    "star": _ring(10, inner=0.45),
}


@dataclass(frozen=True, slots=True)
class _Shape:
    """A shape in an image."""

    category: Mapping[str, Any]
    outline: list[Point]  # pixels

    def annotation(self, number: int, image: int) -> dict[str, Any]:
        """Return the shape's COCO record; the area is that of the polygon, as in COCO."""
        xs, ys = zip(*self.outline, strict=True)
        following = self.outline[1:] + self.outline[:1]
        area = abs(sum(x * v - u * y for (x, y), (u, v) in zip(self.outline, following, strict=True))) / 2
        return {
            "id": number,
            "image_id": image,
            "category_id": self.category["id"],
            "bbox": [min(xs), min(ys), round(max(xs) - min(xs), 2), round(max(ys) - min(ys), 2)],
            "area": round(area, 2),
            "segmentation": [[side for point in self.outline for side in point]],
            "iscrowd": 0,
        }


def write_detection(folder: Path | str, *, images: int = 60, seed: int = 0) -> Path:
    """Write `images/*.jpg` with coloured shapes and `instances.json` in COCO format. Replaces files of these names.

    Every tenth image holds 31 to 45 small objects of six classes, the others 1 to 8. Objects do not overlap. Returns
    the path of `instances.json`. Each `file_name` in it is relative to the folder `images` beside it.
    """
    folder = Path(folder)
    names = [(shape, f"{colour['en']} {shape}") for shape in _SHAPES for colour in text_bank()["colours"]]
    categories = [{"id": i, "name": name, "supercategory": shape} for i, (shape, name) in enumerate(names, start=1)]
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        rng = random.Random(f"image {seed} {number}")
        width, height = rng.choice(_SIZES_PX)
        objects = _objects(rng, width, height, crowded=number % _CROWDED_EVERY == 0, categories=categories)
        name = f"{number:06d}.jpg"
        with atomic_file(folder / "images" / name) as file:
            _draw(rng, width, height, objects).save(file, "JPEG", quality=90)
        listed.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations += [item.annotation(len(annotations) + i, number) for i, item in enumerate(objects, start=1)]
    coco = {
        "info": {"description": "Coloured shapes, made by `python -m datagen.examples`", "version": "1.0"},
        "licenses": [],
        "images": listed,
        "annotations": annotations,
        "categories": categories,
    }
    path = folder / "instances.json"
    write_text(path, json.dumps(coco, indent=1) + "\n")
    return path


def _objects(
    rng: random.Random, width: int, height: int, *, crowded: bool, categories: Sequence[Mapping[str, Any]]
) -> list[_Shape]:
    """Return shapes, each in its own cell of a grid."""
    count = rng.randint(31, 45) if crowded else rng.randint(1, 8)
    columns, rows = next((columns, rows) for most, columns, rows in _GRIDS if count <= most)
    allowed = rng.sample(categories, 6) if crowded else categories
    shapes = []
    for cell in rng.sample(range(columns * rows), count):
        side = min(width / columns, height / rows) * rng.uniform(0.55, 0.92)
        left = width / columns * (cell % columns) + rng.uniform(0.02, 0.98) * (width / columns - side)
        top = height / rows * (cell // columns) + rng.uniform(0.02, 0.98) * (height / rows - side)
        category = rng.choice(allowed)
        unit = _SHAPES[category["supercategory"]]
        shapes.append(_Shape(category, [(round(left + x * side, 2), round(top + y * side, 2)) for x, y in unit]))
    return shapes


def _draw(rng: random.Random, width: int, height: int, objects: Iterable[_Shape]) -> PIL.Image.Image:
    """Draw the shapes on a pale ground: plain, or a gradient from top to bottom."""
    size = (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
    rgb = {f"{colour['en']} ": colour["rgb"] for colour in text_bank()["colours"]}
    above, below = (PIL.Image.new("RGB", size, tuple(rng.randint(205, 250) for _ in range(3))) for _ in range(2))
    if rng.random() < 0.5:
        below = above
    picture = PIL.Image.composite(below, above, PIL.Image.linear_gradient("L").resize(size))
    pen = PIL.ImageDraw.Draw(picture)
    for item in objects:
        colour = item.category["name"].removesuffix(item.category["supercategory"])
        pen.polygon([(x * _SUPERSAMPLING, y * _SUPERSAMPLING) for x, y in item.outline], fill=rgb[colour])
    return picture.reduce(_SUPERSAMPLING)
