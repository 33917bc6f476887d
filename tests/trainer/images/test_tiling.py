"""Images cut into tiles: the grids, pixels, counts and orders of LLaVA-1.6 and InternVL, for images of every size."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL.Image import Resampling
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel, image_size_to_num_patches
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import Size, ViewTokens
from trainer.images.tiling import AnyRes, Thumbnail, Tiling
from trainer.model.build import _tiling
from trainer.settings import PartSettings
from varyforge.errors import UserError

SIDE, VIEW = 336, ViewTokens(576, (24, 24))  # CLIP-L/14-336
RELEASED = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))  # LLaVA-1.6's checkpoints
SMALL, SMALL_SIDE = ViewTokens(6, (2, 3)), 28

any_grids = st.sampled_from([AnyRes().grids, RELEASED, ((1, 1),), ((3, 2), (1, 5), (2, 2))])
sides = st.one_of(st.integers(1, 60), st.integers(1, 6000))


def pinpoints(grids: Any, side: int = SIDE) -> list[list[int]]:
    """Grids as transformers names them: heights and widths in pixels."""
    return [[rows * side, columns * side] for rows, columns in grids]


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- any_res against transformers' LlavaNext


@settings(max_examples=300, deadline=None)
@given(sides, sides, any_grids)
@example(336, 336, RELEASED)
@example(672, 672, RELEASED)
@example(1, 1, RELEASED)
def test_any_res_chooses_as_llava(height: int, width: int, grids: Any) -> None:
    tiling = AnyRes(grids=grids)
    high, wide = select_best_resolution((height, width), pinpoints(grids))
    assert tiling.grid((height, width), SIDE) == (high // SIDE, wide // SIDE)
    assert tiling.num_views((height, width), SIDE) == image_size_to_num_patches((height, width), pinpoints(grids), SIDE)


@settings(max_examples=300, deadline=None)
@given(sides, sides, any_grids)
def test_any_res_counts_as_llavas_processor(height: int, width: int, grids: Any) -> None:
    assume(max(height, width) <= 24 * min(height, width))  # of thinner ones LLaVA may keep nothing of the tiles
    theirs = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=pinpoints(grids)),
        patch_size=14,
        num_additional_image_tokens=0,
    )
    theirs._get_unpadded_features = LlavaNextProcessor._get_unpadded_features.__get__(theirs)
    expected = LlavaNextProcessor._get_number_of_features(theirs, height, width, SIDE, SIDE)
    assert AnyRes(grids=grids).num_tokens((height, width), VIEW, SIDE) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(50, 300), st.integers(50, 300)), min_size=1, max_size=4), any_grids)
def test_any_res_packs_as_llavas_model(sizes: list[Size], grids: Any) -> None:
    tiling, view = AnyRes(grids=grids), ViewTokens(36, (6, 6))
    layout = ImageLayout(preprocess={"clip": ImagePreprocess(size=84)}, view=view, tiling=tiling)
    features = torch.randn(sum(map(layout.num_views, sizes)), 36, 8)
    separator = torch.randn(8)
    config = SimpleNamespace(
        vision_config=SimpleNamespace(image_size=84, patch_size=14), image_grid_pinpoints=pinpoints(grids, 84)
    )
    expected, lengths = LlavaNextModel.pack_image_features(
        SimpleNamespace(config=config),
        features.split([layout.num_views(s) for s in sizes]),
        sizes,
        "default",
        separator,
    )
    assert torch.equal(layout.arrange(features, sizes, separator), torch.cat(expected))
    assert [layout.num_tokens(size) for size in sizes] == lengths.tolist()


def cut_by_llava(picture: NDArray[np.uint8], grid: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """LLaVA's mm_utils.py (`resize_and_pad_image`, `divide_to_patches`), columns resized first as until Pillow 12."""

    def resized(image: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
        return image.resize((width, image.height), Resampling.BICUBIC).resize((width, height), Resampling.BICUBIC)

    image = PIL.Image.fromarray(picture)
    target_width, target_height = grid[1] * side, grid[0] * side
    scale_w, scale_h = target_width / image.width, target_height / image.height
    if scale_w < scale_h:
        new_width, new_height = target_width, min(math.ceil(image.height * scale_w), target_height)
    else:
        new_width, new_height = min(math.ceil(image.width * scale_h), target_width), target_height
    canvas = PIL.Image.new("RGB", (target_width, target_height), (0, 0, 0))
    canvas.paste(
        resized(image, new_width, new_height), ((target_width - new_width) // 2, (target_height - new_height) // 2)
    )
    views = [resized(image, side, side)]
    for top in range(0, target_height, side):
        for left in range(0, target_width, side):
            views.append(canvas.crop((left, top, left + side, top + side)))
    return np.stack([np.asarray(view) for view in views])


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (56, 56), (30, 200), (200, 30), (1, 1), (1, 90)], ids=str)
def test_any_res_pixels_are_llavas(size: Size) -> None:
    picture, tiling = noise(*size), AnyRes(grids=RELEASED)
    how = ImagePreprocess(size=28, fit="crop", resample="pillow_bicubic")
    actual = tiling.cut(picture, how, 28)
    assert np.array_equal(actual, cut_by_llava(picture, tiling.grid(size, 28), 28))
    theirs = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints(RELEASED, 28)
    )(PIL.Image.fromarray(picture), do_rescale=False, do_normalize=False, return_tensors="pt")
    difference = np.abs(theirs.pixel_values[0].permute(0, 2, 3, 1).numpy() - actual.astype(int))
    assert difference.mean() < 1.5 and np.median(difference) <= 1  # whichever of rows and columns Pillow takes first


def test_a_view_is_not_cropped_and_tiles_read_line_by_line() -> None:
    picture = np.zeros((56, 84, 3), np.uint8)
    picture[:28], picture[28:] = 40, 80
    picture[..., 1] = np.arange(84) // 28
    views = AnyRes(grids=((2, 3),)).cut(picture, ImagePreprocess(size=28, fit="crop"), 28)
    assert [tuple(tile[5, 5]) for tile in views[1:]] == [(row, c, row) for row in (40, 80) for c in (0, 1, 2)]
    assert views[0][0, 0, 1] == 0 and views[0][0, -1, 1] == 2


# --- thumbnail against transformers' InternVL processor


@settings(max_examples=300, deadline=None)
@given(sides, sides, st.integers(1, 12))
@example(500, 400, 12)
def test_thumbnail_chooses_as_internvl(height: int, width: int, most: int) -> None:
    columns, rows = get_optimal_tiled_canvas((height, width), (SIDE, SIDE), 1, most)
    assert Thumbnail(max_tiles=most).grid((height, width), SIDE) == (rows, columns)


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (28, 28), (30, 200), (10, 10)], ids=str)
def test_thumbnail_pixels_are_internvls(size: Size) -> None:
    picture = noise(*size)
    processor = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=6)
    theirs = processor(PIL.Image.fromarray(picture), do_rescale=False, do_normalize=False, return_tensors="pt")
    actual = Thumbnail(max_tiles=6).cut(picture, ImagePreprocess(size=28, resample="pillow_bicubic"), 28)
    difference = np.abs(theirs.pixel_values.permute(0, 2, 3, 1).numpy() - actual.astype(int))
    assert len(actual) == Thumbnail(max_tiles=6).num_views(size, 28)
    assert difference.mean() < 1.5 and np.median(difference) <= 1


# --- every tiling, every size

TILINGS: list[Tiling] = [
    Tiling(),
    AnyRes(),
    AnyRes(grids=RELEASED),
    AnyRes(grids=((1, 1),)),
    Thumbnail(),
    Thumbnail(max_tiles=1),
]


def laid_out(tiling: Tiling, view: ViewTokens = SMALL) -> ImageLayout:
    preprocess = {"clip": ImagePreprocess(size=SMALL_SIDE), "vary": ImagePreprocess(size=40)}
    return ImageLayout(preprocess=preprocess, view=view, tiling=tiling)


def numbered(layout: ImageLayout, size: Size) -> Tensor:
    """(V, P, 1): the number of each token, from 1."""
    views = layout.num_views(size)
    return torch.arange(1, views * layout.view.count + 1).view(views, layout.view.count, 1).float()


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.integers(1, 5000), st.integers(1, 70)), st.integers(1, 300), st.booleans(), st.sampled_from(TILINGS)
)
@example(1, 5000, False, AnyRes())
@example(5000, 1, False, AnyRes())
@example(1, 1, False, AnyRes())
def test_counts_views_and_tokens_agree(long: int, short: int, wide: bool, tiling: Tiling) -> None:
    size = (short, long) if wide else (long, short)
    layout = laid_out(tiling)
    arranged = layout.arrange(numbered(layout, size), [size], torch.zeros(1)).flatten()
    assert len(arranged) == layout.num_tokens(size) <= layout.planned_tokens
    assert layout.num_views(size) <= layout.most_views
    placed = arranged[arranged > 0]
    assert len(placed.unique()) == len(placed) and len(placed) > 0  # no token twice
    if isinstance(tiling, AnyRes):
        assert len(placed) > SMALL.count and (arranged == 0).sum() > 0  # tiles and at least one separator


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(TILINGS))
@example(1, 5000, AnyRes())
@example(5000, 1, Thumbnail())
@example(1, 1, AnyRes())
@example(65_500, 2, AnyRes())
@example(2, 65_500, Thumbnail())
def test_each_encoder_is_given_the_views_that_are_counted(height: int, width: int, tiling: Tiling) -> None:
    layout = laid_out(tiling)
    views = layout.views(noise(height, width))
    for name, how in layout.preprocess.items():
        assert views[name].shape == (layout.num_views((height, width)), how.size, how.size, 3)
        assert views[name].dtype == np.uint8


@pytest.mark.parametrize("tiling", TILINGS)
def test_the_most_there_can_be_is_reached(tiling: Tiling) -> None:
    layout = laid_out(tiling)
    shapes = [(rows * SMALL_SIDE, columns * SMALL_SIDE) for rows in range(1, 13) for columns in range(1, 13)]
    assert max(map(layout.num_tokens, shapes)) == layout.planned_tokens
    assert max(map(layout.num_views, shapes)) == layout.most_views


def test_the_papers_resolutions() -> None:
    """672×672, 336×1344 and 1344×336 plus the global view, without padding (LLaVA-1.6)."""
    tiling = AnyRes()
    assert {size: tiling.grid(size, SIDE) for size in ((672, 672), (336, 1344), (1344, 336))} == {
        (672, 672): (2, 2), (336, 1344): (1, 4), (1344, 336): (4, 1),
    }  # fmt: skip
    assert tiling.num_tokens((672, 672), VIEW, SIDE) == 576 + 48 * 49
    assert tiling.num_tokens((336, 1344), VIEW, SIDE) == 576 + 24 * 97
    assert tiling.num_tokens((1344, 336), VIEW, SIDE) == 576 + 96 * 25 == tiling.most_tokens(VIEW, SIDE)
    assert tiling.num_tokens((336, 672), VIEW, SIDE) == 576 + 24 * 49  # half of 672×672 is padding


# --- what a recipe may say


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("any_res", {"grids": []}, r"model\.tiling\.config\.grids: found \[\], expected a list of \[rows, columns\]"),
        ("any_res", {"grids": [[2, 0]]}, r"model\.tiling\.config\.grids: found \[\[2, 0\]\], expected"),
        ("any_res", {"grids": [[2]]}, r"model\.tiling\.config\.grids: found \[\[2\]\], expected"),
        ("any_res", {"grids": [2, 2]}, r"model\.tiling\.config\.grids: found \[2, 2\], expected"),
        ("any_res", {"grids": [[1.5, True]]}, r"model\.tiling\.config\.grids: found \[\[1\.5, True\]\], expected"),
        ("any_res", {"grid": [[2, 2]]}, r"model\.tiling\.config: unknown key 'grid' \(did you mean 'grids'\?\); valid"),
        ("thumbnail", {"max_tiles": 0}, r"model\.tiling\.config\.max_tiles: found 0, expected a whole number of 1 or"),
        ("thumbnail", {"max_tiles": "6"}, r"model\.tiling\.config\.max_tiles: found '6', expected a whole number"),
        ("thumbnail", {"tiles": 3}, r"model\.tiling\.config: unknown key 'tiles'"),
        ("whole", {"max_tiles": 3}, r"model\.tiling\.config: unknown key 'max_tiles'; it takes none"),
        (
            "anyres",
            {},
            r"model\.tiling\.type: found 'anyres', expected one of whole, any_res, thumbnail \(did you mean",
        ),
    ],
)
def test_wrong_tilings_are_refused_in_a_line(kind: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as raised:
        _tiling(PartSettings(type=kind, config=config))
    assert "\n" not in str(raised.value)


def test_tokens_without_places_cannot_be_a_map() -> None:
    with pytest.raises(UserError, match=r"^model\.tiling\.type: any_res puts a view's tokens in rows and columns, and"):
        AnyRes().check(ViewTokens(64))
    Thumbnail().check(ViewTokens(64))
