"""From a decoded picture to the pixels that an encoder takes.

Shape legend: N images, H = W = size in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from trainer.images.resample import RESAMPLE
from varyforge.errors import UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)  # the original SAM has the same in levels: 123.675, 116.28, 103.53
IMAGENET_STD = (0.229, 0.224, 0.225)

_SLIVER = 8
"""The aspect ratio above which shortcuts are taken: 60,000 × 3 px resized as a whole would fill gigabytes."""

_STRIP_PX = 4_000_000
"""Pixels of a padded picture held at a time: a page 10,000 px high would make a square of 300 MB."""

FITS = ("stretch", "crop", "pad", "pad_corner")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreprocess:
    """The preprocessing of one encoder's images. The constructor's ValueError names the field and the expected value.

    The loader's processes resize and send bytes, a quarter of the traffic of floats. The accelerator normalises.
    """

    size: int  # px, both sides of the result
    # stretch: change the aspect ratio. crop: keep it and cut off all but the centre. pad: put the picture in the middle
    # of a square of the mean colour (LLaVA-1.5). pad_corner: put it at the top left (Vary-toy's "pad").
    fit: Literal["stretch", "crop", "pad", "pad_corner"] = "stretch"
    resample: Literal["bicubic", "bilinear", "pillow_bicubic", "opencv_bilinear"] = "bicubic"
    mean: tuple[float, float, float] = CLIP_MEAN  # per channel, for values in 0..1
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        for name, known in (("fit", FITS), ("resample", RESAMPLE)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: found {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if self.resample == "opencv_bilinear" and self.fit != "stretch":
            raise ValueError(f"fit: {self.fit} does not go with opencv_bilinear, which is for fit: stretch")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 3 or not all(map(_is_number, values)):
                listed = list(values) if isinstance(values, tuple) else values
                raise ValueError(f"{name}: found {listed!r}, expected three numbers: red, green, blue")
        if min(self.std) <= 0:
            raise ValueError(f"std: found {list(self.std)}, expected numbers above 0")

    def as_settings(self) -> dict[str, Any]:
        """Return the keys and values of a recipe's `preprocess`: all fields but `size`, which the encoder decides."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if key != "size"
        }

    def resize(self, picture: NDArray[np.uint8], high: int, wide: int) -> NDArray[np.uint8]:
        """Resize an RGB picture, (height, width, 3), to (high, wide, 3) with `resample`, whatever `fit` says."""
        return picture if picture.shape[:2] == (high, wide) else RESAMPLE[self.resample](picture, high, wide)

    def to_uint8(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Fit an RGB picture, (height, width, 3), to (H, W, 3). A picture of that size is returned unchanged.

        With `pillow_bicubic` and `opencv_bilinear` the pixels equal the released code's, and with `fit: crop` those of
        CLIP's processor. With `bicubic` and `bilinear` they differ from Pillow's by at most 2 of 255 levels and by less
        than 0.05 on average (`tests/trainer/images/test_images.py`). Pictures of an aspect ratio above 8:1 are not
        resized as a whole: crops differ by one more level, and in padded tall pictures single pixels at hard edges
        differ by up to 30.
        """
        height_px, width_px = picture.shape[:2]
        if height_px == width_px == self.size:
            return picture
        if self.fit == "stretch":
            return self.resize(picture, self.size, self.size)
        if self.fit != "crop":
            return self._pad(picture)
        short_px = min(height_px, width_px)
        # Truncate, as CLIP's processor does: one row more or less would move the crop.
        high, wide = (int(self.size * side / short_px) for side in (height_px, width_px))
        if max(height_px, width_px) > _SLIVER * short_px:
            return self._resize_crop(picture, high, wide)
        top, left = (high - self.size) // 2, (wide - self.size) // 2
        resized = self.resize(picture, high, wide)
        return np.ascontiguousarray(resized[top : top + self.size, left : left + self.size])

    def normalise(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """Normalise (N, H, W, 3) uint8 to (N, 3, H, W) `(pixels / 255 - mean) / std` in `dtype`, computed in fp32.

        The work happens on the pixels' device, one image at a time, so that no batch in fp32 is held. The result is
        channels-last in memory, which a patch convolution takes without a copy.
        """
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        normalised = torch.empty(pixels.shape, dtype=dtype, device=pixels.device)
        for image, out in zip(pixels, normalised, strict=True):
            out.copy_(image.float().div_(255).sub_(mean).div_(std))
        return normalised.permute(0, 3, 1, 2)

    def _pad(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put the picture on a square of the mean colour and resize the square.

        Columns are resized first, as in Pillow and torch, but strip by strip, so that the square is never held.
        """
        height_px, width_px = picture.shape[:2]
        side = max(height_px, width_px)
        if height_px > _SLIVER * width_px:  # rows first, else a strip would be the whole square
            picture = self.resize(picture, self.size, width_px)
        top, left = ((side - height_px) // 2, (side - width_px) // 2) if self.fit == "pad" else (0, 0)
        colour = np.array([int(mean * 255) for mean in self.mean]).clip(0, 255).astype(np.uint8)
        columns = np.empty((side if len(picture) == height_px else self.size, self.size, 3), np.uint8)
        columns[:] = colour
        rows = max(1, _STRIP_PX // side)
        for start in range(0, len(picture), rows):
            part = picture[start : start + rows]
            strip = np.empty((len(part), side, 3), np.uint8)
            strip[:] = colour
            strip[:, left : left + width_px] = part
            columns[top + start : top + start + len(part)] = self.resize(strip, len(part), self.size)
        return self.resize(columns, self.size, self.size)

    def _resize_crop(self, picture: NDArray[np.uint8], high: int, wide: int) -> NDArray[np.uint8]:
        """Return the centre crop of the picture resized to (high, wide), without computing the rest."""
        height_px, width_px = picture.shape[:2]
        top, bottom = self._crop_of(height_px, high)
        left, right = self._crop_of(width_px, wide)
        resample = Image.Resampling.BILINEAR if self.resample == "bilinear" else Image.Resampling.BICUBIC
        # Columns first, as before Pillow 12. The order matters, because values are clipped to 0..255 in between.
        columns = Image.fromarray(picture).resize((self.size, height_px), resample, (left, 0, right, height_px))
        return np.array(columns.resize((self.size, self.size), resample, (0, top, self.size, bottom)))

    def _crop_of(self, side_px: int, resized_px: int) -> tuple[float, float]:
        """Return start and end, in pixels before resizing, of the centre crop of a side of `resized_px`."""
        start = (resized_px - self.size) // 2
        scale = side_px / resized_px
        return start * scale, min((start + self.size) * scale, side_px)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def with_changes(preprocess: ImagePreprocess, changes: Mapping[str, Any], what: str) -> ImagePreprocess:
    """Apply a recipe's changes to an encoder's preprocessing. UserError for an unknown key, a wrong value or `size`."""
    valid = [field.name for field in fields(preprocess) if field.name != "size"]  # the encoder decides the size
    for key in changes:
        if key not in valid:
            raise UserError(f"{what}: unknown key {key!r}; valid keys: {', '.join(valid)}")
    lists = {key: tuple(value) for key, value in changes.items() if isinstance(value, list)}
    try:
        return replace(preprocess, **{**changes, **lists})
    except ValueError as error:
        raise UserError(f"{what}.{error}") from error


def moved(name: str, used: ImagePreprocess, trained: ImagePreprocess, source: str) -> str | None:
    """Describe in one line how an encoder's images differ from those that its weights of `source` were trained with.

    None where they do not differ.
    """
    now, then = used.as_settings(), trained.as_settings()
    differing = [key for key in now if now[key] != then[key]]
    if not differing:
        return None
    changes = "; ".join(f"{key} {now[key]}, was {then[key]}" for key in differing)
    keep = ", ".join(f"{key}: {then[key]}" for key in differing)
    key = f"model.vision.{name}.preprocess"
    return f"{key} is not what {source} was trained with: {changes}. To keep that: {key}='{{{keep}}}'"
