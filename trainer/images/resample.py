"""Resizing pictures: a fast kernel, and the exact pixels of both libraries that released models were trained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

Pixels = NDArray[np.uint8]
"""(height, width, 3) RGB."""


def _torch(mode: str, picture: Pixels, high: int, wide: int) -> Pixels:
    """Pillow's antialiased resize in a tenth of its time: torch has a kernel for channels-last bytes.

    Within 2 of 255 levels of Pillow's, on average within 0.05 (`tests/trainer/test_images.py`).
    """
    channels_last = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(channels_last, (high, wide), mode=mode, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def _pillow(picture: Pixels, high: int, wide: int) -> Pixels:
    """Pillow's antialiased bicubic, columns first as until Pillow 12: values are cut to 0..255 in between."""
    columns = Image.fromarray(picture).resize((wide, picture.shape[0]), Image.Resampling.BICUBIC)
    return np.array(columns.resize((wide, high), Image.Resampling.BICUBIC))


def _opencv(picture: Pixels, high: int, wide: int) -> Pixels:
    """OpenCV's bilinear, not antialiased: `cv2.resize` with INTER_LINEAR, bit for bit.

    Its arithmetic for bytes (modules/imgproc/src/resize.cpp): weights in 1/2048, columns first, and of a row's share
    four bits are dropped before it is weighted and sixteen after. An exact halving is a mean of four pixels instead.
    """
    height, width = picture.shape[:2]
    if (height, width) == (2 * high, 2 * wide):
        four = picture.reshape(high, 2, wide, 2, 3).sum((1, 3), dtype=np.uint16)
        halved: Pixels = (four + 2 >> 2).astype(np.uint8)
        return halved
    left, right, of_left, of_right = _neighbours(width, wide)
    # At an edge a column is taken whole, while a row is mixed with itself, which loses a level here and there.
    of_left, of_right = np.where(left == right, 2048, of_left), np.where(left == right, 0, of_right)
    above, below, of_above, of_below = _neighbours(height, high)
    made = np.empty((high, wide, 3), np.uint8)
    for row in range(high):  # so that nothing wider than bytes is ever held of the whole picture
        shares = 2  # for rounding
        for source, weight in ((above[row], of_above[row]), (below[row], of_below[row])):
            line = picture[source].astype(np.int32)
            columns = line[left] * of_left[:, None] + line[right] * of_right[:, None]
            shares = shares + ((columns >> 4) * weight >> 16)
        made[row] = shares >> 2
    return made


def _neighbours(
    side: int, resized: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """Of each of `resized` places the two neighbours among `side`, and their weights in 1/2048."""
    centres = ((np.arange(resized) + 0.5) * (side / resized) - 0.5).astype(np.float32)
    first = np.floor(centres).astype(np.intp)
    part = centres - first.astype(np.float32)
    weights = [np.rint(share * np.float32(2048)).astype(np.int32) for share in (np.float32(1) - part, part)]
    return first.clip(0, side - 1), (first + 1).clip(0, side - 1), weights[0], weights[1]


RESAMPLE: dict[str, Callable[[Pixels, int, int], Pixels]] = {
    "bicubic": partial(_torch, "bicubic"),
    "bilinear": partial(_torch, "bilinear"),
    "pillow_bicubic": _pillow,
    "opencv_bilinear": _opencv,
}
"""By name: (height, width, 3) → (high, wide, 3), the aspect ratio not kept."""

PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "pillow_bicubic": Image.Resampling.BICUBIC,
}
"""Pillow's filter for those that are Pillow's, exactly or nearly."""
