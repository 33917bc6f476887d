"""Image fingerprints of 4 kB that recognise a picture after resizing, re-encoding, slight cropping or in grey.

Two fingerprints are compared in two steps. The first step is a product of vectors: the lowest frequencies of the
picture's cosine transform (as in pHash), weighted by frequency because a picture's power falls with frequency. The
vector of a guarded picture leaves out 2.5 % at each side, half of `CROP`, and that of a query leaves out nothing. So
an uncropped query and a query cropped by 5 % are equally far away.

The second step aligns the thumbnails of the few nearest pictures (the four edges of a box, by Gauss-Newton as in Lucas
and Kanade 1981, "An iterative image registration technique") and compares their details tile by tile, because pages and
charts that differ in one place look alike at large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

Floats = npt.NDArray[np.floating[Any]]  # float32
Bytes = npt.NDArray[np.uint8]

SIDE = 64  # pixels of a thumbnail's side, for any aspect ratio
CROP = 0.05  # share of a picture's width or height that may be cropped at each side
NEAR = 0.8  # least product of two vectors of one picture (measured in benchmarks/guard.py)
ALIKE = 0.8  # least similarity of one picture's fingerprints (measured there, too)

_FREQUENCIES = 8  # frequencies per side of the cosine transform
_FAINT = 3.0  # least standard deviation of a recognisable picture, grey levels
_FLAT = 8  # most grey levels between the pixels of a line in a bar or margin
_LEAST = 8  # least side between margins, thumbnail pixels
_WHOLE = np.array([[0, 0, 1, 1]], dtype=np.float32)

_OUTER = 1.2 * CROP  # share left out at each side in comparisons, where the other picture may be cropped
_POINTS = 24  # sample points per side for the alignment
_STEPS = 4  # Gauss-Newton steps
_CLOSE = 0.6  # least correlation after alignment for a comparison of details
_FINE = 48  # sample points per side for details
_TILES = 6  # tiles per side whose details are compared
_WORST = 3  # number of worst tiles whose mean is the similarity


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """The thumbnail of a picture, and the box inside flat margins or bars (letterbox, white of a page)."""

    thumbnail: Bytes  # (64, 64) grey
    boxes: Floats  # (0, 1 or 2, 4) left, top, right, bottom in the unit square: the whole, the part inside margins


def fingerprint_of(picture: PIL.Image.Image) -> Fingerprint:
    """Return the fingerprint of a decoded, upright picture (RGB or grey, without transparency).

    The fingerprint of a picture of nearly one colour has no boxes and matches no other.
    """
    small = picture.reduce(max(1, min(picture.size) // (3 * SIDE // 2)))  # averages whole squares of pixels
    thumbnail = np.asarray(small.convert("L").resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR))
    if thumbnail.std() < _FAINT:
        return Fingerprint(thumbnail, _WHOLE[:0])
    inside = _inside_margins(thumbnail)
    return Fingerprint(thumbnail, _WHOLE if inside is None else np.concatenate([_WHOLE, inside]))


def guarded_vectors(fingerprint: Fingerprint) -> Floats:
    """Return (boxes, 51) unit vectors to store. Their products with `query_vectors` measure nearness."""
    vectors = _vectors(fingerprint.thumbnail, _without(fingerprint.boxes, CROP / 2))
    return np.rint(vectors * 1024) / 1024  # equal on every machine, in spite of other orders of summation


def query_vectors(query: Fingerprint) -> tuple[Floats, Floats]:
    """Return (V, 51) unit vectors of a query, and (V, 4) their boxes.

    The edge of a bar may lie inside a thumbnail pixel, so that the box inside bars is also taken one pixel smaller.
    """
    pixel = np.array([1, 1, -1, -1], dtype=np.float32) / SIDE
    inner = query.boxes[1:] + pixel * (query.boxes[1:] != _WHOLE)
    boxes = np.concatenate([query.boxes, inner])
    return _vectors(query.thumbnail, boxes), boxes


def similarities(query: Bytes, query_boxes: Floats, guarded: Bytes, guarded_boxes: Floats) -> Floats:
    """Return (K,) similarities of a (64, 64) thumbnail with K ≥ 1 guarded ones, (K, 64, 64), after alignment.

    `query_boxes` are (K, 4), the box of the query that is near to each of the (K, 4) guarded boxes. A similarity is 1
    for the same picture and 0 or less for another. It is the mean agreement of the three worst tiles.
    """
    scores = np.zeros(len(guarded), dtype=np.float32)
    smooth = _SMOOTH @ np.concatenate([query[None], guarded]).astype(np.float32) @ _SMOOTH.T
    one, others = smooth[:1], smooth[1:]
    ours, theirs = _without(query_boxes, _OUTER), _without(guarded_boxes, _OUTER)
    ours, correlation = _align(one, ours, others, theirs)
    close = np.flatnonzero(correlation >= _CLOSE)
    if len(close):
        our_details = _details(_sample(one, ours[close], _FINE))
        scores[close] = _agreement(our_details, _details(_sample(others[close], theirs[close], _FINE)))
    return scores


def _inside_margins(thumbnail: Bytes) -> Floats | None:
    """Return the (1, 4) box inside margins of flat lines, or None without such margins or such a box."""
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
    """Return (V, 51) unit vectors: weighted low frequencies of the content of each of (V, 4) boxes."""
    grey = thumbnail.astype(np.float32)
    sides = _cosines(np.concatenate([boxes[:, 1], boxes[:, 0]]), np.concatenate([boxes[:, 3], boxes[:, 2]]))
    transform = sides[: len(boxes)] @ grey @ sides[len(boxes) :].transpose(0, 2, 1)
    vectors = transform[:, _MASK] * _WEIGHTS
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))


_RADIUS = np.hypot(np.arange(_FREQUENCIES)[:, None], np.arange(_FREQUENCIES))
_MASK = (_RADIUS > 0) & (_RADIUS < _FREQUENCIES - 0.5)  # (8, 8), the frequencies in a vector
_WEIGHTS = _RADIUS[_MASK].astype(np.float32)  # (51,)
DIMENSIONS = len(_WEIGHTS)


def _cosines(low: Floats, high: Floats) -> Floats:
    """Return (V, 8, 64) cosines over [low, high] of a side. A pixel partly inside counts in part."""
    start = np.maximum(np.arange(SIDE) / SIDE, low[:, None])
    end = np.minimum(np.arange(1, SIDE + 1) / SIDE, high[:, None])
    share = np.maximum(end - start, 0) / (high - low)[:, None]
    centre = ((start + end) / 2 - low[:, None]) / (high - low)[:, None]
    angles = np.pi * np.arange(_FREQUENCIES)[:, None] * centre[:, None, :]
    return np.asarray(np.cos(angles) * share[:, None, :], dtype=np.float32)


def _align(query: Floats, boxes: Floats, guarded: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    """Move the edges of the query's boxes to match the guarded boxes. Return (K, 4) boxes and (K,) correlations."""
    target = _unit(_sample(guarded, theirs, _POINTS)).reshape(len(guarded), -1, 1)
    solve = _descent(target)
    best, correlation = boxes, np.full(len(boxes), -1, dtype=np.float32)
    for step in range(_STEPS + 1):
        seen = _unit(_sample(query, boxes, _POINTS)).reshape(target.shape)
        agreement = (target * seen).sum(axis=1)
        better = agreement[:, 0] > correlation
        best = np.where(better[:, None], boxes, best)
        correlation = np.maximum(correlation, agreement[:, 0])
        if step < _STEPS:
            moves = (solve @ (seen / np.maximum(agreement, 0.2)[:, :, None] - target))[:, :, 0]
            boxes = boxes - np.clip(moves, -1.5, 1.5) * _sides(boxes) / _POINTS  # moves are in sample points
    return best, correlation


def _descent(target: Floats) -> Floats:
    """Return (K, 4, points) matrices that map differences at the points to displacements of the four edges."""
    patches = target.reshape(-1, _POINTS, _POINTS)
    right, down = patches @ _SLOPE.T, _SLOPE @ patches
    share = ((np.arange(_POINTS) + 0.5) / _POINTS).astype(np.float32)
    moved = [right * (1 - share), down * (1 - share)[:, None], right * share, down * share[:, None]]
    slopes = np.stack(moved, axis=1).reshape(len(target), 4, -1)
    slopes = slopes - slopes.mean(axis=2, keepdims=True)  # any brightness and contrast
    slopes = slopes - (slopes @ target) * target.transpose(0, 2, 1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damping = np.trace(normal, axis1=1, axis2=2)[:, None, None] * 1e-3 + 1e-9
    return np.asarray(np.linalg.inv(normal + np.eye(4, dtype=np.float32) * damping) @ slopes)


def _sides(boxes: Floats) -> Floats:
    """Return (K, 4): width, height, width, height."""
    return np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def _without(boxes: Floats, share: float) -> Floats:
    """Return boxes reduced by `share` of their width or height at each side."""
    return np.asarray(boxes + _sides(boxes) * np.array([share, share, -share, -share], dtype=np.float32))


def _sample(pictures: Floats, boxes: Floats, points: int) -> Floats:
    """Return (K, points, points) samples of (K or 1, 64, 64) pictures in (K, 4) boxes, by linear interpolation."""
    weights = _between(boxes[:, :2].T.ravel(), boxes[:, 2:].T.ravel(), points)
    return np.asarray(weights[len(boxes) :] @ pictures @ weights[: len(boxes)].transpose(0, 2, 1))


def _between(low: Floats, high: Floats, points: int) -> Floats:
    """Return (K, points, 64) weights of pixels at evenly spaced points of [low, high]."""
    positions = low[:, None] + (high - low)[:, None] * ((np.arange(points, dtype=np.float32) + 0.5) / points)
    positions = np.clip(positions * SIDE - 0.5, 0, SIDE - 1)  # edge pixels continue beyond the edge
    return np.asarray(np.maximum(1 - np.abs(positions[:, :, None] - np.arange(SIDE, dtype=np.float32)), 0))


def _unit(patches: Floats) -> Floats:
    """Return patches scaled to mean 0 and length 1."""
    centred = patches - patches.mean(axis=(1, 2), keepdims=True)
    return np.asarray(centred / np.sqrt((centred * centred).sum(axis=(1, 2), keepdims=True) + 1e-6))


def _details(patches: Floats) -> Floats:
    """Return the differences from the local mean, scaled to length 1 per patch."""
    return _unit(patches - _AROUND @ patches @ _AROUND.T)


def _agreement(ours: Floats, theirs: Floats) -> Floats:
    """Return (K,) mean correlations of details in the worst tiles. Faint details in both pictures count as equal."""
    common, both = _TILED @ (ours * theirs) @ _TILED.T, _TILED @ (ours * ours + theirs * theirs) @ _TILED.T / 2
    faint = 0.2 / _TILES**2  # a fifth of a tile's share if details were spread evenly
    agreement = ((common + faint) / (both + faint)).reshape(len(ours), -1)
    return np.asarray(np.partition(agreement, _WORST, axis=1)[:, :_WORST].mean(axis=1))


def _band(size: int, weights: Sequence[float]) -> Floats:
    """Return a (size, size) filter along one side, with edge values continued beyond the edge."""
    band = np.zeros((size, size), dtype=np.float32)
    reach = len(weights) // 2
    for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
        np.add.at(band, (np.arange(size), np.clip(np.arange(size) + offset, 0, size - 1)), weight)
    return band


_SMOOTH = _band(SIDE, (0.25, 0.5, 0.25))  # reduces the effect of shifts below a pixel
_SLOPE = _band(_POINTS, (-0.5, 0, 0.5))
_AROUND = _band(_FINE, (1 / 9,) * 9)
_TILED = np.repeat(np.eye(_TILES, dtype=np.float32), _FINE // _TILES, axis=1)  # sums over tiles
