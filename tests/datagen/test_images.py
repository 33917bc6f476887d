from __future__ import annotations

import io

import PIL.Image
import pytest

from datagen import images
from datagen.images import read_image


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (20, 10), **options: object) -> bytes:
    out = io.BytesIO()
    PIL.Image.effect_noise(size, 50).convert(mode).save(out, form, **options)  # type: ignore[arg-type]
    return out.getvalue()


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


@pytest.mark.parametrize(("mode", "form"), [("I;16", "PNG"), ("F", "TIFF")])
def test_more_than_eight_bits_are_refused_not_clipped(mode: str, form: str) -> None:
    out = io.BytesIO()
    PIL.Image.new(mode, (8, 8), 300).save(out, form)
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_image(out.getvalue())


def test_exif_rotation_is_applied() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    image = read_image(encoded("JPEG", exif=exif))
    assert (image.width, image.height) == (10, 20)


@pytest.mark.parametrize("data", [b"", b"not an image", encoded("JPEG")[:-40], encoded("PNG")[:100]])
def test_broken_images_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_image(data)


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="larger than"):
        read_image(encoded("PNG", size=(20, 10)))
    assert images.MAX_PIXELS == 100_000_000
