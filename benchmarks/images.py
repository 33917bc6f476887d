"""Measure ways to turn a JPEG into the pixels of both encoders: CPU time, and difference to the released code's pixels.

    python -m benchmarks.images --photographs FOLDER --rounds 5

Images are pages of the project's sample documents rendered at several sizes, and photographs where a folder is named
(as they are, and enlarged), all JPEG of quality 90. One thread, time.process_time, the ways in turns, the best round
counts. Differences are of 255 levels to Pillow's bicubic filter with columns first, which Pillow did until version 12
and so the released weights were trained with.
"""

from __future__ import annotations

import argparse
import importlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pymupdf
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.inputs import PHOTOGRAPHS, files_in
from datagen.examples.documents import write_documents
from trainer.images.pixels import decode
from trainer.images.preprocess import ImagePreprocess
from varyforge.console import say

Pixels = NDArray[np.uint8]
Way = Callable[[bytes], tuple[Pixels, Pixels]]
SAM, CLIP = ImagePreprocess(size=1024), ImagePreprocess(size=224, fit="crop")
PAGES: dict[str, tuple[int, tuple[int, int] | None]] = {  # short side in pixels, size that pages are squeezed to
    "pages, short side 500": (500, None),
    "pages, short side 1024": (1024, None),
    "pages of 1024 x 1024": (1024, (1024, 1024)),
    "pages of 2000 x 3000": (2000, (2000, 3000)),
    "pages, short side 2048": (2048, None),
}
TINY = {"count": 1, "rounds": 1, "kinds": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--photographs", type=Path, help="folder of JPEG files")
    parser.add_argument("--count", type=int, default=9, help="images of each kind (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the least time counts (%(default)s)")
    parser.add_argument("--kinds", type=int, default=len(PAGES), help="kinds of pages (%(default)s)")


def pillow(data: bytes) -> PIL.Image.Image:
    """Decode with Pillow."""
    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


def clip_crop(image: PIL.Image.Image, resize: Callable[..., PIL.Image.Image]) -> Pixels:
    """Resize the shortest edge to 224 and crop the centre, as CLIP's processor."""
    width, height = (int(224 * side / min(image.size)) for side in image.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    return np.array(resize(image, width, height).crop((left, top, left + 224, top + 224)))


def with_pillow(data: bytes) -> tuple[Pixels, Pixels]:
    """Return both encoders' pixels by the released code's calls."""

    def resize(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, height), Resampling.BICUBIC)

    image = pillow(data)
    return np.array(resize(image, 1024, 1024)), clip_crop(image, resize)


def reference(data: bytes) -> tuple[Pixels, Pixels]:
    """Return the pixels of `with_pillow` with columns first in any version of Pillow."""

    def resize(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, image.height), Resampling.BICUBIC).resize((width, height), Resampling.BICUBIC)

    image = pillow(data)
    return np.array(resize(image, 1024, 1024)), clip_crop(image, resize)


def with_reducing_gap(data: bytes) -> tuple[Pixels, Pixels]:
    """Use Pillow's own short cut, which averages whole pixels before the filter."""

    def resize(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, height), Resampling.BICUBIC, reducing_gap=2.0)

    image = pillow(data)
    return np.array(resize(image, 1024, 1024)), clip_crop(image, resize)


def with_draft(data: bytes) -> tuple[Pixels, Pixels]:
    """Decode a half, a quarter … of the size where both sides still have 1024 pixels, then resize as the project."""
    image = PIL.Image.open(io.BytesIO(data))
    image.draft("RGB", (1024, 1024))
    return both(np.array(image.convert("RGB")))


def both(picture: Pixels) -> tuple[Pixels, Pixels]:
    """Resize for both encoders as the project does."""
    return SAM.to_uint8(picture), CLIP.to_uint8(picture)


def opencv_ways() -> dict[str, Way]:
    """Return OpenCV's decoder, and its own resize, which is another filter; nothing where it is not installed."""
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
    """Return all ways by name, ours last."""
    return {
        "Pillow, as released": with_pillow,
        "Pillow, reducing_gap=2": with_reducing_gap,
        "Pillow's decoder, our resize": lambda data: both(np.array(pillow(data))),
        "draft decoding, our resize": with_draft,
        **opencv_ways(),
        "**ours**": lambda data: both(decode(data)),
    }


def as_jpeg(image: PIL.Image.Image) -> bytes:
    """Encode with quality 90, as the PDF source does."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def pages(folder: Path, count: int, short_px: int, size: tuple[int, int] | None) -> list[bytes]:
    """Render first pages of sample documents with a short side of `short_px` pixels, or squeezed to `size`."""
    images = []
    for path in write_documents(folder, documents=count):
        with pymupdf.open(path) as document:
            zoom = short_px / min(document[0].rect[2:])
            pixmap = document[0].get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), alpha=False)
            page = PIL.Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
            images.append(as_jpeg(page.resize(size, Resampling.BICUBIC) if size else page))
    return images


def photographs(folder: Path, count: int, size: tuple[int, int] | None = None) -> list[bytes]:
    """Read photographs as they are, or enlarged to `size`."""
    paths = files_in([folder], *PHOTOGRAPHS)
    paths = paths[:: max(1, len(paths) // count)][:count]
    if size is None:
        return [path.read_bytes() for path in paths]
    return [as_jpeg(PIL.Image.open(path).convert("RGB").resize(size, Resampling.BICUBIC)) for path in paths]


def images_of(arguments: argparse.Namespace) -> dict[str, list[bytes]]:
    """Make the images of each kind."""
    with work_folder() as work:
        shapes = list(PAGES.items())[: arguments.kinds]
        kinds = {name: pages(work, arguments.count, *shape) for name, shape in shapes}
    if arguments.photographs:
        kinds["photographs as they are"] = photographs(arguments.photographs, arguments.count)
        kinds["photographs of 2000 x 3000"] = photographs(arguments.photographs, arguments.count, (2000, 3000))
        kinds["photographs of 3000 x 4000"] = photographs(arguments.photographs, arguments.count, (3000, 4000))
    return kinds


def best_ms(images: Sequence[bytes], rounds: int) -> dict[str, float]:
    """Return CPU ms an image of each way's fastest round."""
    best = dict.fromkeys(ways(), float("inf"))
    for _ in range(rounds):
        for name, way in ways().items():
            started = time.process_time()
            for data in images:
                way(data)
            best[name] = min(best[name], (time.process_time() - started) / len(images) * 1e3)
    return best


def differences(way: Way, images: Sequence[bytes], encoder: int) -> tuple[int, float]:
    """Return the greatest and the mean difference to the reference; encoder 0 is SAM, 1 is CLIP."""
    levels = [np.abs(way(data)[encoder].astype(int) - reference(data)[encoder]) for data in images]
    return max(int(level.max()) for level in levels), float(np.mean([level.mean() for level in levels]))


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Time each way over each kind of image, then compare pixels over all images."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kinds, times = images_of(arguments), {}
    for kind, images in kinds.items():
        times[kind] = best_ms(images, arguments.rounds)
        say(f"{kind}, {sum(map(len, images)) / len(images) / 1e3:.0f} kB: done")
    rows = []
    for name, way in ways().items():
        apart = [[differences(way, images, encoder) for images in kinds.values()] for encoder in (0, 1)]
        greatest = ", ".join(str(max(level for level, _ in of_kinds)) for of_kinds in apart)
        mean = max(mean for of_kinds in apart for _, mean in of_kinds)
        rows.append([name, *(f"{times[kind][name]:.1f}" for kind in kinds), greatest, f"{mean:.4f}"])
    torch.set_num_threads(threads)
    head = ["CPU ms", *kinds, "greatest difference, 1024 and 224", "greatest mean of a kind"]
    yield Table(title=f"CPU ms an image, best of {arguments.rounds} rounds, one thread.", head=head, rows=rows)


if __name__ == "__main__":
    main_of("benchmarks.images")
