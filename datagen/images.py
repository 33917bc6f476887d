"""Foreign images: decoded whole, once, here. What a shard holds has been through this."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from dataclasses import dataclass

import PIL.Image
from PIL.Image import Transpose

from datagen.sample import Image

MAX_PIXELS = 100_000_000
"""A larger image is taken for a decompression bomb."""

PIL.Image.MAX_IMAGE_PIXELS = MAX_PIXELS
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # none that starts another program
_AS_THEY_ARE = {("JPEG", "RGB"): "jpg", ("PNG", "RGB"): "png"}
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}  # by orientation; 1, and whatever else a file says, is upright


class ImageError(ValueError):
    """An image that cannot be used. `reason` is a word for the ledger: broken_image, large_image or animated_image."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """How images go into shards."""

    long_side_px: int = 0  # larger ones are made smaller; 0: none is
    jpeg_quality: int = 95  # of images that cannot pass through byte for byte

    def __post_init__(self) -> None:
        if self.long_side_px < 0 or not 1 <= self.jpeg_quality <= 95:
            raise ValueError("needs long_side_px of 0 (any) or more and jpeg_quality from 1 to 95")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A foreign image that was decoded whole."""

    image: Image  # for the shard
    pixels: PIL.Image.Image  # as a person sees it, in full size
    stored: tuple[int, int]  # width and height before EXIF rotation, pixels
    orientation: int  # EXIF, 1 to 8; 1 is upright
    changes: Counter[str]  # what was done to it, for the notes of its unit

    @property
    def seen(self) -> tuple[int, int]:
        """Width and height after EXIF rotation, pixels."""
        return self.pixels.size


def read_picture(data: bytes, policy: ImagePolicy) -> Picture:
    """An image as a person sees it, EXIF rotation applied, RGB.

    An RGB JPEG or PNG that is upright and small enough passes through byte for byte; everything else is encoded again
    as JPEG: other formats, grey, palette and CMYK images, and what is transparent, which becomes white.

    Raises:
        ImageError: truncated or no image, more than 8 bits a channel, larger than `MAX_PIXELS`, animated.
    """
    decoded, orientation = _decode(data)
    form = _AS_THEY_ARE.get((decoded.format or "", decoded.mode))
    large = 0 < policy.long_side_px < max(decoded.size)
    changes: Counter[str] = Counter()
    pixels = decoded
    if orientation in _TURNS:
        changes["rotated_images"] += 1
        pixels = decoded.transpose(_TURNS[orientation])
    if form is None:
        changes[f"images_{decoded.format}_{decoded.mode}_to_jpeg".lower()] += 1
        pixels = _on_white(pixels)
    if form and not large and pixels is decoded:
        image = Image(data=data, format=form, width=decoded.width, height=decoded.height)  # type: ignore[arg-type]
    else:
        smaller = pixels
        if large:
            changes["downsized_images"] += 1
            smaller = pixels.copy()
            smaller.thumbnail((policy.long_side_px, policy.long_side_px), PIL.Image.Resampling.LANCZOS, 3.0)
        image = encode_jpeg(smaller, policy.jpeg_quality)
    return Picture(image=image, pixels=pixels, stored=decoded.size, orientation=orientation, changes=changes)


def _decode(data: bytes) -> tuple[PIL.Image.Image, int]:
    """All pixels, as stored, and the EXIF orientation."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            picture = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
            picture.load()  # the whole of it: a truncated file fails here
            orientation = picture.getexif().get(_ORIENTATION)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageError("large_image", f"image larger than {MAX_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's ways to say "broken"
        raise ImageError("broken_image", f"image cannot be decoded: {error}") from error
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":  # a camera's: the first is the photograph
        raise ImageError("animated_image", f"{picture.format} with several frames")
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a channel: Pillow would clip them to white or black
        raise ImageError("broken_image", f"image cannot be decoded: mode {picture.mode} has more than 8 bits a channel")
    return picture, orientation if orientation in _TURNS else 1


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    """RGB; what is transparent is white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def encode_jpeg(picture: PIL.Image.Image, quality: int) -> Image:
    """An RGB picture as JPEG of `quality` (1 to 95)."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return Image(data=out.getvalue(), format="jpg", width=picture.width, height=picture.height)
