"""Foreign images: decoded whole, once, here. What a shard holds has been through this."""

from __future__ import annotations

import io
import warnings

import PIL.Image
import PIL.ImageOps

from datagen.sample import Image

MAX_PIXELS = 100_000_000
"""A larger image is taken for a decompression bomb."""

PIL.Image.MAX_IMAGE_PIXELS = MAX_PIXELS
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # none that starts another program


def read_image(data: bytes, *, jpeg_quality: int = 95) -> Image:
    """An RGB image as a person sees it (EXIF rotation applied).

    An RGB JPEG or PNG without rotation passes through byte for byte; everything else is decoded
    and encoded again as JPEG.

    Raises:
        ValueError: truncated, not an image, or larger than `MAX_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            picture = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
            picture.load()  # the whole of it: a truncated file fails here
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ValueError(f"image larger than {MAX_PIXELS} pixels") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's ways to say "broken"
        raise ValueError(f"image cannot be decoded: {error}") from error
    unrotated = picture.getexif().get(0x0112, 1) == 1
    if unrotated and (picture.format, picture.mode) in {("JPEG", "RGB"), ("PNG", "RGB")}:
        form = "jpg" if picture.format == "JPEG" else "png"
        return Image(data=data, format=form, width=picture.width, height=picture.height)  # type: ignore[arg-type]
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a channel: Pillow would clip them to white or black
        raise ValueError(f"image cannot be decoded: mode {picture.mode} has more than 8 bits a channel")
    return encode_jpeg(_on_white(PIL.ImageOps.exif_transpose(picture)), jpeg_quality)


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
