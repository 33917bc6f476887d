"""Boxes written in every form come back from the answer's text within one bin, whatever happens to the image."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datagen.detection.source import DetectionSource
from tests.datagen.boxed_images import CLASSES, WRITERS, Share, Truth, write_image, write_voc
from varyforge.boxes import BINS, Box, clean_label, parse_boxes
from varyforge.images import ImagePolicy
from varyforge.outcome import Written
from varyforge.sample import Sample

THICK = 3 / BINS  # a box of this size is no line, wherever bins are cut

side = st.floats(0, 1 - THICK).flatmap(lambda low: st.tuples(st.just(low), st.floats(low + THICK, 1)))
box = st.tuples(st.integers(0, 2), side, side).map(lambda b: (b[0], (b[1][0], b[2][0], b[1][1], b[2][1])))
boxes = st.lists(box, min_size=1, max_size=30)
size = st.tuples(st.integers(8, 400), st.integers(8, 400))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("set")


def only_sample(source: DetectionSource) -> Sample:
    (path,) = source.inputs()
    (unit,) = filter(None, source.units(path, path))
    made = source.make(unit, unit.files)
    assert isinstance(made, Written), made
    (sample,) = made.samples
    return sample


def assert_same(sample: Sample, truth: list[tuple[int, Share]]) -> None:
    """Every box is found, and each found is a box, within one bin (two become one where they round alike)."""
    found, refused = parse_boxes(sample.answer)
    assert refused == []
    pairs = [(item.label, item.box.bins()) for item in found]
    expected = [(clean_label(CLASSES[number]), corners) for number, corners in truth]

    def near(a: tuple[str, tuple[int, ...]], b: tuple[str, Share]) -> bool:
        return a[0] == b[0] and all(abs(x - y * BINS) <= 1 for x, y in zip(a[1], b[1], strict=True))

    assert all(any(near(a, b) for a in pairs) for b in expected)
    assert all(any(near(a, b) for b in expected) for a in pairs)
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize("form", sorted(WRITERS))
@settings(max_examples=25, deadline=None)
@given(size=size, boxes=boxes, long_side=st.sampled_from((0, 5, 100)))
def test_every_reader_and_resizing(
    folder: Path, form: str, size: tuple[int, int], boxes: list[tuple[int, Share]], long_side: int
) -> None:
    here = folder / form
    write_image(here / "images" / "a.jpg", size)
    source = WRITERS[form](here, [Truth(name="a", size=size, boxes=boxes)])
    sample = only_sample(dataclasses.replace(source, image=ImagePolicy(long_side_px=long_side)))
    assert_same(sample, boxes)
    assert max(sample.images[0].width, sample.images[0].height) == min(long_side or 400, max(size))


@settings(max_examples=25, deadline=None)
@given(size=size, boxes=boxes)
def test_voc_form_with_points_from_zero(folder: Path, size: tuple[int, int], boxes: list[tuple[int, Share]]) -> None:
    write_image(folder / "points" / "images" / "a.jpg", size)
    assert_same(only_sample(write_voc(folder / "points", [Truth(name="a", size=size, boxes=boxes)], first=0)), boxes)


@pytest.mark.parametrize("form", sorted(WRITERS))
@settings(max_examples=20, deadline=None)
@given(size=size, boxes=boxes, orientation=st.integers(1, 8))
def test_boxes_of_images_that_exif_turns(
    folder: Path, form: str, size: tuple[int, int], boxes: list[tuple[int, Share]], orientation: int
) -> None:
    here = folder / f"{form}-turned"
    write_image(here / "images" / "a.jpg", size, orientation)
    stored = WRITERS[form](here, [Truth(name="a", size=size, boxes=boxes)])
    turned = [(number, upright(corners, orientation)) for number, corners in boxes]
    assert_same(only_sample(dataclasses.replace(stored, boxes_of="stored")), turned)
    as_seen = size[::-1] if orientation >= 5 else size
    assert_same(only_sample(WRITERS[form](here, [Truth(name="a", size=as_seen, boxes=turned)])), turned)


def upright(corners: Share, orientation: int) -> Share:
    x1, y1, x2, y2 = corners
    box = Box(x1=x1, y1=y1, x2=x2, y2=y2).upright(orientation)
    return box.x1, box.y1, box.x2, box.y2


@pytest.mark.parametrize("form", sorted(WRITERS))
@settings(max_examples=15, deadline=None)
@given(size=size, boxes=boxes, shift=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_an_image_that_was_padded_to_a_square(
    folder: Path, form: str, size: tuple[int, int], boxes: list[tuple[int, Share]], shift: tuple[float, float]
) -> None:
    """Boxes of a picture somewhere on a canvas come back to the picture within a bin of the canvas."""
    canvas = max(size)
    start = [(canvas - side) * at / canvas for side, at in zip(size, shift, strict=True)] * 2
    scale = [side / canvas for side in size] * 2
    padded = [
        (n, tuple(min(a + side * s, 1.0) for a, side, s in zip(start, corners, scale, strict=True)))
        for n, corners in boxes
    ]
    assume(all(x2 - x1 >= THICK and y2 - y1 >= THICK for _, (x1, y1, x2, y2) in padded))
    here = folder / f"{form}-padded"
    write_image(here / "images" / "a.jpg", (canvas, canvas))
    sample = only_sample(WRITERS[form](here, [Truth(name="a", size=(canvas, canvas), boxes=padded)]))
    found = [
        [(bin_ / BINS - a) / s for bin_, a, s in zip(item.box.bins(), start, scale, strict=True)]
        for item in parse_boxes(sample.answer)[0]
    ]
    for _, corners in boxes:
        assert any(
            all(abs(x - y) * s <= 1 / BINS for x, y, s in zip(one, corners, scale, strict=True)) for one in found
        )


def test_orientation_of_the_pixels_and_of_the_boxes_agree(tmp_path: Path) -> None:
    """The black square of each picture, turned as EXIF says, is where the answer says."""
    for orientation in range(1, 9):
        picture = PIL.Image.new("RGB", (120, 80), "white")
        picture.paste("black", (10, 20, 40, 70))
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        (tmp_path / "images").mkdir(exist_ok=True)
        picture.save(tmp_path / "images" / "a.jpg", exif=exif, quality=95)
        truth = Truth(name="a", size=(120, 80), boxes=[(0, (10 / 120, 20 / 80, 40 / 120, 70 / 80))])
        source = dataclasses.replace(WRITERS["yolo"](tmp_path, [truth]), boxes_of="stored")
        (path,) = source.inputs()
        (unit,) = filter(None, source.units(path, path))
        shown = source.view(unit, unit.files).picture
        made = source.make(unit, unit.files)
        assert isinstance(made, Written) and shown is not None
        ((item,), _) = parse_boxes(made.samples[0].answer)
        seen = PIL.Image.open(io.BytesIO(shown.data)).convert("L").point(lambda value: 255 if value < 128 else 0)
        x1, y1, x2, y2 = item.box.to_xyxy_px(width=seen.width, height=seen.height)
        assert seen.getbbox() == pytest.approx((x1, y1, x2, y2), abs=1.0)
