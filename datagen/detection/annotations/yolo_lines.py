"""The lines of YOLO label files. Tools write other things in their place: predictions, tracks, landmarks of faces.

A class number and four numbers are a box, and more numbers a polygon. The other lines are told from polygons by their
count of numbers, by numbers that are no shares of the image, and by points that lie in the box before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.detection.annotations.raw_boxes import RawBox, Unread, numbers_of
from varyforge.boxes import Numbers, numbers_around

NUMBER = "lines_with_a_number_behind_the_box"
TRACK = "lines_with_confidence_and_track"
POINTS = "lines_with_points_behind_the_box"
_SLACK = 0.02  # a share of the image beyond its edge that a box may have
_BEYOND = 0.1  # a share of the image beyond its edge that a careless polygon may have
_MOST_POINTS = 21  # key points of a hand; longer lines are outlines
_MALFORMED = "malformed_annotations"


def read_label_lines(lines: Sequence[str], names: Mapping[int, str], *, has_points: bool) -> list[RawBox | Unread]:
    """Return the box of each line (of a polygon the box around it), or the reason why it has none.

    `has_points` says that points follow each box (`kpt_shape` in data.yaml); they are not read. Otherwise all lines
    with as many numbers as a line of a box and points are such lines too.
    """
    rows = [words for line in lines if (words := line.split())]
    if has_points:
        return [_box(words[:5], names, "") for words in rows]
    notes = [_other_than_polygon(words[1:]) if len(words) > 5 else "" for words in rows]
    counts = {len(words) for words, note in zip(rows, notes, strict=True) if note == POINTS}
    return [
        _box(words, names, POINTS if len(words) in counts else note) for words, note in zip(rows, notes, strict=True)
    ]


def are_labels(lines: Sequence[str]) -> bool:
    """Return whether the first line of a text is one of a label file: a class number and four numbers or more."""
    words = next((line.split() for line in lines if line.strip()), [])
    return len(words) > 4 and _class_number(words[0]) is not None and numbers_of(words[1:5]) is not None


def _box(words: Sequence[str], names: Mapping[int, str], note: str) -> RawBox | Unread:
    number = _class_number(words[0])
    label = "" if number is None else names.get(number)
    numbers = None if note else _numbers(words[1:])
    if number is None or numbers is None:
        return Unread(note or _MALFORMED, label)
    return RawBox(label, numbers) if label else Unread("boxes_of_unknown_classes", None)


def _numbers(values: Sequence[str]) -> Numbers | None:
    """Return centre and size of a box, or of the box around a polygon. None for malformed or too few points."""
    if len(values) <= 4:
        return numbers_of(values)
    points = [numbers_of([x, y, 0, 0]) for x, y in zip(values[::2], values[1::2], strict=False)]
    if len(values) % 2 or len(points) < 3 or None in points:
        return None
    return numbers_around([(point[0], point[1]) for point in points if point], "cxcywh")


def _class_number(word: str) -> int | None:
    """Return a class number, which numpy and pandas write as 0.0 too."""
    try:
        value = float(word)
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value < 1e9 else None


def _other_than_polygon(values: Sequence[str]) -> str:
    """Return the note of a line with more numbers than a box that is no polygon, or ""."""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return _MALFORMED
    shares = bool(np.all((numbers >= -_BEYOND) & (numbers <= 1 + _BEYOND)))
    if len(values) == 5:
        return NUMBER
    if len(values) == 6 and (values[5].isdecimal() or (numbers[5] > 1 and numbers[5].is_integer())):
        return TRACK
    if _is_box(numbers[:4]) and _has_points(numbers, shares):
        return POINTS
    return "" if shares and len(values) % 2 == 0 else _MALFORMED


def _is_box(numbers: NDArray[np.float64]) -> bool:
    """Return whether four numbers can be centre and size of a box in the image."""
    low, high = numbers[:2] - numbers[2:] / 2, numbers[:2] + numbers[2:] / 2
    return bool(np.all(numbers[2:] > 0) and np.all(low >= -_SLACK) and np.all(high <= 1 + _SLACK))


def _has_points(numbers: NDArray[np.float64], shares: bool) -> bool:
    """Return whether points follow the box, and not the points of a polygon from the first number on.

    A missing point is -1 or 0, and an outline does not cross itself. A third number of each point is its visibility.
    """
    if len(numbers) % 3 == 1 and np.isin(numbers[6::3], (0, 1, 2)).all():
        return True
    if not shares or len(numbers) % 2:
        return True
    centre, size, points = numbers[:2], numbers[2:4], numbers[4:].reshape(-1, 2)
    inside = np.all(np.abs(points - centre) <= size * (0.5 + _BEYOND), axis=1) | np.all(points <= 0, axis=1)
    return bool(inside.all()) and len(points) <= _MOST_POINTS and _crosses_itself(numbers.reshape(-1, 2))


def _crosses_itself(outline: NDArray[np.float64]) -> bool:
    """Return whether two sides of a closed outline, (points, 2), cross."""
    start, end = outline, np.roll(outline, -1, axis=0)

    def side(point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return on which side of each line (rows) each point (columns) lies."""
        along, to = end - start, point[None] - start[:, None]
        return np.sign(along[:, None, 0] * to[..., 1] - along[:, None, 1] * to[..., 0])

    parted = side(start) * side(end) < 0
    return bool((parted & parted.T).any())
