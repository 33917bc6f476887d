"""What a picture looks like, in 4 kB: to know it again resized, re-encoded, cropped a little or made grey.

Two looks are compared in two steps. The first is one product of vectors: the lowest frequencies of the picture's
cosine transform (as in pHash), weighted by their frequency because pictures have power falling with it. Guarded
pictures are described without their outer 2.5 % a side, pictures asked about with it: half of `CROP`, so that what
lost nothing and what lost 5 % of a side are equally far away. Few guarded pictures come near, and with these the second
step lays the thumbnails over each other (four edges of a box, by Gauss-Newton as in Lucas and Kanade 1981, "An
iterative image registration technique") and compares their details place by place: pages and charts that differ in one
place look alike at large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

Floats = npt.NDArray[np.floating[Any]]  # of 32 bits
Bytes = npt.NDArray[np.uint8]

SIDE = 64  # pixels of a thumbnail, whatever the picture's form
CROP = 0.05  # of a picture's width or height, that may be cut off at each side
NEAR = 0.8  # vectors of one picture agree to more; see `benchmarks/guard.py`
ALIKE = 0.8  # similarity of one picture's looks; of others hardly any reach it (the same place)

_FREQUENCIES = 8  # a side of the cosine transform
_FAINT = 3.0  # standard deviation in grey levels: a picture below has nothing to know it by
_FLAT = 8  # grey levels between which a line of a bar or margin stays
_LEAST = 8  # thumbnail pixels a side that remain between margins
_WHOLE = np.array([[0, 0, 1, 1]], dtype=np.float32)

_OUTER = 1.2 * CROP  # of a box a side, left out of comparisons: a crop may have cut it off from the other picture
_POINTS = 24  # a side, at which two looks are laid over each other
_STEPS = 4  # of Gauss-Newton
_CLOSE = 0.6  # correlation after which comparing details is worth while
_FINE = 48  # points a side at which details are compared
_TILES = 6  # a side: the places that are compared one by one
_WORST = 3  # tiles, whose mean is the similarity


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """A picture's thumbnail, and the box inside its flat margins or bars (letterbox, a page's white)."""

    thumbnail: Bytes  # (64, 64) grey
    boxes: Floats  # (0, 1 or 2, 4) left, top, right, bottom in the unit square: all of it, what margins enclose


def fingerprint_of(picture: PIL.Image.Image) -> Fingerprint:
    """The look of a decoded picture (RGB or grey) as it is shown: upright, on white where it was transparent.

    A picture of one colour has no boxes and is like no other.
    """
    small = picture.reduce(max(1, min(picture.size) // (3 * SIDE // 2)))  # means of whole squares, on all pixels
    thumbnail = np.asarray(small.convert("L").resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR))
    if thumbnail.std() < _FAINT:
        return Fingerprint(thumbnail, _WHOLE[:0])
    inside = _inside_margins(thumbnail)
    return Fingerprint(thumbnail, _WHOLE if inside is None else np.concatenate([_WHOLE, inside]))


def guarded_vectors(look: Fingerprint) -> Floats:
    """(boxes, 51) vectors of unit length, to be kept; their products with `query_vectors` say how near looks are."""
    vectors = _vectors(look.thumbnail, _without(look.boxes, CROP / 2))
    return np.rint(vectors * 1024) / 1024  # the same on every machine, whatever adds up there in which order


def query_vectors(look: Fingerprint) -> tuple[Floats, Floats]:
    """(V, 51) vectors of a look that is asked about, and (V, 4) the boxes that they describe.

    A bar's edge lies within a pixel of the thumbnail, which is part bar: what it encloses is described without, too.
    """
    pixel = np.array([1, 1, -1, -1], dtype=np.float32) / SIDE
    inner = look.boxes[1:] + pixel * (look.boxes[1:] != _WHOLE)
    boxes = np.concatenate([look.boxes, inner])
    return _vectors(look.thumbnail, boxes), boxes


def similarities(asked: Bytes, asked_boxes: Floats, guarded: Bytes, guarded_boxes: Floats) -> Floats:
    """How alike a look is to each of K others, when laid over them as well as can be.

    Args:
        asked: (64, 64), the thumbnail.
        asked_boxes: (K, 4), what of it is near to what of each other.
        guarded: (K, 64, 64), the others' thumbnails.
        guarded_boxes: (K, 4).

    Returns:
        (K,): 1 for the same picture, 0 or less for others. The mean agreement at the three places that agree least.
    """
    found = np.zeros(len(guarded), dtype=np.float32)
    smooth = _SMOOTH @ np.concatenate([asked[None], guarded]).astype(np.float32) @ _SMOOTH.T
    one, others = smooth[:1], smooth[1:]
    ours, theirs = _without(asked_boxes, _OUTER), _without(guarded_boxes, _OUTER)
    ours, correlation = _laid_over(one, ours, others, theirs)
    kept = np.flatnonzero(correlation >= _CLOSE)
    if len(kept):
        our_details = _details(_seen(one, ours[kept], _FINE))
        found[kept] = _agreement(our_details, _details(_seen(others[kept], theirs[kept], _FINE)))
    return found


def _inside_margins(thumbnail: Bytes) -> Floats | None:
    """(1, 4) the box that lines of one grey enclose; None where no side has such lines, or all is such lines."""
    left, top, right, bottom = 0, 0, SIDE, SIDE
    while True:
        rows = np.flatnonzero(np.ptp(thumbnail[top:bottom, left:right], axis=1) > _FLAT)
        if not len(rows):
            return None
        top, bottom = top + int(rows[0]), top + int(rows[-1]) + 1
        columns = np.flatnonzero(np.ptp(thumbnail[top:bottom, left:right], axis=0) > _FLAT)
        if not len(columns):
            return None
        if columns[0] == 0 and columns[-1] == right - left - 1:
            break
        left, right = left + int(columns[0]), left + int(columns[-1]) + 1
    if (left, top, right, bottom) == (0, 0, SIDE, SIDE) or min(right - left, bottom - top) < _LEAST:
        return None
    return np.array([[left, top, right, bottom]], dtype=np.float32) / SIDE


def _vectors(thumbnail: Bytes, boxes: Floats) -> Floats:
    """(V, 51): the weighted low frequencies of what each of (V, 4) boxes shows, of unit length."""
    grey = thumbnail.astype(np.float32)
    sides = _cosines(np.concatenate([boxes[:, 1], boxes[:, 0]]), np.concatenate([boxes[:, 3], boxes[:, 2]]))
    transform = sides[: len(boxes)] @ grey @ sides[len(boxes) :].transpose(0, 2, 1)
    vectors = transform[:, _KEPT] * _WEIGHTS
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


def _frequencies() -> tuple[npt.NDArray[np.bool_], Floats]:
    """(8, 8) which frequencies make a vector, and (51,) their weights."""
    steps = np.arange(_FREQUENCIES)
    radius = np.hypot(steps[:, None], steps)
    kept = (radius > 0) & (radius < _FREQUENCIES - 0.5)
    return kept, radius[kept].astype(np.float32)


_KEPT, _WEIGHTS = _frequencies()
DIMENSIONS = len(_WEIGHTS)


def _cosines(low: Floats, high: Floats) -> Floats:
    """(V, 8, 64): cosines over [low, high] of a side; a pixel that is partly inside counts in part."""
    start = np.maximum(np.arange(SIDE) / SIDE, low[:, None])
    end = np.minimum(np.arange(1, SIDE + 1) / SIDE, high[:, None])
    share = np.maximum(end - start, 0) / (high - low)[:, None]
    place = ((start + end) / 2 - low[:, None]) / (high - low)[:, None]
    angles = np.pi * np.arange(_FREQUENCIES)[:, None] * place[:, None, :]
    return np.asarray(np.cos(angles) * share[:, None, :], dtype=np.float32)


def _laid_over(asked: Floats, boxes: Floats, guarded: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    """Moves each box's edges until it shows what the other's box shows: (K, 4) the best found, (K,) correlation."""
    target = _unit(_seen(guarded, theirs, _POINTS)).reshape(len(guarded), -1, 1)
    solve = _descent(target)
    best, correlation = boxes, np.full(len(boxes), -1, dtype=np.float32)
    for step in range(_STEPS + 1):
        seen = _unit(_seen(asked, boxes, _POINTS)).reshape(target.shape)
        agreement = (target * seen).sum(axis=1)
        better = agreement[:, 0] > correlation
        best = np.where(better[:, None], boxes, best)
        correlation = np.maximum(correlation, agreement[:, 0])
        if step < _STEPS:
            moves = (solve @ (seen / np.maximum(agreement, 0.2)[:, :, None] - target))[:, :, 0]
            boxes = boxes - np.clip(moves, -1.5, 1.5) * _sides(boxes) / _POINTS  # moves are in points
    return best, correlation


def _descent(target: Floats) -> Floats:
    """(K, 4, points): from the difference at each point to how far the four edges are from where they belong."""
    patches = target.reshape(-1, _POINTS, _POINTS)
    right, down = patches @ _SLOPE.T, _SLOPE @ patches
    share = ((np.arange(_POINTS) + 0.5) / _POINTS).astype(np.float32)
    moved = [right * (1 - share), down * (1 - share)[:, None], right * share, down * share[:, None]]
    slopes = np.stack(moved, axis=1).reshape(len(target), 4, -1)
    slopes = slopes - slopes.mean(axis=2, keepdims=True)  # brightness and contrast are free
    slopes = slopes - (slopes @ target) * target.transpose(0, 2, 1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damping = np.trace(normal, axis1=1, axis2=2)[:, None, None] * 1e-3 + 1e-9
    return np.asarray(np.linalg.inv(normal + np.eye(4, dtype=np.float32) * damping) @ slopes)


def _sides(boxes: Floats) -> Floats:
    """(K, 4): width, height, width, height."""
    return np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _without(boxes: Floats, share: float) -> Floats:
    """Boxes without that share of their width or height at each side."""
    return np.asarray(boxes + _sides(boxes) * np.array([share, share, -share, -share], dtype=np.float32))


def _seen(pictures: Floats, boxes: Floats, points: int) -> Floats:
    """(K, points, points): what (K, 4) boxes show of (K or 1, 64, 64) pictures, linear between pixels."""
    weights = _between(boxes[:, :2].T.ravel(), boxes[:, 2:].T.ravel(), points)
    return np.asarray(weights[len(boxes) :] @ pictures @ weights[: len(boxes)].transpose(0, 2, 1))


def _between(low: Floats, high: Floats, points: int) -> Floats:
    """(K, points, 64): weights of pixels at evenly spaced points of [low, high]."""
    places = low[:, None] + (high - low)[:, None] * ((np.arange(points, dtype=np.float32) + 0.5) / points)
    places = np.clip(places * SIDE - 0.5, 0, SIDE - 1)  # beyond the edge lies more of it
    return np.asarray(np.maximum(1 - np.abs(places[:, :, None] - np.arange(SIDE, dtype=np.float32)), 0))


def _unit(patches: Floats) -> Floats:
    """Patches of mean 0 and length 1."""
    centred = patches - patches.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True) + 1e-6))


def _details(patches: Floats) -> Floats:
    """What differs from the mean of the neighbourhood, of length 1 over the patch."""
    return _unit(patches - _AROUND @ patches @ _AROUND.T)


def _agreement(ours: Floats, theirs: Floats) -> Floats:
    """(K,): mean correlation of details in the tiles where it is least; where both are faint it is near 1."""
    common, both = _TILED @ (ours * theirs) @ _TILED.T, _TILED @ (ours * ours + theirs * theirs) @ _TILED.T / 2
    faint = 0.2 / _TILES**2  # a fifth of a tile's share, were all alike
    agreement = ((common + faint) / (both + faint)).reshape(len(ours), -1)
    return np.asarray(np.partition(agreement, _WORST, axis=1)[:, :_WORST].mean(axis=1))


def _band(size: int, weights: Sequence[float]) -> Floats:
    """(size, size): a filter along one side; beyond the edge lies more of it."""
    made = np.zeros((size, size), dtype=np.float32)
    reach = len(weights) // 2
    for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
        np.add.at(made, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return made


_SMOOTH = _band(SIDE, (0.25, 0.5, 0.25))  # so that a fraction of a pixel matters less
_SLOPE = _band(_POINTS, (-0.5, 0, 0.5))
_AROUND = _band(_FINE, (1 / 9,) * 9)
_TILED = np.repeat(np.eye(_TILES, dtype=np.float32), _FINE // _TILES, axis=1)  # sums up tiles
