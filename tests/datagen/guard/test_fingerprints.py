"""Fingerprints of pictures: their shape, their stability, and how the similarity falls with a change."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from datagen.guard.image_similarity import (
    ALIKE,
    CROP,
    DIMENSIONS,
    NEAR,
    SIDE,
    fingerprint_of,
    guarded_vectors,
    query_vectors,
    similarities,
)
from tests.datagen.made_pictures import Picture, barred, cropped, page, scene


def similarity(guarded: Picture, query: Picture) -> float:
    """The largest over all pairs of boxes."""
    one, other = fingerprint_of(guarded), fingerprint_of(query)
    _, boxes = query_vectors(other)
    pairs = [(mine, theirs) for mine in boxes for theirs in one.boxes]
    thumbnails = np.repeat(one.thumbnail[None], len(pairs), axis=0)
    mine, theirs = (np.stack(side) for side in zip(*pairs, strict=True))
    return float(similarities(other.thumbnail, mine, thumbnails, theirs).max())


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1200, 300), (64, 64), (90, 800)])
def test_a_fingerprint_has_one_form_for_any_size(size: tuple[int, int]) -> None:
    one = fingerprint_of(scene(1, size))
    assert one.thumbnail.shape == (SIDE, SIDE) and one.thumbnail.dtype == np.uint8
    vectors = guarded_vectors(one)
    assert vectors.shape == (len(one.boxes), DIMENSIONS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=0.01)
    queries, boxes = query_vectors(one)
    assert len(queries) == len(boxes) and np.all(boxes[:, :2] < boxes[:, 2:])
    assert np.all((boxes >= 0) & (boxes <= 1))


def test_a_picture_is_most_like_itself() -> None:
    pictures = [scene(seed) for seed in range(4)]
    for number, query in enumerate(pictures):
        scores = [similarity(guarded, query) for guarded in pictures]
        assert int(np.argmax(scores)) == number and scores[number] > 0.95
        assert max(scores[:number] + scores[number + 1 :]) < 0.5 < ALIKE


def test_similarity_falls_with_the_size_of_a_change() -> None:
    original, scores = page(1), []
    for side in (0, 60, 200, 500):
        changed = original.copy()
        PIL.ImageDraw.Draw(changed).rectangle((150, 200, 150 + side, 200 + side), fill="black")
        scores.append(similarity(original, changed if side else original))
    assert scores == sorted(scores, reverse=True) and scores[0] > ALIKE > scores[-1]


@pytest.mark.parametrize("share", [0, CROP / 2, CROP])
def test_a_crop_within_the_limit_is_near(share: float) -> None:
    for picture in (scene(2), page(2)):
        guarded, query = fingerprint_of(picture), fingerprint_of(cropped(picture, share, share, share, share))
        products = guarded_vectors(guarded) @ query_vectors(query)[0].T
        assert products.max() >= NEAR
        assert similarity(picture, cropped(picture, share, share, share, share)) >= ALIKE


def test_half_a_picture_is_another_one() -> None:
    assert similarity(scene(3), cropped(scene(3), 0, 0, 0.5, 0)) < ALIKE


@pytest.mark.parametrize("colour", ["black", "white", "#406080"])
def test_bars_are_found_and_left_out(colour: str) -> None:
    original = scene(5)
    one = fingerprint_of(barred(original, colour))
    assert len(one.boxes) == 2
    top, bottom = one.boxes[1][1], one.boxes[1][3]
    bar = (original.height // 20) / (original.height + 2 * (original.height // 20))
    assert (top, 1 - bottom) == pytest.approx((bar, bar), abs=1.5 / SIDE)
    assert similarity(original, barred(original, colour)) >= ALIKE


def test_brightness_and_contrast_do_not_matter() -> None:
    original = scene(6)
    darker = original.point(lambda value: int(value * 0.6 + 20))
    assert similarity(original, darker) >= ALIKE


def test_a_blank_picture_has_no_vectors() -> None:
    blank = fingerprint_of(PIL.Image.new("RGB", (300, 200), (9, 9, 9)))
    vectors, boxes = query_vectors(blank)
    assert vectors.shape == (0, DIMENSIONS) and boxes.shape == (0, 4)
