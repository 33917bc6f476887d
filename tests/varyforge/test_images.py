from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varyforge import images
from varyforge.boxes import Box
from varyforge.images import ImageError, ImagePolicy, MemoryPicture, Picture, encode_jpeg, read_picture
from varyforge.sample import Image


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (20, 10), **options: object) -> bytes:
    out = io.BytesIO()
    PIL.Image.effect_noise(size, 50).convert(mode).save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


def read(data: bytes, **policy: int) -> Picture:
    return read_picture(data, ImagePolicy(**policy))


def read_image(data: bytes) -> Image:
    return read(data).image


@pytest.mark.parametrize(("form", "expected"), [("JPEG", "jpg"), ("PNG", "png")])
def test_what_can_pass_unchanged_does(form: str, expected: str) -> None:
    data = encoded(form)
    image = read_image(data)
    assert (image.data, image.format, image.width, image.height) == (data, expected, 20, 10)


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("GIF", "P"), ("PNG", "1")]
)
def test_everything_else_becomes_rgb_jpeg(form: str, mode: str) -> None:
    image = read_image(encoded(form, mode))
    assert image.format == "jpg"
    assert PIL.Image.open(io.BytesIO(image.data)).mode == "RGB"


def test_what_is_transparent_is_white() -> None:
    out = io.BytesIO()
    PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(out, "PNG")
    picture = PIL.Image.open(io.BytesIO(read_image(out.getvalue()).data))
    assert picture.getpixel((4, 4)) == (255, 255, 255)


def test_a_colour_that_is_transparent_is_white() -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (0, 0, 0)).save(out, "PNG", transparency=(0, 0, 0))
    picture = PIL.Image.open(io.BytesIO(read_image(out.getvalue()).data))
    assert (picture.mode, picture.getpixel((4, 4))) == ("RGB", (255, 255, 255))


def test_colours_of_sixteen_bits_become_eight() -> None:
    rows = b"".join(b"\0" + b"\x80\x01" * 3 * 8 for _ in range(8))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    read_ = read(data)
    assert (read_.image.format, read_.changes) == ("jpg", {"images_png_rgb_to_jpeg": 1})
    assert PIL.Image.open(io.BytesIO(read_.image.data)).getpixel((4, 4)) == (128, 128, 128)


def test_what_is_too_long_for_a_jpeg_is_refused_unless_made_smaller() -> None:
    data = encoded("PNG", "L", (images.MAX_SIDE + 1, 1))
    with pytest.raises(ImageError, match="65501") as raised:
        read(data)
    assert raised.value.reason == "large_image"
    assert read(data, long_side_px=1000).image.width == 1000


@pytest.mark.parametrize(("mode", "form"), [("I;16", "PNG"), ("F", "TIFF")])
def test_more_than_eight_bits_are_refused_not_clipped(mode: str, form: str) -> None:
    out = io.BytesIO()
    PIL.Image.new(mode, (8, 8), 300).save(out, form)
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_image(out.getvalue())


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_to_pixels_and_boxes(orientation: int, form: str) -> None:
    stored = PIL.Image.new("RGB", (80, 40), "white")
    stored.paste((255, 0, 0), (8, 4, 24, 12))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, form, exif=exif, quality=95)
    picture = read(out.getvalue())
    assert picture.changes["rotated_images"] == (orientation > 1)
    image = PIL.Image.open(io.BytesIO(picture.image.data))
    assert picture.stored == (80, 40)
    assert image.size == picture.seen == ((80, 40) if orientation < 5 else (40, 80))
    box = Box(x1=0.1, y1=0.1, x2=0.3, y2=0.3).upright(picture.orientation)
    x1, y1, x2, y2 = map(round, box.to_xyxy_px(width=image.width, height=image.height))
    seen = PIL.Image.open(io.BytesIO(picture.image.data)) if orientation > 1 else stored
    red = seen.convert("RGB").getpixel(((x1 + x2) // 2, (y1 + y2) // 2))
    assert red[0] > 200 and red[1] < 60
    for corner in ((x1 - 3, y1 - 3), (x2 + 3, y2 + 3)):
        assert min(seen.convert("RGB").getpixel(corner)) > 200


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_is_none_is_upright(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = encoded("JPEG", exif=exif)
    assert read_image(data).data == data


def test_what_is_too_large_is_made_smaller() -> None:
    picture = read(encoded("PNG", size=(400, 100)), long_side_px=200)
    assert (picture.image.width, picture.image.height, picture.image.format) == (200, 50, "jpg")
    assert picture.seen == (400, 100)
    assert picture.changes == {"downsized_images": 1}
    data = encoded("PNG", size=(200, 100))
    assert read(data, long_side_px=200).image.data == data


def test_what_moves_is_refused() -> None:
    out = io.BytesIO()
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError) as raised:
        read(out.getvalue())
    assert raised.value.reason == "animated_image"


def test_a_png_loses_text_that_is_too_long_to_read() -> None:
    data = encoded("PNG")
    content = b"comment\0\0" + zlib.compress(b"a" * (3 << 20))
    chunk = struct.pack(">I4s", len(content), b"zTXt") + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))
    with_text = data[:33] + chunk + data[33:]  # behind the header
    picture = read(with_text)
    assert (picture.image.data, picture.changes) == (data, {"images_without_their_text": 1})
    assert images.look_at(with_text).data == data
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(with_text[:-30])


def test_changes_are_counted() -> None:
    assert read(encoded("JPEG", "CMYK")).changes == {"images_jpeg_cmyk_to_jpeg": 1}
    assert read(encoded("PNG")).changes == {}


@pytest.mark.parametrize("data", [b"", b"not an image", encoded("JPEG")[:-40], encoded("PNG")[:100]])
def test_broken_images_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_image(data)


def test_why_an_image_is_broken_is_the_same_each_time() -> None:
    """Ledgers hold these words, and ledgers made twice are equal."""
    with pytest.raises(ImageError) as raised:
        read(b"not an image")
    assert str(raised.value) == "image cannot be decoded: none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM"


def test_whatever_pillow_raises_is_a_broken_image() -> None:
    """Here: TypeError, for a second page without width and height."""
    data = bytearray(encoded("TIFF"))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, len(data))
    data += struct.pack("<HHHIII", 1, 258, 3, 1, 8, 0)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read(bytes(data))


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="larger than"):
        read_image(encoded("PNG", size=(20, 10)))
    assert images.MAX_PIXELS == 100_000_000


@settings(max_examples=150)
@given(st.booleans(), st.integers(0, 2**32))
def test_damage_is_the_same_whether_the_pixels_are_needed_or_not(progressive: bool, seed: int) -> None:
    dice = random.Random(seed)
    noise = PIL.Image.frombytes("RGB", (64, 48), dice.randbytes(3 * 64 * 48))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", progressive=progressive)
    data = bytearray(buffer.getvalue())
    match dice.randrange(3):
        case 0:
            del data[dice.randrange(len(data)) :]
        case 1:
            for _ in range(dice.randrange(20)):
                data[dice.randrange(len(data))] = dice.randrange(256)
        case _:
            start = dice.randrange(len(data))
            del data[start : start + dice.randrange(500)]
    verdicts = [verdict_on(bytes(data), whole) for whole in (True, False)]
    assert verdicts[0] == verdicts[1]


def verdict_on(data: bytes, whole: bool) -> object:
    """What a source can see of a picture, its pixels among it, or why there is none."""
    try:
        picture = read_picture(data, ImagePolicy(), whole=whole)
    except ImageError as error:
        return error.reason, str(error)
    seen = (picture.image, picture.seen, picture.stored, picture.orientation, picture.changes)
    return *seen, picture.pixels.convert("RGB").tobytes()


@pytest.mark.parametrize("size", [(16, 16), (16, 17), (17, 16), (33, 31), (5, 1), (1, 5), (1, 1)])
def test_a_grey_picture_in_one_byte_a_pixel_has_the_jpeg_of_the_same_picture_in_rgb(size: tuple[int, int]) -> None:
    grey = PIL.Image.effect_noise(size, 50)
    picture = MemoryPicture(np.broadcast_to(np.asarray(grey)[..., None], (size[1], size[0], 3)))
    assert picture.mode == "RGB" and picture.convert("RGB").tobytes() == grey.convert("RGB").tobytes()
    assert encode_jpeg(picture, 90) == encode_jpeg(grey.convert("RGB"), 90)
