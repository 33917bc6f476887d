"""An encoder gets the pixels of the released code's preprocessing, for every image that can occur."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL.Image import Resampling

from trainer.batch import Unusable
from trainer.images.layout import ImageLayout
from trainer.images.pixels import decode, pixels, stack_pixels
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from varyforge.images import MAX_PIXELS, MAX_SIDE
from varyforge.sample import Image

MAX_LEVELS, MEAN_LEVELS = 2, 0.05
"""The tolerance that `ImagePreprocess.to_uint8` states, of 255."""

SAM = ImagePreprocess(size=1024)
CLIP = ImagePreprocess(size=224, fit="crop")
Pixels = NDArray[np.uint8]


def resized(picture: PIL.Image.Image, width: int, height: int, resample: Resampling) -> PIL.Image.Image:
    """Pillow's resize, columns first: what `resize((width, height))` does in every Pillow until 12."""
    return picture.resize((width, picture.height), resample).resize((width, height), resample)


def reference(picture: Pixels, how: ImagePreprocess) -> Pixels:
    """The released code, literally."""
    image = PIL.Image.fromarray(picture)
    resample = {"bicubic": Resampling.BICUBIC, "bilinear": Resampling.BILINEAR}[how.resample]
    if how.fit == "stretch":
        return np.asarray(resized(image, how.size, how.size, resample))
    short = min(image.size)
    width, height = (int(how.size * side / short) for side in image.size)
    left, top = (width - how.size) // 2, (height - how.size) // 2
    return np.asarray(resized(image, width, height, resample).crop((left, top, left + how.size, top + how.size)))


def drawn(height: int, width: int, kind: str, seed: int = 0) -> Pixels:
    """A picture: noise, noise of black and white (the filter overshoots most), or black marks on white as text is."""
    rng = np.random.default_rng(seed)
    if kind == "marks":
        return np.where(rng.random((height, width, 1)) < 0.1, 0, 255).astype(np.uint8).repeat(3, 2)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return noise if kind == "noise" else np.where(noise > 127, 255, 0).astype(np.uint8)


def assert_close(actual: Pixels, expected: Pixels) -> None:
    assert actual.shape == expected.shape and actual.dtype == np.uint8 and actual.flags.c_contiguous
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= MAX_LEVELS and difference.mean() <= MEAN_LEVELS


# --- resizing


@pytest.mark.parametrize("kind", ["noise", "black and white", "marks"])
@pytest.mark.parametrize("how", [SAM, CLIP, ImagePreprocess(size=384, resample="bilinear")])
@pytest.mark.parametrize(
    "size", [(700, 500), (1448, 1024), (1024, 1024), (1000, 1600), (2000, 3000), (3000, 2000)], ids=str
)
def test_pixels_are_the_references(size: tuple[int, int], how: ImagePreprocess, kind: str) -> None:
    picture = drawn(*size, kind)
    assert_close(how.to_uint8(picture), reference(picture, how))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.sampled_from(["noise", "black and white", "marks"]),
    st.sampled_from(["stretch", "crop"]),
    st.sampled_from(["bicubic", "bilinear"]),
    st.sampled_from([28, 64, 224]),
)
def test_pixels_of_any_size_are_the_references(
    height: int, width: int, kind: str, fit: Any, resample: Any, size: int
) -> None:
    how = ImagePreprocess(size=size, fit=fit, resample=resample)
    picture = drawn(height, width, kind, seed=height * 1000 + width)
    difference = np.abs(how.to_uint8(picture).astype(int) - reference(picture, how))
    assert difference.max() <= MAX_LEVELS  # the mean of a few pixels that are made of one says nothing


@pytest.mark.parametrize("size", [(100, 60), (61, 97), (32, 32), (33, 32)])
def test_clip_images_are_those_of_its_processor(size: tuple[int, int]) -> None:
    processor = pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    picture = drawn(*size, "noise")
    how = ImagePreprocess(size=32, fit="crop")
    actual = how.normalise(torch.from_numpy(how.to_uint8(picture))[None], torch.float32)
    expected = torch.as_tensor(processor(PIL.Image.fromarray(picture), return_tensors="pt").pixel_values)
    level = 1 / 255 / min(how.std)
    torch.testing.assert_close(actual, expected, atol=MAX_LEVELS * level + 1e-5, rtol=0)
    assert (actual - expected).abs().mean() < MEAN_LEVELS * level


def test_a_page_is_squeezed_not_cropped() -> None:
    picture = np.zeros((40, 20, 3), np.uint8)
    picture[:20] = 255
    actual = ImagePreprocess(size=16).to_uint8(picture)
    assert (actual[:6] == 255).all() and (actual[10:] == 0).all()


@pytest.mark.parametrize("how", [ImagePreprocess(size=16), ImagePreprocess(size=16, fit="crop")])
def test_what_fits_is_not_touched(how: ImagePreprocess) -> None:
    picture = drawn(16, 16, "noise")
    assert how.to_uint8(picture) is picture


@pytest.mark.parametrize("size", [(3, 60_000), (60_000, 3)])
def test_a_line_of_pixels_does_not_grow(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    # Resized whole it would have 4.5 million rows or columns of 224: three gigabytes.
    picture = drawn(*size, "noise")
    monkeypatch.setattr(ImagePreprocess, "resize", lambda *_: pytest.fail("resized whole"))
    assert CLIP.to_uint8(picture).shape == (224, 224, 3)


def test_the_crop_of_a_sliver_is_the_references() -> None:
    picture = drawn(20, 1111, "marks")
    assert_close(CLIP.to_uint8(picture), reference(picture, CLIP))


# --- normalising


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_normalising_is_done_in_fp32(dtype: torch.dtype) -> None:
    how = ImagePreprocess(size=256)
    levels = torch.arange(256, dtype=torch.uint8).repeat(3, 256, 1).permute(1, 2, 0)[None]
    actual = how.normalise(levels, dtype)
    mean, std = torch.tensor(how.mean).view(3, 1, 1), torch.tensor(how.std).view(3, 1, 1)
    expected = ((torch.arange(256.0) / 255 - mean) / std).expand(3, 256, 256)
    assert actual.shape == (1, 3, 256, 256) and actual.dtype == dtype
    assert torch.equal(actual[0], expected.to(dtype))


def test_no_image_is_normalised() -> None:
    assert SAM.normalise(torch.empty((0, 1024, 1024, 3), dtype=torch.uint8), torch.bfloat16).shape == (
        0,
        3,
        1024,
        1024,
    )


# --- decoding


def encoded(picture: PIL.Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def photo(mode: str = "RGB") -> PIL.Image.Image:
    smooth = PIL.Image.fromarray(drawn(6, 9, "noise")).resize((90, 61), Resampling.BICUBIC)
    return smooth.convert(mode)


def transparent_palette() -> PIL.Image.Image:
    picture = photo("P")
    picture.info["transparency"] = 3
    return picture


ENCODINGS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(photo(), "JPEG"),
    "jpeg without subsampling": lambda: encoded(photo(), "JPEG", subsampling=0, quality=95),
    "jpeg, half subsampled": lambda: encoded(photo(), "JPEG", subsampling=1),
    "progressive jpeg": lambda: encoded(photo(), "JPEG", progressive=True),
    "rgb jpeg": lambda: encoded(photo(), "JPEG", keep_rgb=True),
    "grey jpeg": lambda: encoded(photo("L"), "JPEG"),
    "cmyk jpeg": lambda: encoded(photo("CMYK"), "JPEG"),
    "jpeg with junk behind": lambda: encoded(photo(), "JPEG") + b"junk",
    "jpeg with junk inside": lambda: encoded(photo(), "JPEG").replace(b"\xff\xda", b"\0\0\xff\xda"),
    "rotated jpeg": lambda: encoded(photo(), "JPEG", exif=orientation(6)),
    "png": lambda: encoded(photo(), "PNG"),
    "grey png": lambda: encoded(photo("L"), "PNG"),
    "black and white png": lambda: encoded(photo("1"), "PNG"),
    "transparent png": lambda: encoded(photo("RGBA"), "PNG"),
    "grey transparent png": lambda: encoded(photo("LA"), "PNG"),
    "palette png": lambda: encoded(photo("P"), "PNG"),
    "transparent palette png": lambda: encoded(transparent_palette(), "PNG"),
    "webp": lambda: encoded(photo(), "WEBP"),
    "gif": lambda: encoded(photo("P"), "GIF"),
    "bmp": lambda: encoded(photo(), "BMP"),
    "cmyk tiff": lambda: encoded(photo("CMYK"), "TIFF"),
}


def orientation(value: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("name", ENCODINGS)
def test_images_of_every_kind_are_what_pillow_makes_of_them(name: str) -> None:
    data = ENCODINGS[name]()
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    actual = decode(data)
    assert np.array_equal(actual, expected) and actual.flags.c_contiguous and actual.flags.writeable


@pytest.mark.parametrize("cut", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_half_an_image_is_refused(form: str, cut: float) -> None:
    data = encoded(photo(), form)
    with pytest.raises(Unusable, match=r"^image cannot be decoded: "):
        decode(data[: int(len(data) * cut)])


def test_what_is_no_image_is_named_in_the_same_words_each_time() -> None:
    for data in (b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        with pytest.raises(Unusable, match=r"^image cannot be decoded: none of JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM$"):
            decode(data)


def test_images_of_more_than_8_bits_are_refused_not_whitened() -> None:
    sixteen = PIL.Image.fromarray(np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8))
    with pytest.raises(Unusable, match="mode I;16 has more than 8 bits a channel"):
        decode(encoded(sixteen, "PNG"))


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def gif_that_claims(width: int, height: int) -> bytes:
    data = bytearray(encoded(photo("P"), "GIF"))
    data[6:10] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return bytes(data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(10_001, 10_000), (65_000, 65_000)])
@pytest.mark.parametrize("bomb", [jpeg_that_claims, gif_that_claims])
def test_decompression_bombs_are_not_opened(
    bomb: Callable[[int, int], bytes], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda _: pytest.fail("memory was taken"))
    with pytest.raises(Unusable, match=f"^image (of .*, more|larger) than {MAX_PIXELS} pixels$"):
        decode(bomb(*size))


def test_a_line_longer_than_a_jpeg_can_be_is_refused() -> None:
    data = encoded(PIL.Image.new("L", (MAX_SIDE + 1, 1)), "PNG")
    with pytest.raises(Unusable, match=f"^image of {MAX_SIDE + 1}x1 px, a side of more than {MAX_SIDE} pixels$"):
        decode(data)


# --- together


def test_one_decode_serves_all_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("trainer.images.pixels.decode", lambda data: calls.append(data) or decode(data))
    data = encoded(PIL.Image.fromarray(drawn(96, 64, "noise")), "PNG")
    preprocess = {"clip": ImagePreprocess(size=28, fit="crop"), "vary": ImagePreprocess(size=64)}
    views = pixels(
        Image(data=data, format="png", width=64, height=96), ImageLayout(preprocess=preprocess, view=ViewTokens(1))
    )
    assert calls == [data]
    for name, how in preprocess.items():
        assert_close(views[name][0], reference(decode(data), how))
    stacked = stack_pixels([views, views], preprocess)
    assert {name: tuple(tensor.shape) for name, tensor in stacked.items()} == {
        "clip": (2, 28, 28, 3),
        "vary": (2, 64, 64, 3),
    }
    assert [tuple(tensor.shape) for tensor in stack_pixels([], preprocess).values()] == [(0, 28, 28, 3), (0, 64, 64, 3)]
