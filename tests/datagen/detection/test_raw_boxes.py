"""From a data set's boxes to those of an answer: nothing is lost uncounted, and the order is fixed."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.detection.annotations.raw_boxes import RawBox, numbers_of, to_boxes
from datagen.detection.source import DetectionSource
from datagen.source import Unit
from tests.datagen.boxed_images import write_image
from varyforge.boxes import format_boxes, parse_boxes
from varyforge.outcome import Rejected, Written

LABELS = st.sampled_from(["cat", "Dog", "dog", " cow ", "", "\u200b"])
NUMBERS = st.tuples(*[st.floats(-300, 300)] * 4)
BOXES = st.lists(st.builds(RawBox, LABELS, NUMBERS), max_size=12)
DROPPED = (
    "boxes_of_dropped_classes",
    "boxes_of_unknown_classes",
    "malformed_annotations",
    "outside_boxes",
    "degenerate_boxes",
    "duplicate_boxes",
)


@given(BOXES)
def test_every_box_is_in_the_answer_or_counted(raw: list[RawBox]) -> None:
    boxes, notes = to_boxes(raw, "xyxy_px", (200, 100))
    assert len(boxes) + sum(notes[note] for note in DROPPED) == len(raw)
    assert all(count > 0 for count in notes.values())
    assert all(0 <= corner <= 1000 for item in boxes for corner in item.box.bins())


@given(BOXES, st.randoms(use_true_random=False))
def test_the_order_of_the_annotations_does_not_matter(raw: list[RawBox], rng: random.Random) -> None:
    shuffled = rng.sample(raw, len(raw))
    boxes, notes = to_boxes(raw, "xyxy_px", (200, 100))
    others, other_notes = to_boxes(shuffled, "xyxy_px", (200, 100))
    assert [(item.label, item.box.bins()) for item in boxes] == [(item.label, item.box.bins()) for item in others]
    assert {note: notes[note] for note in DROPPED} == {note: other_notes[note] for note in DROPPED}


@given(BOXES)
def test_classes_are_sorted_and_boxes_run_from_top_to_bottom(raw: list[RawBox]) -> None:
    boxes, _ = to_boxes(raw, "xyxy_px", (200, 100))
    keys = [(item.label, item.box.bins()[1], item.box.bins()[0]) for item in boxes]
    assert keys == sorted(keys)
    if boxes:
        again, malformed = parse_boxes(format_boxes(boxes))
        assert [(item.label, item.box.bins()) for item in again] == [(item.label, item.box.bins()) for item in boxes]
        assert not malformed


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1, 2, 3, 4), (1.0, 2.0, 3.0, 4.0)),
        (("1", " 2.5", "-3e1", "0"), (1.0, 2.5, -30.0, 0.0)),
        ((1, 2, 3), None),
        ((1, 2, 3, 4, 5), None),
        ((1, 2, 3, "x"), None),
        ((1, 2, 3, None), None),
        ((1, 2, 3, math.nan), None),
        ((1, 2, 3, "inf"), None),
        ((1e308, 1e308, 0, 0), None),  # their sum is not finite
        ((1, 2, 3, 10**400), None),
    ],
)
def test_four_finite_numbers(values: tuple[object, ...], expected: tuple[float, ...] | None) -> None:
    assert numbers_of(values) == expected


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 30)), min_size=1, max_size=8), st.integers(0, 3))
def test_random_classes_are_asked_for_with_all_their_boxes(
    tmp_path_factory: pytest.TempPathFactory, classes: list[tuple[int, int]], seed: int
) -> None:
    """REC: no question has more than `max_boxes` boxes, no class stands in two, and none is asked for in part."""
    folder = Path(tmp_path_factory.getbasetemp()) / "rec"
    if not (folder / "a.jpg").exists():
        write_image(folder / "a.jpg", (100, 100))
    counts = Counter[str]()
    boxes = []
    for label, count in classes:
        for _ in range(count):
            x, y = divmod(len(boxes), 16)
            boxes.append([f"class {label}", x * 6, y * 6, x * 6 + 4, y * 6 + 4])
            counts[f"class {label}"] += 1
    source = DetectionSource(
        format="coco", annotations="a.json", images=str(folder), convention="xyxy_px", max_boxes=12, seed=seed
    )
    payload = {"image_id": 1, "size": (100, 100), "boxes": boxes, "left_out": {}, "licence": ""}
    unit = Unit(id="a", document="a", content="a", files=(str(folder / "a.jpg"),), payload=payload)
    outcome = source.make(unit, unit.files)
    if len(boxes) > 12 and min(counts.values()) > 12:
        assert isinstance(outcome, Rejected) and outcome.gate == "boxes_per_class"
        return
    assert isinstance(outcome, Written)
    answered = [Counter(item.label for item in parse_boxes(sample.answer)[0]) for sample in outcome.samples]
    assert all(sum(answer.values()) <= 12 for answer in answered)
    assert sum(map(len, answered)) == len(set().union(*answered))
    large = {label for label, count in counts.items() if count > 12}
    assert sum(answered, Counter()) == {label: n for label, n in counts.items() if label not in large}
    assert outcome.notes.get("boxes_of_large_classes", 0) == (
        sum(counts[label] for label in large) if len(boxes) > 12 else 0
    )
    assert {sample.task for sample in outcome.samples} == {"detection" if len(boxes) <= 12 else "referring"}
