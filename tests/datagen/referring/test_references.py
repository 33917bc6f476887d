"""Readers of referring expressions: each record becomes a reference or a failure, in its place."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.referring.references import MAX_LINE_BYTES, Reference, read_lines, read_refcoco
from varyforge.outcome import Failed

SCALARS = st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner))
KEYS = st.sampled_from("image phrase bbox width height id licence license split".split())
RECORDS = st.dictionaries(KEYS, VALUES | st.lists(st.integers(0, 90), min_size=4, max_size=4))
GOOD = {"image": "a.jpg", "phrase": "left", "bbox": [1, 2, 3, 4]}


def read(*lines: object) -> list[tuple[int, Reference | Failed]]:
    data = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return list(read_lines(io.BytesIO(data), "xyxy_px"))


@settings(max_examples=50)
@given(st.lists(RECORDS | VALUES, max_size=6))
def test_any_json_is_a_reference_or_a_failure(items: list[Any]) -> None:
    outcomes = read(*items)
    assert [number for number, _ in outcomes] == list(range(1, len(items) + 1))
    for _, one in outcomes:
        if isinstance(one, Failed):
            assert one.reason == "wrong_form" and one.detail
        else:
            assert (len(one.box) == 4 and one.size is None) or min(one.size or (1, 1)) >= 1


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=5))
def test_any_bytes_are_failures_and_empty_lines_nothing(lines: list[bytes]) -> None:
    outcomes = read(*lines)
    assert [number for number, _ in outcomes] == [n for n, line in enumerate(lines, 1) if line.strip()]
    assert all(isinstance(one, Failed) for _, one in outcomes)


def test_a_record_with_everything() -> None:
    more = {"width": 200, "height": 100, "id": 7, "license": "cc-by", "split": "val"}
    ((number, one),) = read({**GOOD, **more})
    assert number == 1 and isinstance(one, Reference)
    assert (one.image, one.phrases, one.box, one.convention) == ("a.jpg", ("left",), (1, 2, 3, 4), "xyxy_px")
    assert (one.size, one.split, one.origin) == ((200, 100), "val", {"id": 7, "licence": "cc-by"})


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"image": 4}, "key 'image' is a int, expected str"),
        ({"phrase": None}, "key 'phrase' is a NoneType, expected str"),
        ({"bbox": [1, 2, 3]}, "'bbox' is not four numbers"),
        ({"bbox": [1, 2, 3, True]}, "'bbox' is not four numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "'bbox' is not four numbers"),
        ({"bbox": [1, 2, 3, 10**400]}, "'bbox' is not four numbers"),
        ({"width": 200}, "key 'height' is missing, expected int"),
        ({"width": 200, "height": 0}, "an image of 200x0 px"),
        ({"split": 4}, "key 'split' is a int, expected str"),
        ({"id": [1]}, "key 'id' is a list"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], detail: str) -> None:
    ((_, one), (_, other)) = read({**GOOD, **changes}, GOOD)
    assert isinstance(one, Failed) and detail in one.detail
    assert isinstance(other, Reference)


def test_too_long_a_line_costs_itself() -> None:
    long = json.dumps({**GOOD, "phrase": "x" * (2 * MAX_LINE_BYTES)}).encode()
    outcomes = read(GOOD, long, GOOD)
    assert [(number, type(one)) for number, one in outcomes] == [(1, Reference), (2, Failed), (3, Reference)]


def instances(**changes: Any) -> bytes:
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in (1, 2)],
        "annotations": [{"id": n, "image_id": 1 + n % 2, "bbox": [0, 0, 5, 5]} for n in range(4)],
    }
    return json.dumps(content | changes).encode()


def ref(number: int, image: int) -> dict[str, Any]:
    sentences = [{"sent": f"thing {number}"}]
    return {"ref_id": number, "ann_id": number, "image_id": image, "sentences": sentences, "split": "train"}


def test_references_stand_together_by_image_and_keep_their_numbers() -> None:
    outcomes = read_refcoco([ref(1, 2), ref(0, 1), ref(3, 2), ref(2, 1), "odd"], instances())
    assert [number for number, _ in outcomes] == [4, 1, 3, 0, 2]
    images = [one.image for _, one in outcomes if isinstance(one, Reference)]
    assert images == ["1.jpg", "1.jpg", "2.jpg", "2.jpg"]


@pytest.mark.parametrize(
    ("refs", "content", "message"),
    [
        ({"a": 1}, instances(), "the refs are a dict, expected a list"),
        ([], b"{", "instances.json: not JSON"),
        ([], instances(images=None), "key 'images' is not there or not a list"),
        ([], instances(annotations={}), "key 'annotations' is not there or not a list"),
        ([], b"[]", "key 'images' is not there"),
    ],
)
def test_files_in_another_format(refs: Any, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_refcoco(refs, content)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"image_id": 9}, "unlisted_image"),
        ({"ann_id": 9}, "unlisted_annotation"),
        ({"image_id": 1}, "wrong_form"),
        ({"sentences": "thing"}, "wrong_form"),
        ({"sentences": [{"raw": "thing"}]}, "wrong_form"),
        ({"split": None}, "wrong_form"),
    ],
)
def test_a_reference_that_fits_nothing(changes: dict[str, Any], reason: str) -> None:
    ((_, one),) = read_refcoco([ref(1, 2) | changes], instances())
    assert isinstance(one, Failed) and one.reason == reason


def test_an_id_with_several_entries_is_no_reference() -> None:
    listed = json.loads(instances())
    changed = {
        name: [*listed[name], {**listed[name][0], "file_name": "other.jpg", "bbox": [0, 0, 9, 9]}]
        for name in ("images", "annotations")
    }
    for name, rows in changed.items():
        first = next(iter(listed["images"]))["id"]
        (one,) = read_refcoco([ref(0, first)], json.dumps({**listed, name: rows}).encode())
        assert isinstance(one[1], Failed) and "is listed several times in instances.json" in one[1].detail
