from __future__ import annotations

import base64
import io

import PIL.Image
import pytest

from datagen.card.pictures import COLOURS, THUMBNAIL_PX, Outline, data_url, draw_answer, shrunk, thumbnail
from varyforge.boxes import Box

BOX = Box(x1=0.035, y1=0.024, x2=0.847, y2=0.901)


def test_the_box_of_a_phrase_and_the_phrase_of_a_box() -> None:
    forth = draw_answer("referring", "[035, 024, 847, 901]", "<image>Detect an object: the left woman.")
    back = draw_answer("referring", "the left woman", "<image>Describe the object at [035, 024, 847, 901].")
    for drawing, name in ((forth, "the object"), (back, "the left woman")):
        assert [outline.box for outline in drawing.outlines] == [BOX]
        assert [(entry.name, entry.count) for entry in drawing.legend] == [(name, 1)]
        assert drawing.not_boxes == []


def test_an_answer_that_is_no_box_is_shown_as_such() -> None:
    assert draw_answer("referring", "over there", "<image>Detect an object: the left woman.").not_boxes == [
        "over there"
    ]
    assert draw_answer("caption", "It lies at [1, 2, 3, 4].", "<image>[1, 2, 3, 4]?").outlines == []


def test_a_class_has_a_colour_and_a_count() -> None:
    drawing = draw_answer("detection", "cat: [0, 0, 500, 500]; dog: [1, 1, 9, 9]; cat: [0, 0, 999, 999]", "<image>?")
    assert [(entry.name, entry.count, entry.colour) for entry in drawing.legend] == [
        ("cat", 2, COLOURS[0]), ("dog", 1, COLOURS[1]),
    ]  # fmt: skip
    assert [outline.colour for outline in drawing.outlines] == [COLOURS[0], COLOURS[1], COLOURS[0]]


def encoded(width: int, height: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    PIL.Image.new(mode, (width, height), "white").save(out, "PNG")
    return out.getvalue()


def opened(url: str) -> PIL.Image.Image:
    kind, _, data = url.partition(";base64,")
    assert kind == "data:image/jpeg"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@pytest.mark.parametrize(
    ("size", "small"), [((840, 420), (420, 210)), ((100, 50), (100, 50)), ((300, 1200), (105, 420))]
)
def test_a_thumbnail_is_small_and_keeps_its_shape(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert opened(thumbnail(encoded(*size))).size == small
    assert max(small) <= THUMBNAIL_PX


def test_boxes_are_drawn_with_their_labels() -> None:
    box = Box(x1=0.25, y1=0.25, x2=0.75, y2=0.75)
    plain = thumbnail(encoded(400, 400))
    unnamed = opened(thumbnail(encoded(400, 400), [Outline(box=box, colour="#d62728")]))
    red, green, _ = unnamed.getpixel((100, 200))  # type: ignore[misc]
    assert red > 180 and green < 100, "the left side of the box"
    assert min(unnamed.getpixel((200, 200))) > 240, "the inside"  # type: ignore[arg-type]
    named, chinese = (
        thumbnail(encoded(400, 400), [Outline(box=box, colour="#d62728", label=label)]) for label in ("cat", "猫")
    )
    assert opened(named).tobytes() != unnamed.tobytes() == opened(chinese).tobytes()
    assert opened(plain).tobytes() != unnamed.tobytes()


def test_a_box_without_room_is_drawn() -> None:
    point = Box(x1=0.5, y1=0.5, x2=0.501, y2=0.501)
    assert opened(thumbnail(encoded(50, 50), [Outline(box=point, colour="#d62728")])).size == (50, 50)


def test_a_picture_is_shrunk_to_a_jpeg() -> None:
    small = PIL.Image.open(io.BytesIO(shrunk(encoded(1000, 400, "RGBA"), 200)))
    assert (small.format, small.mode, small.size) == ("JPEG", "RGB", (200, 80))
    assert shrunk(encoded(30, 30), 200) == shrunk(encoded(30, 30), 200)


def test_bytes_as_a_url() -> None:
    assert data_url("image/png", b"abc") == "data:image/png;base64,YWJj"
