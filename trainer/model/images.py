"""From a picture to the pixels an encoder takes.

Shape legend: N images, H = W = size in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


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

    def to_uint8(self, image: Image.Image) -> np.ndarray:
        """The image as (3, H, W) uint8 RGB, resized and, with `crop="centre"`, cropped as CLIP's processor does."""
        image = image.convert("RGB")
        if self.crop == "none":
            image = image.resize((self.size, self.size), _RESAMPLE[self.resample])
        else:
            image = self._resize_and_crop(image)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def normalise(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """`(pixels / 255 - mean) / std` in `dtype`, computed in fp32 where the pixels, (N, 3, H, W) uint8, are."""
        mean = torch.tensor(self.mean, device=pixels.device)[:, None, None]
        std = torch.tensor(self.std, device=pixels.device)[:, None, None]
        return ((pixels.float() / 255 - mean) / std).to(dtype)

    def _resize_and_crop(self, image: Image.Image) -> Image.Image:
        width_px, height_px = image.size
        short_px = min(width_px, height_px)
        # Truncated, not rounded: CLIP's processor does so, and one column more or less moves the crop.
        width_px, height_px = (int(self.size * side / short_px) for side in (width_px, height_px))
        image = image.resize((width_px, height_px), _RESAMPLE[self.resample])
        left, top = (width_px - self.size) // 2, (height_px - self.size) // 2
        return image.crop((left, top, left + self.size, top + self.size))
