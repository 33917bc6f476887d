from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varyforge.boxes import (
    BINS,
    Box,
    Convention,
    LabelledBox,
    Numbers,
    around_turned,
    boxes_within,
    clean_label,
    clipped_box,
    corners_of,
    format_box,
    format_boxes,
    numbers_around,
    ordered,
    parse_boxes,
)


def test_the_papers_figure() -> None:
    text = "Person: [535, 544, 568, 591];\nCar: [009, 552, 058, 737], [682, 598, 999, 976];\nBus: [044, 070, 913, 909]."
    boxes, refused = parse_boxes(text)
    assert refused == []
    assert [item.label for item in boxes] == ["Person", "Car", "Car", "Bus"]
    assert boxes[1].box == Box(x1=0.009, y1=0.552, x2=0.058, y2=0.737)
    assert format_boxes(boxes) == text


def test_conventions() -> None:
    box, clipped = clipped_box((10, 20, 30, 40), "xywh_px", width=100, height=200)
    assert not clipped and box == clipped_box((10, 20, 40, 60), "xyxy_px", width=100, height=200)[0]
    assert box.to_xyxy_px(width=100, height=200) == pytest.approx((10, 20, 40, 60))
    assert (
        format_boxes([LabelledBox(label="whole", box=Box(x1=0, y1=0, x2=1, y2=1))]) == "whole: [000, 000, 1000, 1000]."
    )


side = st.integers(0, BINS - 1).flatmap(lambda low: st.tuples(st.just(low), st.integers(low + 1, BINS)))
label = st.text(min_size=1, max_size=20).map(clean_label).filter(lambda name: name and not name.endswith("."))


def test_a_box_that_stands_alone() -> None:
    """The paper's figure 1: "Detect the person" is answered without a class."""
    box = Box(x1=0.035, y1=0.024, x2=0.847, y2=0.901)
    assert format_box(box) == "[035, 024, 847, 901]"
    assert parse_boxes("[035, 24, 847, 901]") == ([LabelledBox(label="", box=box)], [])
    assert parse_boxes("cat: [001, 002, 003, 004]; [035, 024, 847, 901].")[0][1:] == [LabelledBox(label="", box=box)]
    assert parse_boxes("the person [035, 024, 847, 901]") == ([], ["the person [035, 024, 847, 901]"])


@given(side, side, st.sampled_from(get_args(Convention)), st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
def test_every_convention_comes_back_within_one_bin(
    x: tuple[int, int], y: tuple[int, int], convention: Convention, size: tuple[int, int]
) -> None:
    (x1, x2), (y1, y2), (w, h) = [n / BINS for n in x], [n / BINS for n in y], size
    numbers = {
        "xywh_px": (x1 * w, y1 * h, (x2 - x1) * w, (y2 - y1) * h),
        "xyxy_px": (x1 * w, y1 * h, x2 * w, y2 * h),
        "xyxy_voc": (x1 * w + 1, y1 * h + 1, x2 * w, y2 * h),
        "xyxy": (x1, y1, x2, y2),
        "cxcywh": ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
        "xyxy_1000": (x[0], y[0], x[1], y[1]),
    }[convention]
    box, clipped = clipped_box(numbers, convention, width=w, height=h)
    assert box is not None and not clipped
    assert box.bins() == (x[0], y[0], x[1], y[1])
    assert parse_boxes(format_box(box))[0][0].box.bins() == box.bins()


def test_boxes_in_a_sentence() -> None:
    boxes = [Box(x1=0.035, y1=0.024, x2=0.847, y2=0.901), Box(x1=0, y1=0, x2=1, y2=0.5)]
    assert boxes_within("What is at [035, 024, 847, 901] and [0, 0, 1000, 500], not [9, 9, 1, 1]?") == boxes
    assert boxes_within("What is in this image?") == []


def test_clipping() -> None:
    def clip(*numbers: float) -> tuple[Box | None, bool]:
        a, b, c, d = numbers
        return clipped_box((a, b, c, d), "xyxy_px", width=100, height=100)

    assert clip(-10, 0, 50, 120) == (Box(x1=0, y1=0, x2=0.5, y2=1), True)
    assert clip(0, 0, 100.00000001, 50) == (Box(x1=0, y1=0, x2=1, y2=0.5), False)  # a sum of decimals
    for nothing in ((50, 0, 50, 50), (120, 0, 150, 50), (50, 0, 50.04, 50)):
        assert clip(*nothing) == (None, False)


@pytest.mark.parametrize(
    ("numbers", "convention", "right"),
    [
        ((50, 80, 20, 50), "xyxy_px", (20, 50, 50, 80)),
        ((120, 60, 40, 160), "xyxy_voc", (40, 60, 120, 160)),
        ((41, 60, 40.5, 160), "xyxy_voc", (41, 60, 40.5, 160)),  # half a pixel wide
        ((50, 20, -30, 10), "xywh_px", (20, 20, 30, 10)),  # drawn from right to left
        ((0.5, 0.5, -0.2, 0.1), "cxcywh", (0.5, 0.5, 0.2, 0.1)),
    ],
)
def test_swapped_corners_are_put_in_order(numbers: Numbers, convention: Convention, right: Numbers) -> None:
    assert ordered(numbers, convention) == right == ordered(right, convention)
    assert clipped_box(numbers, convention, width=200, height=200) == clipped_box(
        right, convention, width=200, height=200
    )


@pytest.mark.parametrize("convention", ["xywh_px", "xyxy_px", "xyxy_voc"])
def test_the_box_around_points_and_around_a_turned_box(convention: Convention) -> None:
    def corners(numbers: Numbers) -> Numbers:
        return corners_of(numbers, convention, width=1, height=1)

    box = numbers_around([(110, 110), (210, 130), (150, 120)], convention)
    assert corners(box) == (110, 110, 210, 130)
    assert corners(around_turned(box, convention, 90)) == pytest.approx((150, 70, 170, 170))
    assert corners(around_turned(box, convention, -180)) == pytest.approx((110, 110, 210, 130))
    side = (100 + 20) / 2**0.5
    assert corners(around_turned(box, convention, 45)) == pytest.approx(
        (160 - side / 2, 120 - side / 2, 160 + side / 2, 120 + side / 2)
    )


@given(st.lists(st.tuples(label, side, side), min_size=1, max_size=30))
def test_text_round_trip_within_one_bin(raw: list[tuple[str, tuple[int, int], tuple[int, int]]]) -> None:
    boxes = [
        LabelledBox(label=name, box=Box(x1=x1 / BINS, y1=y1 / BINS, x2=x2 / BINS, y2=y2 / BINS))
        for name, (x1, x2), (y1, y2) in raw
    ]
    grouped = sorted(boxes, key=lambda item: [b.label for b in boxes].index(item.label))  # classes come together
    found, refused = parse_boxes(format_boxes(boxes))
    assert refused == []
    assert found == grouped


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("", []),
        ("There is nothing here.", ["There is nothing here"]),
        ("cat: [500, 100, 400, 200].", ["[500, 100, 400, 200]"]),  # swapped corners
        ("cat: [1, 2, 3].", ["cat: [1, 2, 3]"]),
        ("cat: [001, 002, 003, 1001].", ["[001, 002, 003, 1001]"]),
    ],
)
def test_what_is_no_box_is_refused_not_guessed(text: str, refused: list[str]) -> None:
    assert parse_boxes(text) == ([], refused)


def test_box_and_label_rules() -> None:
    with pytest.raises(ValueError, match="empty or leaves"):
        Box(x1=0.5, y1=0, x2=0.5, y2=1)
    with pytest.raises(ValueError, match="empty or leaves"):
        Box(x1=0.9, y1=0, x2=1.1, y2=0.1)
    assert clean_label("tv: [old];\n model") == "tv old model"
    with pytest.raises(ValueError, match="cannot stand in box text"):
        format_boxes([LabelledBox(label="a: b", box=Box(x1=0, y1=0, x2=1, y2=1))])
    with pytest.raises(ValueError, match="no boxes"):
        format_boxes([])
