"""Encoded images → the pixels that each encoder takes, as bytes. An image is decoded once for all encoders.

Shape legend: V views of all images, H = W = an encoder's size in pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import PIL.Image
import simplejpeg
import torch
from numpy.typing import NDArray

from trainer.batch import Unusable
from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from varyforge.images import FORMATS, MAX_PIXELS, MAX_SIDE
from varyforge.sample import Image


def pixels(image: Image, layout: ImageLayout) -> dict[str, NDArray[np.uint8]]:
    """Decode an image into (views, H, W, 3) uint8 RGB for each encoder, without a copy where nothing is resized.

    Raises:
        Unusable: the image cannot be decoded, exceeds `MAX_PIXELS` or `MAX_SIDE`, or its size differs from the size in
            the sample, by which its tokens were counted.
    """
    picture = decode(image.data)
    if picture.shape[:2] != (image.height, image.width):
        size = f"{picture.shape[1]}x{picture.shape[0]} px"
        raise Unusable(f"image of {size}, and its sample says {image.width}x{image.height}")
    return layout.views(picture)


def stack_pixels(
    images: Sequence[Mapping[str, NDArray[np.uint8]]], preprocess: Mapping[str, ImagePreprocess]
) -> dict[str, torch.Tensor]:
    """Stack images to (V, H, W, 3) uint8 per encoder; V may be 0. With a GPU the memory is page-locked at once."""
    stacked = {}
    for name, how in preprocess.items():
        size = (sum(len(image[name]) for image in images), how.size, how.size, 3)
        if torch.cuda.is_available():
            stacked[name] = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        else:  # numpy asks the system for large pages, torch does not; that halves the time
            stacked[name] = torch.from_numpy(np.empty(size, np.uint8))
        target, first = stacked[name].numpy(), 0
        for image in images:
            target[first : first + len(image[name])] = image[name]
            first += len(image[name])
    return stacked


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode an image to (height, width, 3) uint8, exactly as Pillow's `convert("RGB")` does.

    Transparency is dropped, as in Pillow. EXIF rotation is not applied, as in the released models' code; shards hold
    upright images.

    Raises:
        Unusable: the image cannot be decoded, is truncated, has more than 8 bits per channel, more than `MAX_PIXELS`
            pixels, or a side of more than `MAX_SIDE`.
    """
    # libjpeg-turbo, Pillow's own library, takes two thirds of Pillow's time, and refuses any fault by a ValueError.
    with suppress(ValueError):
        height_px, width_px, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours in ("YCbCr", "Gray", "RGB") and height_px * width_px <= MAX_PIXELS:
            picture: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
            return picture
    try:
        with PIL.Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Unusable(f"image of {image.width}x{image.height} px, more than {MAX_PIXELS} pixels")
            if max(image.size) > MAX_SIDE:  # resizing one side would make gigabytes of it
                raise Unusable(f"image of {image.width}x{image.height} px, a side of more than {MAX_SIDE} pixels")
            if image.mode.startswith(("I", "F")):  # convert() would turn nearly all pixels white
                raise Unusable(f"image cannot be decoded: mode {image.mode} has more than 8 bits a channel")
            return np.array(image.convert("RGB"))
    except (Unusable, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise Unusable(f"image larger than {MAX_PIXELS} pixels") from error
    except PIL.UnidentifiedImageError as error:  # its message holds a memory address
        raise Unusable(f"image cannot be decoded: none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow raises many types for broken files
        raise Unusable(f"image cannot be decoded: {error}") from error
