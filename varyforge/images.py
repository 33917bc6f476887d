"""Decoding of images from outside. Every image in a shard has been decoded to its end here, once."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL.Image import Transpose
from typing_extensions import override

from varyforge.processes import is_out_of_memory
from varyforge.sample import Image

MAX_PIXELS = 100_000_000
"""Pixels of an image at most; a larger one counts as a decompression bomb."""

MAX_SIDE = 65_500
"""Pixels of a JPEG's side at most, as encoders write it."""

PIL.Image.MAX_IMAGE_PIXELS = MAX_PIXELS
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that are read, by Pillow's names. None of them starts another program."""

_AS_THEY_ARE = {("JPEG", "RGB"): "jpg", ("PNG", "RGB"): "png"}
_ORIENTATION = 0x0112  # EXIF tag
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24  # byte that holds the bits a channel
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}  # by orientation; all other values are upright


class ImageError(ValueError):
    """An image that cannot be used. `reason` is a word for the ledger: broken_image, large_image or animated_image."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def check_jpeg_quality(quality: int) -> None:
    """Check the setting `jpeg_quality`.

    Raises:
        ValueError: it is not from 1 to 95, beyond which files grow and pixels do not get better.
    """
    if not 1 <= quality <= 95:
        raise ValueError(f"jpeg_quality is from 1 to 95, not {quality}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePolicy:
    """Settings for images on their way into shards."""

    long_side_px: int = 0  # larger images are scaled down; 0: none
    jpeg_quality: int = 95  # of images that cannot pass through byte for byte

    def __post_init__(self) -> None:
        check_jpeg_quality(self.jpeg_quality)
        if self.long_side_px < 0:
            raise ValueError(f"long_side_px is 0 (any) or more, not {self.long_side_px}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An image from outside, decoded to its end."""

    image: Image  # for the shard
    seen: tuple[int, int]  # width and height after EXIF rotation, pixels
    stored: tuple[int, int]  # width and height before it
    orientation: int  # EXIF, 1 to 8; 1 is upright
    changes: Counter[str]  # counts by kind, for the notes of the unit
    whole: PIL.Image.Image | None = None  # upright, in full size; None: `image` is the same

    @property
    def pixels(self) -> PIL.Image.Image:
        """The upright image in full size."""
        return self.whole or PIL.Image.open(io.BytesIO(self.image.data))


def read_picture(data: bytes, policy: ImagePolicy, *, whole: bool = True) -> Picture:
    """Decode an image and apply its EXIF rotation. `whole` is false where nobody needs the pixels.

    An RGB JPEG or PNG that is upright and small enough passes through byte for byte. Everything else is encoded as JPEG
    again: other formats, grey, palette and CMYK images, PNGs of 16 bits a channel, and transparent ones on white.

    Raises:
        ImageError: truncated or no image, more than 8 bits of grey, more than `MAX_PIXELS`, animated, or to be encoded
            again and longer than `MAX_SIDE`.
    """
    if not whole and (sound := _sound_jpeg(data, policy)):
        return sound
    changes: Counter[str] = Counter()
    try:
        decoded, orientation = _decode(data)
    except ImageError:
        bare = _without_text(data)
        if bare == data:
            raise
        data = bare
        decoded, orientation = _decode(data)
        changes["images_without_their_text"] += 1
    format = _kept_format(decoded, data)
    large = 0 < policy.long_side_px < max(decoded.size)
    pixels, stored = _upright(decoded, orientation)
    changes["rotated_images"] += orientation in _TURNS
    if format is None:
        changes[f"images_{decoded.format}_{decoded.mode}_to_jpeg".lower()] += 1
        pixels = _on_white(pixels)
    if format and not large and pixels is decoded:
        image = Image(data=data, format=format, width=decoded.width, height=decoded.height)  # type: ignore[arg-type]
    else:
        smaller = pixels
        if large:
            changes["downsized_images"] += 1
            smaller = pixels.copy()
            smaller.thumbnail((policy.long_side_px, policy.long_side_px), PIL.Image.Resampling.LANCZOS, 3.0)
        if max(smaller.size) > MAX_SIDE:
            raise ImageError("large_image", f"a side of {max(smaller.size)} pixels; a JPEG has {MAX_SIDE} at most")
        image = encode_jpeg(smaller, policy.jpeg_quality)
    return Picture(
        image=image, seen=pixels.size, stored=stored, orientation=orientation, changes=+changes, whole=pixels
    )


def _sound_jpeg(data: bytes, policy: ImagePolicy) -> Picture | None:
    """Return a JPEG that passes through byte for byte and is whole; None for any other image.

    Its codes are read to the end, but only an eighth of the resolution is computed: half the time, and every error
    that a decoder reports lies in the codes.
    """
    try:
        picture = _opened(data)
        size, orientation = picture.size, picture.getexif().get(_ORIENTATION)
        large = 0 < policy.long_side_px < max(size)
        if _kept_format(picture, data) != "jpg" or orientation in _TURNS or large:
            return None
        picture.draft("RGB", (1, 1))
        picture.load()
    except Exception:  # the whole way has a reason for it
        return None
    image = Image(data=data, format="jpg", width=size[0], height=size[1])
    return Picture(image=image, seen=size, stored=size, orientation=1, changes=Counter())


def look_at(data: bytes) -> Image:
    """Return an image as a shard would hold it, without reading pixels if it passes through as in `read_picture`.

    For images that are about to be decoded anyway; damage behind the header is found then.

    Raises:
        ImageError: as `read_picture`, but for faults of the pixels.
    """
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=FORMATS)
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # Pillow says "broken" in many ways
        return read_picture(data, ImagePolicy()).image  # raises with a reason
    format = _kept_format(picture, data)
    if format is None or orientation in _TURNS or picture.width * picture.height > MAX_PIXELS:
        return read_picture(data, ImagePolicy()).image
    return Image(data=data, format=format, width=picture.width, height=picture.height)  # type: ignore[arg-type]


def _kept_format(picture: PIL.Image.Image, data: bytes) -> str | None:
    """Return the format of an image whose bytes a shard takes as they are if it is upright; None for others."""
    format = _AS_THEY_ARE.get((picture.format or "", picture.mode))
    return None if format == "png" and (picture.has_transparency_data or data[_PNG_DEPTH] == 16) else format


def _opened(data: bytes) -> PIL.Image.Image:
    """Read the header. A bomb is an error, not a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        return PIL.Image.open(io.BytesIO(data), formats=FORMATS)


def _decode(data: bytes) -> tuple[PIL.Image.Image, int]:
    """Decode all pixels, as stored (a TIFF: upright). Returns them and the EXIF orientation."""
    try:
        picture = _opened(data)
        turned = picture.getexif().get(_ORIENTATION) if picture.format == "TIFF" else None  # forgotten by load()
        picture.load()  # the whole of it: a truncated file fails here
        orientation = turned or picture.getexif().get(_ORIENTATION)
        several = getattr(picture, "n_frames", 1) > 1
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageError("large_image", f"image larger than {MAX_PIXELS} pixels") from error
    except PIL.UnidentifiedImageError as error:  # whose words hold an address in memory
        raise ImageError("broken_image", f"image cannot be decoded: none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow says "broken" in many ways
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise ImageError("broken_image", f"image cannot be decoded: {error}") from error
    if several and picture.format != "MPO":  # a camera's: the first is the photograph
        raise ImageError("animated_image", f"{picture.format} with several frames")
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a channel: Pillow would clip them to white or black
        raise ImageError("broken_image", f"image cannot be decoded: mode {picture.mode} has more than 8 bits a channel")
    return picture, orientation if orientation in _TURNS else 1


def _without_text(data: bytes) -> bytes:
    """Return a PNG without its text, which Pillow refuses beyond a MiB; other data as they are."""
    if not data.startswith(_PNG):
        return data
    chunks, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # length, type and checksum
        if data[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt"):
            chunks.append(data[at:end])
        at = end
    return b"".join(chunks)


def _upright(decoded: PIL.Image.Image, orientation: int) -> tuple[PIL.Image.Image, tuple[int, int]]:
    """Rotate the result of `_decode`. Returns it and the stored width and height."""
    if decoded.format == "TIFF":  # the one format that Pillow rotates by itself
        return decoded, decoded.size[::-1] if orientation > 4 else decoded.size
    return decoded.transpose(_TURNS[orientation]) if orientation in _TURNS else decoded, decoded.size


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Convert to RGB, transparent pixels to white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def encode_jpeg(picture: PIL.Image.Image, quality: int) -> Image:
    """Encode an RGB picture as JPEG of `quality` 1 to 95, with colours at half the resolution.

    simplejpeg reads the memory of other libraries, which Pillow would copy first. A picture without colours takes a
    fifth less time and has the same bytes.
    """
    import simplejpeg  # noqa: PLC0415  # of the extras `data` and `train`: who only reads shards does without

    pixels = pixels_of(picture)
    if pixels.strides[2] == 0 and min(picture.size) > 1:  # the three colours are one and the same memory
        height, width = picture.height, picture.width
        even = np.pad(pixels[..., 0], ((0, height % 2), (0, width % 2)), mode="edge")  # it is read two by two
        no_color = np.full((even.shape[0] // 2, even.shape[1] // 2), 128, np.uint8)
        data = simplejpeg.encode_jpeg_yuv_planes(even[:height, :width], no_color, no_color, quality, fastdct=False)
    else:
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420", fastdct=False)
    return Image(data=data, format="jpg", width=picture.width, height=picture.height)


class MemoryPicture(PIL.Image.Image):
    """An RGB picture over the memory of another library. Pillow copies the pixels only when it has to work on them."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Take over pixels (height, width, 3), which may not change any more; of grey ones all may be one byte."""
        super().__init__()
        self._mode, self._size, self.pixels = "RGB", (pixels.shape[1], pixels.shape[0]), pixels

    @override
    def load(self) -> Any:
        if self._im is None:
            self.im = PIL.Image.frombytes("RGB", self.size, self.pixels.tobytes()).im
        return super().load()


def pixels_of(picture: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """Return the pixels (height, width, 3) of a picture as RGB, without a copy where they are in memory like that."""
    return picture.pixels if isinstance(picture, MemoryPicture) else np.array(picture.convert("RGB"))
