"""A reimplementation of the released image preprocessing, from PIL's pictures to the arrays of the released towers.

It has a function for each of the three branches, literal, slow and independent of `trainer/`, like `released.py`. Each
takes an RGB picture and returns (3, height, width) fp32. The release's Pillow resizes columns, rounds to bytes, then
resizes rows. Pillow 13 may take rows first; `bicubic` does not.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Triple = tuple[float, float, float]


def normalise(pixels: NDArray[np.uint8], mean: Triple, std: Triple) -> NDArray[np.float32]:
    """Return `(pixels / 255 - mean) / std`: (height, width, 3) bytes → (3, height, width)."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    return ((scaled - np.float32(mean)) / np.float32(std)).transpose(2, 0, 1)


def toy_low(
    picture: Image.Image, size: int = 224, aspect: Literal["square", "pad", "keep"] = "square"
) -> NDArray[np.float32]:
    """Return Vary-toy's image for CLIP; `aspect` is the release's `image_aspect_ratio`.

    - square: shortest edge to `size`, then the centre is cropped
    - pad: pasted top left on a square of CLIP's mean colour, then resized
    - keep: shortest edge to `size`, or less where the long edge would be longer than 2 x `size`; no crop
    """
    return normalise(np.asarray(low_pixels(picture, size, aspect)), CLIP_MEAN, CLIP_STD)


def low_pixels(picture: Image.Image, size: int, aspect: str) -> Image.Image:
    """Return the picture of `toy_low` before its normalisation."""
    if aspect == "pad":
        canvas = Image.new("RGB", (max(picture.size),) * 2, tuple(int(value * 255) for value in CLIP_MEAN))
        canvas.paste(picture, (0, 0))
        return bicubic(canvas, size, size)
    short, long = min(picture.size), max(picture.size)
    edge = int(min(2 * size / (long / short), size)) if aspect == "keep" else size
    width, height = (edge if side == short else int(edge * side / short) for side in picture.size)
    resized = bicubic(picture, width, height)
    if aspect == "keep":
        return resized
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def toy_high(picture: Image.Image, size: int = 1024) -> NDArray[np.float32]:
    """Return Vary-toy's image for SAM: squeezed to a square by PIL's bicubic filter, with CLIP's statistics."""
    return normalise(np.asarray(bicubic(picture, size, size)), CLIP_MEAN, CLIP_STD)


def bicubic(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Resize by Pillow's antialiased bicubic filter, columns before rows with any version of Pillow."""
    columns = picture.resize((width, picture.height), Image.Resampling.BICUBIC)
    return columns.resize((width, height), Image.Resampling.BICUBIC)


def tiny_high(picture: Image.Image, size: int = 1024) -> NDArray[np.float32]:
    """Return Vary-tiny's image for SAM: squeezed by OpenCV's bilinear filter, with ImageNet's statistics.

    Normalised in albumentations' order of operations, `(pixels - 255 mean) · (1 / (255 std))`.
    """
    pixels = opencv_bilinear(np.asarray(picture), size, size).astype(np.float32)
    mean = np.array(IMAGENET_MEAN, np.float32) * 255
    factor = np.reciprocal(np.array(IMAGENET_STD, np.float32) * 255)
    return ((pixels - mean) * factor).transpose(2, 0, 1)


def opencv_bilinear(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize (h, w, 3) bytes as OpenCV's `resize(..., INTER_LINEAR)`: four neighbours, no antialiasing, in integers.

    Weights are multiples of 1/2048. Rows are mixed after columns; four bits are dropped before the product and the rest
    after it. Source: modules/imgproc/src/resize.cpp, `HResizeLinear` and `VResizeLinear`. An exact halving of both
    sides is a mean of four pixels instead (`resizeAreaFast`).
    """
    if pixels.shape[:2] == (2 * height, 2 * width):
        wide = pixels.astype(np.int32)
        return ((wide[::2, ::2] + wide[::2, 1::2] + wide[1::2, ::2] + wide[1::2, 1::2] + 2) >> 2).astype(np.uint8)
    above, below, first, second = _neighbours(pixels.shape[0], height)
    left, right, near, far = _neighbours(pixels.shape[1], width)
    beyond = left == right  # a column beyond the edge is used alone, a row there is mixed with itself
    near, far = np.where(beyond, 2048, near), np.where(beyond, 0, far)
    wide = pixels.astype(np.int32)
    columns = wide[:, left] * near[None, :, None] + wide[:, right] * far[None, :, None]
    high, low = (columns[above] >> 4) * first[:, None, None] >> 16, (columns[below] >> 4) * second[:, None, None] >> 16
    return ((high + low + 2) >> 2).astype(np.uint8)


def _neighbours(
    side: int, resized: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """Return, for each of `resized` pixels, both neighbours among `side` pixels and their weights in 1/2048."""
    centres = ((np.arange(resized) + 0.5) * (side / resized) - 0.5).astype(np.float32)
    before = np.floor(centres).astype(np.intp)
    part = centres - before.astype(np.float32)
    weights = [np.rint(share * np.float32(2048)).astype(np.int32) for share in (np.float32(1) - part, part)]
    return before.clip(0, side - 1), (before + 1).clip(0, side - 1), *weights
