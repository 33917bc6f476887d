"""Ways to turn a JPEG into the pixels of both encoders: CPU time, and how far from the released code's result.

    python -m benchmarks.images --photographs FOLDER --rounds 5

Sources: pages of the project's sample documents rendered at several sizes, photographs where a folder is named (sizes
as they are, or enlarged to the size that is said), all JPEG of quality 90. One thread, time.process_time, the ways in
turns, the best round counts. Differences are of 255 levels, to Pillow's bicubic with columns first (what Pillow did
until 12, and so what the released weights were trained with): the greatest, and the mean.
"""

from __future__ import annotations

import argparse
import importlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pymupdf
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling

from datagen.examples.documents import write_documents
from trainer.images.pixels import decode
from trainer.images.preprocess import ImagePreprocess
from varyforge.console import say, show_table
from varyforge.errors import UserError, command

Pixels = NDArray[np.uint8]
Way = Callable[[bytes], tuple[Pixels, Pixels]]
SAM, CLIP = ImagePreprocess(size=1024), ImagePreprocess(size=224, fit="crop")


def pillow(data: bytes) -> PIL.Image.Image:
    """Decoded by Pillow."""
    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


def clip_crop(image: PIL.Image.Image, resize: Callable[..., PIL.Image.Image]) -> Pixels:
    """Shortest edge 224, centre crop, as CLIP's processor."""
    width, height = (int(224 * side / min(image.size)) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    return np.array(resize(image, width, height).crop((left, top, left + 224, top + 224)))


def with_pillow(data: bytes) -> tuple[Pixels, Pixels]:
    """The released code's calls."""

    def resize(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, height), Resampling.BICUBIC)

    image = pillow(data)
    return np.array(resize(image, 1024, 1024)), clip_crop(image, resize)


def reference(data: bytes) -> tuple[Pixels, Pixels]:
    """The same, columns first whatever the version of Pillow."""

    def resize(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, image.height), Resampling.BICUBIC).resize((width, height), Resampling.BICUBIC)

    image = pillow(data)
    return np.array(resize(image, 1024, 1024)), clip_crop(image, resize)


def with_reducing_gap(data: bytes) -> tuple[Pixels, Pixels]:
    """Pillow's own short cut: whole pixels are averaged before the filter."""

    def resize(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, height), Resampling.BICUBIC, reducing_gap=2.0)

    image = pillow(data)
    return np.array(resize(image, 1024, 1024)), clip_crop(image, resize)


def with_draft(data: bytes) -> tuple[Pixels, Pixels]:
    """A half, a quarter … of the size is decoded where both sides are left with 1024 at least; then as we do."""
    image = PIL.Image.open(io.BytesIO(data))
    image.draft("RGB", (1024, 1024))
    return both(np.array(image.convert("RGB")))


def both(picture: Pixels) -> tuple[Pixels, Pixels]:
    """The project's resizes."""
    return SAM.to_uint8(picture), CLIP.to_uint8(picture)


def opencv_ways() -> dict[str, Way]:
    """OpenCV's, where it is installed: its decoder, and its own resize, which is another filter."""
    with suppress(ImportError):
        cv2: Any = importlib.import_module("cv2")
        cv2.setNumThreads(1)

        def decoded(data: bytes) -> Pixels:
            picture: Pixels = cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            )
            return picture

        def with_area(data: bytes) -> tuple[Pixels, Pixels]:
            picture = decoded(data)
            short = min(picture.shape[:2])
            width, height = (int(224 * side / short) for side in picture.shape[1::-1])
            left, top = (width - 224) // 2, (height - 224) // 2
            enlarge = cv2.INTER_AREA if short >= 1024 else cv2.INTER_CUBIC
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            large = cv2.resize(picture, (1024, 1024), interpolation=enlarge)
            return large, small[top : top + 224, left : left + 224]

        return {"OpenCV's decoder, our resize": lambda data: both(decoded(data)), "OpenCV area": with_area}
    return {}


def ways() -> dict[str, Way]:
    """Ours is the last that is always there."""
    return {
        "Pillow, as released": with_pillow,
        "Pillow, reducing_gap=2": with_reducing_gap,
        "Pillow's decoder, our resize": lambda data: both(np.array(pillow(data))),
        "draft decoding, our resize": with_draft,
        **opencv_ways(),
        "**ours**": lambda data: both(decode(data)),
    }


def as_jpeg(image: PIL.Image.Image) -> bytes:
    """Quality 90, as the PDF source makes."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def pages(folder: Path, short_px: int, count: int, size: tuple[int, int] | None = None) -> list[bytes]:
    """First pages of sample documents with a short side of `short_px` pixels, or squeezed to `size`."""
    made = []
    for path in write_documents(folder, documents=count):
        with pymupdf.open(path) as document:
            zoom = short_px / min(document[0].rect[2:])
            pixmap = document[0].get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), alpha=False)
            page = PIL.Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
            made.append(as_jpeg(page.resize(size, Resampling.BICUBIC) if size else page))
    return made


def photographs(folder: Path, count: int, size: tuple[int, int] | None = None) -> list[bytes]:
    """Photographs as they are, or enlarged to `size`."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        raise UserError(f"{folder}: no *.jpg in this folder")
    chosen = found[:: max(1, len(found) // count)][:count]
    if size is None:
        return [path.read_bytes() for path in chosen]
    return [as_jpeg(PIL.Image.open(path).convert("RGB").resize(size, Resampling.BICUBIC)) for path in chosen]


def row(name: str, best_ms: float, way: Way, images: Sequence[bytes]) -> list[str]:
    """A line of the table: time, then both differences."""
    cells = []
    for large_or_small in (0, 1):
        differences = [np.abs(way(i)[large_or_small].astype(int) - reference(i)[large_or_small]) for i in images]
        cells.append(f"{max(d.max() for d in differences)}, {np.mean([d.mean() for d in differences]):.4f}")
    return [name, f"{best_ms:.1f}", *cells]


@command
def main() -> int:
    """Measures and prints a table for each kind of source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs")
    parser.add_argument("--count", type=int, default=9, help="images of each kind (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        kinds = {
            "pages, short side 500": pages(Path(work), 500, arguments.count),
            "pages, short side 1024": pages(Path(work), 1024, arguments.count),
            "pages of 1024 x 1024": pages(Path(work), 1024, arguments.count, (1024, 1024)),
            "pages of 2000 x 3000": pages(Path(work), 2000, arguments.count, (2000, 3000)),
            "pages, short side 2048": pages(Path(work), 2048, arguments.count),
        }
    if arguments.photographs:
        kinds["photographs as they are"] = photographs(arguments.photographs, arguments.count)
        kinds["photographs of 2000 x 3000"] = photographs(arguments.photographs, arguments.count, (2000, 3000))
        kinds["photographs of 3000 x 4000"] = photographs(arguments.photographs, arguments.count, (3000, 4000))
    for kind, images in kinds.items():
        best = dict.fromkeys(ways(), float("inf"))
        for _ in range(arguments.rounds):
            for name, way in ways().items():
                started = time.process_time()
                for data in images:
                    way(data)
                best[name] = min(best[name], (time.process_time() - started) / len(images) * 1e3)
        say(f"{kind}, {sum(map(len, images)) / len(images) / 1e3:.0f} kB")
        rows = [row(name, best[name], way, images) for name, way in ways().items()]
        show_table("decode and both resizes", ["way", "CPU ms", "1024: max, mean", "224: max, mean"], rows)
    return 0


if __name__ == "__main__":
    main()
