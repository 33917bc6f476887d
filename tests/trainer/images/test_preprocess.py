"""Settings of preprocessing: each computes what the release it is named after does, and they go with the weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL.Image import Resampling
from safetensors.torch import load_file, save_file

from tests.trainer.world import SAM, make_tokenizer, tiny_recipe, toy_model
from trainer.assemble import assemble
from trainer.exported import load_exported
from trainer.images.preprocess import CLIP_MEAN, IMAGENET_MEAN, IMAGENET_STD, ImagePreprocess, with_changes
from trainer.images.resample import RESAMPLE
from trainer.model.weights import export_header, preprocess_of_export
from trainer.settings import EXPORT_FILE, EncoderSettings, Recipe
from varyforge.config import load, to_yaml
from varyforge.errors import UserError

Pixels = NDArray[np.uint8]
TINY: dict[str, Any] = {"resample": "opencv_bilinear", "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
"""The preprocessing of the released Vary-tiny."""


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- Pillow: the released statements, literally (columns first, as in every Pillow until 12)


def resized(picture: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    return picture.resize((width, picture.height), Resampling.BICUBIC).resize((width, height), Resampling.BICUBIC)


def stretched(picture: PIL.Image.Image, size: int) -> PIL.Image.Image:
    return resized(picture, size, size)


def cropped(picture: PIL.Image.Image, size: int) -> PIL.Image.Image:
    width, height = (int(size * side / min(picture.size)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    return resized(picture, width, height).crop((left, top, left + size, top + size))


def padded_by_llava(picture: PIL.Image.Image, size: int) -> PIL.Image.Image:
    """https://github.com/haotian-liu/LLaVA/blob/main/llava/mm_utils.py, expand2square."""
    width, height = picture.size
    side = max(picture.size)
    canvas = PIL.Image.new("RGB", (side, side), tuple(int(x * 255) for x in CLIP_MEAN))
    canvas.paste(picture, (0, (width - height) // 2) if width > height else ((height - width) // 2, 0))
    return resized(canvas, size, size)


def padded_by_vary(picture: PIL.Image.Image, size: int) -> PIL.Image.Image:
    canvas = PIL.Image.new("RGB", (max(picture.size),) * 2, tuple(int(x * 255) for x in CLIP_MEAN))
    canvas.paste(picture, (0, 0))
    return resized(canvas, size, size)


RELEASED = {"stretch": stretched, "crop": cropped, "pad": padded_by_llava, "pad_corner": padded_by_vary}


@pytest.mark.parametrize("fit", RELEASED)
@pytest.mark.parametrize(
    "size", [(100, 60), (61, 97), (40, 300), (700, 500), (1, 1), (3, 2), (64, 64), (64, 30)], ids=str
)
def test_pillows_pixels_are_the_releases(size: tuple[int, int], fit: Any) -> None:
    picture = noise(*size)
    how = ImagePreprocess(size=64, fit=fit, resample="pillow_bicubic")
    actual = how.to_uint8(picture)
    assert actual.dtype == np.uint8 and actual.flags.c_contiguous
    assert np.array_equal(actual, np.asarray(RELEASED[fit](PIL.Image.fromarray(picture), 64)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(list(RELEASED)), st.sampled_from([1, 17, 64]))
def test_pillows_pixels_of_any_size_are_the_releases(height: int, width: int, fit: Any, size: int) -> None:
    picture = noise(height, width)
    actual = ImagePreprocess(size=size, fit=fit, resample="pillow_bicubic").to_uint8(picture).astype(int)
    difference = np.abs(actual - np.asarray(RELEASED[fit](PIL.Image.fromarray(picture), size)))
    sliver = max(height, width) > 8 * min(height, width)  # not resized whole
    if sliver and fit == "crop":
        assert difference.max() <= 1
    elif sliver and fit != "stretch" and height > width:
        assert difference.max() <= 30 and difference.mean() <= 1
    else:
        assert difference.max() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["pad", "pad_corner"]))
def test_the_fast_kernel_pads_as_closely(height: int, width: int, fit: Any) -> None:
    picture = noise(height, width)
    actual = ImagePreprocess(size=64, fit=fit).to_uint8(picture).astype(int)
    difference = np.abs(actual - np.asarray(RELEASED[fit](PIL.Image.fromarray(picture), 64)))
    assert difference.max() <= (30 if height > 8 * width else 2)


@pytest.mark.parametrize("fit", ["pad", "pad_corner"])
def test_a_square_is_padded_in_strips_to_the_same(fit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(300, 40)
    how = ImagePreprocess(size=64, fit=fit, resample="pillow_bicubic")
    whole = how.to_uint8(picture)
    monkeypatch.setattr("trainer.images.preprocess._STRIP_PX", 300 * 7)
    assert np.array_equal(how.to_uint8(picture), whole)


# --- OpenCV


def pattern(height: int, width: int) -> Pixels:
    y, x, c = np.ogrid[:height, :width, :3]
    return ((y * y * 7 + x * 13 * (c + 3) + x * y * (c + 1)) % 256).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "to", "sha256"),
    [
        ((700, 500), (64, 64), "8235a5fc643f7354"),
        ((31, 47), (224, 224), "7ff3a99236bb97ed"),
        ((128, 128), (64, 64), "e022df7e4445bd15"),  # an exact halving
        ((128, 100), (64, 64), "632eae6364df546c"),
        ((1, 1), (16, 16), "ef115a0e0c15cdc4"),
        ((1, 5000), (64, 64), "bc1a8ae43c8000c8"),
        ((5000, 1), (64, 64), "e82a0ce7dd1ee013"),
        ((3, 2), (200, 100), "87a988e32c0adc5f"),
        ((1448, 1024), (1024, 1024), "62d3f909492edfa3"),
    ],
)
def test_opencvs_pixels_bit_for_bit(size: tuple[int, int], to: tuple[int, int], sha256: str) -> None:
    """Against digests of what `cv2.resize(pattern, (wide, high), interpolation=cv2.INTER_LINEAR)` gave.

    With opencv-python-headless 4.8.1 and 5.0.0 on x86-64, both the same.
    """
    actual = RESAMPLE["opencv_bilinear"](pattern(*size), *to)
    assert actual.shape == (*to, 3) and hashlib.sha256(actual.tobytes()).hexdigest().startswith(sha256)


def test_vary_tinys_images_are_those_of_its_release() -> None:
    """albumentations' Normalize: `(pixels - 255 mean) · (1 / (255 std))`, fp32; to 2.4e-7 of it."""
    how = with_changes(ImagePreprocess(size=64), TINY, "-")
    picture = pattern(128, 100)
    actual = how.normalise(torch.from_numpy(how.to_uint8(picture))[None], torch.float32)[0].permute(1, 2, 0)
    mean, factor = np.float32(IMAGENET_MEAN) * 255, np.reciprocal(np.float32(IMAGENET_STD) * 255)
    expected = (RESAMPLE["opencv_bilinear"](picture, 64, 64).astype(np.float32) - mean) * factor
    torch.testing.assert_close(actual, torch.from_numpy(expected), rtol=0, atol=5e-7)


# --- images of any shape


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 65_500), (65_500, 2)], ids=str)
@pytest.mark.parametrize(
    ("fit", "resample"),
    [(fit, how) for fit in RELEASED for how in RESAMPLE if how != "opencv_bilinear" or fit == "stretch"],
)
def test_slivers_stay_small(size: tuple[int, int], fit: Any, resample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    resize = RESAMPLE[resample]

    def watched(picture: Pixels, high: int, wide: int) -> Pixels:
        largest.append(max(picture.size, high * wide * 3, picture.shape[0] * wide * 3))
        return resize(picture, high, wide)

    monkeypatch.setitem(RESAMPLE, resample, watched)
    assert ImagePreprocess(size=32, fit=fit, resample=resample).to_uint8(noise(*size)).shape == (32, 32, 3)
    assert max(largest, default=0) <= 3 * max(4_000_000, 65_500 * 32)


# --- what a recipe may say


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"resample": "cubic"},
            r"x\.resample: found 'cubic', expected one of bicubic, bilinear, pillow_bicubic, openc",
        ),
        ({"fit": "keep"}, r"x\.fit: found 'keep', expected one of stretch, crop, pad, pad_corner"),
        ({"fit": "crop", "resample": "opencv_bilinear"}, r"x\.fit: crop does not go with opencv_bilinear"),
        ({"std": [0.2, 0.0, 0.2]}, r"x\.std: found \[0\.2, 0\.0, 0\.2\], expected numbers above 0"),
        ({"mean": [0.5]}, r"x\.mean: found \[0\.5\], expected three numbers"),
        ({"mean": 0.5}, r"x\.mean: found 0\.5, expected three numbers"),
        ({"mean": ["a", 0, 0]}, r"x\.mean: found \['a', 0, 0\], expected three numbers"),
        ({"std": [float("nan"), 1, 1]}, r"x\.std: found \[nan, 1, 1\], expected three numbers"),
        ({"size": 3}, r"x: unknown key 'size'; valid keys: fit, resample, mean, std"),
    ],
)
def test_wrong_settings_are_refused_in_a_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as raised:
        with_changes(ImagePreprocess(size=8), changes, "x")
    assert "\n" not in str(raised.value)


def test_settings_come_back_from_a_recipe() -> None:
    how = with_changes(ImagePreprocess(size=8, fit="crop"), TINY | {"fit": "stretch"}, "-")
    assert with_changes(ImagePreprocess(size=8), how.as_settings(), "-") == how


# --- stored with the weights


@pytest.fixture
def recipe(tmp_path: Path, chat_shards: Path) -> Recipe:
    tokenizer = make_tokenizer([chat_shards], tmp_path / "tokenizer")
    result = tiny_recipe(tmp_path / "tiny", tokenizer, {"chat": chat_shards})
    vary = EncoderSettings(type="sam", config=SAM, preprocess=TINY)
    return replace(result, model=replace(result.model, vision={"vary": vary}))


def exported(recipe: Recipe, folder: Path, *, with_header: bool = True) -> Path:
    """Export a model as a training run does, without training it."""
    model, encoder, _ = assemble(recipe)
    folder.mkdir()
    header = export_header(model.layout.preprocess) if with_header else None
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items() if k != "language.model.lm_head.weight"},
        folder / EXPORT_FILE,
        header,
    )
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    encoder.tokenizer.save_pretrained(folder / "tokenizer")
    return folder


def test_the_header_gives_back_what_it_was_given(recipe: Recipe, tmp_path: Path) -> None:
    folder = exported(recipe, tmp_path / "model")
    expected = with_changes(ImagePreprocess(size=64), TINY, "-")
    assert preprocess_of_export(str(folder)) == {"vary": expected}
    assert load_exported(folder)[0].layout.preprocess == {"vary": expected}


def test_an_older_export_says_nothing(recipe: Recipe, tmp_path: Path) -> None:
    assert preprocess_of_export(str(exported(recipe, tmp_path / "model", with_header=False))) == {}


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}', '{"a": {"size": 1, "mean": [0, 0, 0], "std": [1, 1, 0]}}'])
def test_a_header_that_cannot_be_read_is_an_error(text: str, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / EXPORT_FILE, {"preprocess": text})
    with pytest.raises(UserError, match="its header says of preprocess what this version cannot read: "):
        preprocess_of_export(str(tmp_path))


def test_moving_a_vocabulary_between_settings_warns(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(recipe, tmp_path / "model")
    toy = replace(recipe, model=toy_model(recipe.model.language.tokenizer, str(folder)))
    capsys.readouterr()
    assemble(toy)
    message = capsys.readouterr().err
    line = next(line for line in message.splitlines() if "model.vision.vary.preprocess" in line)
    assert line.startswith("warning: model.vision.vary.preprocess is not what ")
    assert "was trained with: resample bicubic, was opencv_bilinear; mean [0.48" in line and "std [0.268" in line
    assert "fit" not in line and "clip" not in line and message.count("model.vision.") == 2
    # What it says to write is what makes it silent.
    override = line.partition("To keep that: ")[2].replace("'", "")
    (tmp_path / "toy.yaml").write_text(to_yaml(toy))
    restored = load(Recipe, tmp_path / "toy.yaml", [override])
    model, _, _ = assemble(restored)
    assert model.layout.preprocess["vary"] == preprocess_of_export(str(folder))["vary"]
    assert "model.vision.vary" not in capsys.readouterr().err
    # As a whole, and with one process speaking.
    started = replace(
        recipe, init=str(folder), model=replace(recipe.model, vision={"vary": EncoderSettings(type="sam", config=SAM)})
    )
    assemble(started)
    assert "model.vision.vary.preprocess is not what" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    assemble(started)
    assert "model.vision" not in capsys.readouterr().err


def test_an_encoder_may_have_the_name_of_another_part(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eye = EncoderSettings(type="sam", config=SAM, preprocess=TINY)
    named = replace(recipe, model=replace(recipe.model, vision={"language": eye}))
    folder = exported(named, tmp_path / "model")
    moved = replace(named.model, vision={"language": replace(eye, preprocess={})})
    capsys.readouterr()
    assemble(replace(named, init=str(folder), model=moved))
    assert capsys.readouterr().err.count("is not what") == 1


def test_nothing_is_said_where_nothing_changed_or_nothing_is_known(
    recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, how, with_header in (("same", {}, True), ("unknown", TINY, False)):
        vary = EncoderSettings(type="sam", config=SAM, preprocess=how)
        folder = exported(
            replace(recipe, model=replace(recipe.model, vision={"vary": vary})),
            tmp_path / name,
            with_header=with_header,
        )
        assemble(replace(recipe, model=toy_model(recipe.model.language.tokenizer, str(folder))))
    assert "model.vision" not in capsys.readouterr().err
    assert load_file(folder / EXPORT_FILE)
