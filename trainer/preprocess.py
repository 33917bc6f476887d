"""From a decoded picture to the pixels an encoder takes.

Shape legend: N images, H = W = size in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from datagen.errors import UserError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_SLIVER = 8
"""Long side over short side from which the crop is resized alone: a line of 60,000 pixels would grow to gigabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePreprocess:
    """How one encoder wants its images.

    The work is split where it is cheapest: the loader's processes resize and hand over bytes (a quarter of the traffic
    of floats), the accelerator normalises.
    """

    size: int  # px, both sides of the result
    crop: Literal["none", "centre"] = (
        "none"  # none: the aspect ratio is not kept; centre: it is, and the rest is cut off
    )
    resample: Literal["bicubic", "bilinear"] = "bicubic"  # PIL's, which are antialiased
    mean: tuple[float, float, float] = CLIP_MEAN  # per channel, of values in 0..1
    std: tuple[float, float, float] = CLIP_STD

    def to_uint8(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An RGB picture, (height, width, 3), as (H, W, 3); with `crop="centre"` resized and cropped as CLIP's does.

        Differs from what Pillow's resize and CLIP's processor give by at most 2 of 255 levels and on average by less
        than 0.05 (`tests/trainer/test_images.py`; Pillow until 12, from 13 on it may take rows first, which differs
        more). A picture that already fits is returned as it is.
        """
        height_px, width_px = picture.shape[:2]
        if height_px == width_px == self.size:
            return picture
        if self.crop == "none":
            return self._resize(picture, self.size, self.size)
        short_px = min(height_px, width_px)
        # Truncated, not rounded: CLIP's processor does so, and one row more or less moves the crop.
        high, wide = (int(self.size * side / short_px) for side in (height_px, width_px))
        if max(height_px, width_px) > _SLIVER * short_px:
            return self._resize_crop(picture, high, wide)
        top, left = (high - self.size) // 2, (wide - self.size) // 2
        resized = self._resize(picture, high, wide)
        return np.ascontiguousarray(resized[top : top + self.size, left : left + self.size])

    def normalise(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """(N, H, W, 3) uint8 → (N, 3, H, W) `(pixels / 255 - mean) / std` in `dtype`, computed in fp32.

        It happens where the pixels are, an image at a time, so that no batch in fp32 is held. In memory the result is
        channels-last, which a patch convolution takes without a copy.
        """
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        normalised = torch.empty(pixels.shape, dtype=dtype, device=pixels.device)
        for image, out in zip(pixels, normalised, strict=True):
            out.copy_(image.float().div_(255).sub_(mean).div_(std))
        return normalised.permute(0, 3, 1, 2)

    def _resize(self, picture: NDArray[np.uint8], high: int, wide: int) -> NDArray[np.uint8]:
        """Pillow's resize to (high, wide), in a tenth of its time: torch has a kernel for channels-last bytes."""
        channels_last = torch.from_numpy(picture)[None].permute(0, 3, 1, 2)
        resized = functional.interpolate(channels_last, (high, wide), mode=self.resample, antialias=True)
        return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())

    def _resize_crop(self, picture: NDArray[np.uint8], high: int, wide: int) -> NDArray[np.uint8]:
        """The centre crop of the picture resized to (high, wide), without making the rest of it."""
        height_px, width_px = picture.shape[:2]
        top, bottom = self._crop_of(height_px, high)
        left, right = self._crop_of(width_px, wide)
        resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[self.resample]
        # Columns first, as Pillow did until 12; which comes first matters, as values are cut to 0..255 in between.
        columns = Image.fromarray(picture).resize((self.size, height_px), resample, (left, 0, right, height_px))
        return np.array(columns.resize((self.size, self.size), resample, (0, top, self.size, bottom)))

    def _crop_of(self, side_px: int, resized_px: int) -> tuple[float, float]:
        """Where the centre crop of a side of `resized_px` begins and ends before the side was resized, in pixels."""
        start = (resized_px - self.size) // 2
        scale = side_px / resized_px
        return start * scale, min((start + self.size) * scale, side_px)


def with_changes(preprocess: ImagePreprocess, changes: Mapping[str, Any], what: str) -> ImagePreprocess:
    """An encoder's own preprocessing with the recipe's changes; UserError for an unknown key, and for `size`."""
    valid = [field.name for field in fields(preprocess) if field.name != "size"]  # the encoder's own
    for key in changes:
        if key not in valid:
            raise UserError(f"{what}: unknown key {key!r}; valid keys: {', '.join(valid)}")
    lists = {key: tuple(value) for key, value in changes.items() if isinstance(value, list)}
    return replace(preprocess, **{**changes, **lists})
