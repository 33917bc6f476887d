"""Resize pictures: with a fast kernel, or with the exact pixels of Pillow or OpenCV, which released models used."""

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
    """Resize with torch's antialiased kernel for channels-last bytes, which takes a tenth of Pillow's time.

    Pixels are within 2 of 255 levels of Pillow's, and within 0.05 on average (`tests/trainer/images/test_images.py`).
    """
    channels_last = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
    resized = functional.interpolate(channels_last, (high, wide), mode=mode, antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def _pillow(picture: Pixels, high: int, wide: int) -> Pixels:
    """Resize with Pillow's antialiased bicubic filter. As before Pillow 12, columns come first, clipped to 0..255."""
    columns = Image.fromarray(picture).resize((wide, picture.shape[0]), Image.Resampling.BICUBIC)
    return np.array(columns.resize((wide, high), Image.Resampling.BICUBIC))


def _opencv(picture: Pixels, high: int, wide: int) -> Pixels:
    """Resize like `cv2.resize` with INTER_LINEAR (bilinear, not antialiased), bit for bit.

    OpenCV's arithmetic for bytes (modules/imgproc/src/resize.cpp): weights are multiples of 1/2048 and columns come
    first. Of each row's share, 4 bits are dropped before weighting and 16 bits after. An exact halving is the mean of
    four pixels.
    """
    height, width = picture.shape[:2]
    if (height, width) == (2 * high, 2 * wide):
        four = picture.reshape(high, 2, wide, 2, 3).sum((1, 3), dtype=np.uint16)
        halved: Pixels = (four + 2 >> 2).astype(np.uint8)
        return halved
    left, right, of_left, of_right = _neighbours(width, wide)
    # At an edge OpenCV takes a column whole, but mixes a row with itself, which sometimes loses a level.
    of_left, of_right = np.where(left == right, 2048, of_left), np.where(left == right, 0, of_right)
    above, below, of_above, of_below = _neighbours(height, high)
    resized = np.empty((high, wide, 3), np.uint8)
    for row in range(high):  # row by row, so that the whole picture is only ever held as bytes
        shares = 2  # for rounding
        for source, weight in ((above[row], of_above[row]), (below[row], of_below[row])):
            line = picture[source].astype(np.int32)
            columns = line[left] * of_left[:, None] + line[right] * of_right[:, None]
            shares = shares + ((columns >> 4) * weight >> 16)
        resized[row] = shares >> 2
    return resized


def _neighbours(
    side: int, resized: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int32], NDArray[np.int32]]:
    """Return, for each of `resized` positions, the two neighbours among `side` and their weights in 1/2048."""
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
"""Functions by name: (height, width, 3) → (high, wide, 3). The aspect ratio may change."""
