"""Pictures inside a page of HTML, with boxes. Equal input gives equal bytes."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from varyforge.boxes import Box, LabelledBox, boxes_within, parse_boxes

BOX_TASKS = ("detection", "referring")
"""Tasks with boxes in question or answer."""

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#e07b00", "#17becf", "#8c564b", "#e377c2")
"""Colours of classes, in order of use. They differ on photographs and on white."""

THUMBNAIL_PX = 420  # longer side
_LABEL_CHARS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A box to draw."""

    box: Box
    colour: str  # "#rrggbb"
    width_px: int = 2
    label: str = ""  # drawn if it is ASCII, as the built-in font has no more


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A colour in a picture, with the class that it stands for."""

    name: str
    colour: str  # "#rrggbb"
    count: int  # boxes of that colour


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDrawing:
    """The boxes of an answer to draw, and the parts that are not boxes."""

    outlines: list[Outline]
    legend: list[LegendEntry]
    not_boxes: list[str]  # pieces of a detection answer that cannot be read as boxes


def draw_answer(task: str, answer: str, question: str) -> AnswerDrawing:
    """Return the boxes of an answer, read from the text, with a colour per class; none for a task without boxes.

    Where the question has the box and the answer the words, the question's box is drawn with the answer as label.
    """
    question_boxes = boxes_within(question) if task in BOX_TASKS else []
    boxes, not_boxes = parse_boxes(answer) if task in BOX_TASKS and not question_boxes else ([], [])
    boxes += [LabelledBox(label=answer, box=box) for box in question_boxes]
    counts = Counter(item.label for item in boxes)
    colour_of = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(counts)}
    return AnswerDrawing(
        outlines=[Outline(box=item.box, colour=colour_of[item.label], label=item.label) for item in boxes],
        legend=[
            LegendEntry(name=label or "the object", colour=colour_of[label], count=count)
            for label, count in counts.items()
        ],
        not_boxes=not_boxes,
    )


def thumbnail(data: bytes, outlines: Sequence[Outline] = ()) -> str:
    """Return an encoded RGB image as the `data:` URL of a JPEG of at most `THUMBNAIL_PX` pixels, with boxes."""
    picture = _opened(data, THUMBNAIL_PX)
    draw = PIL.ImageDraw.Draw(picture)
    for outline in outlines:
        x1, y1, x2, y2 = map(round, outline.box.to_xyxy_px(width=picture.width, height=picture.height))
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=outline.colour, width=outline.width_px)
        if outline.label and outline.label.isascii():  # white on the colour, inside the box
            font, text, corner = PIL.ImageFont.load_default(11), outline.label[:_LABEL_CHARS], (x1 + 3, y1 + 2)
            ground = draw.textbbox(corner, text, font=font)
            draw.rectangle(ground, fill=outline.colour, outline=outline.colour, width=2)
            draw.text(corner, text, fill="white", font=font)
    return data_url("image/jpeg", _jpeg(picture))


def shrunk(data: bytes, longest_px: int) -> bytes:
    """Return an encoded RGB image as a JPEG whose sides have at most `longest_px` pixels."""
    return _jpeg(_opened(data, longest_px))


def data_url(kind: str, data: bytes) -> str:
    """Return a `data:` URL of bytes of a media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _opened(data: bytes, longest_px: int) -> PIL.Image.Image:
    encoded = PIL.Image.open(io.BytesIO(data))
    encoded.thumbnail((longest_px, longest_px))  # first: a JPEG is then decoded at a fraction of its size
    return encoded.convert("RGB")


def _jpeg(picture: PIL.Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80, subsampling=0)  # subsampled colour would smear thin lines
    return out.getvalue()
