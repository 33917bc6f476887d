from __future__ import annotations

from collections.abc import Callable

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.guard.image_similarity import (
    ALIKE,
    DIMENSIONS,
    NEAR,
    Fingerprint,
    fingerprint_of,
    guarded_vectors,
    query_vectors,
    similarities,
)
from tests.datagen.made_pictures import Picture, barred, chart, cropped, jpeg, page, scene

KINDS: dict[str, Callable[[int], Picture]] = {"scene": scene, "page": page, "chart": chart}
DISGUISES: dict[str, Callable[[Picture], Picture]] = {
    "none": lambda picture: picture,
    "a quarter of the size": lambda picture: picture.resize((picture.width // 4, picture.height // 4)),
    "twice the size": lambda picture: picture.resize((picture.width * 2, picture.height * 2)),
    "another form": lambda picture: picture.resize((picture.width, picture.width)),
    "JPEG of quality 30": lambda picture: jpeg(picture, 30),
    "grey": lambda picture: picture.convert("L"),
    "darker": lambda picture: PIL.ImageEnhance.Brightness(picture).enhance(0.9),
    "less contrast": lambda picture: PIL.ImageEnhance.Contrast(picture).enhance(0.85),
    "cropped at each side": lambda picture: cropped(picture, 0.05, 0.05, 0.05, 0.05),
    "cropped at the left": lambda picture: cropped(picture, 0.05, 0, 0, 0),
    "cropped at a corner": lambda picture: cropped(picture, 0, 0, 0.05, 0.05),
    "cropped unevenly": lambda picture: cropped(picture, 0.01, 0.05, 0.04, 0.02),
    "black bars": lambda picture: barred(picture, "black"),
    "white bars": lambda picture: barred(picture, "white"),
    "several": lambda picture: jpeg(
        cropped(picture, 0.03, 0.01, 0, 0.04).convert("L").resize((picture.width // 3, picture.height // 3)), 40
    ),
}


def compare(guarded: Fingerprint, asked: Fingerprint) -> tuple[float, float]:
    """How near, and how alike: the best of their boxes."""
    kept = guarded_vectors(guarded)
    vectors, boxes = query_vectors(asked)
    products = kept @ vectors.T
    ours, theirs = np.indices(products.shape).reshape(2, -1)
    thumbnails = np.repeat(guarded.thumbnail[None], len(ours), axis=0)
    alike = similarities(asked.thumbnail, boxes[theirs], thumbnails, guarded.boxes[ours])
    return float(products.max()), float(alike[products.ravel() >= NEAR].max(initial=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_picture_is_known_again(kind: str, disguise: str) -> None:
    for seed in range(3):
        picture = KINDS[kind](seed)
        near, alike = compare(fingerprint_of(picture), fingerprint_of(DISGUISES[disguise](picture)))
        assert near >= NEAR
        assert alike >= ALIKE


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_one_kind_are_told_apart(kind: str) -> None:
    looks = [fingerprint_of(KINDS[kind](seed)) for seed in range(12)]
    for number, look in enumerate(looks):
        for other in looks[:number]:
            assert compare(look, other)[1] < ALIKE


def test_a_changed_place_is_another_page() -> None:
    form = page(1)
    filled = form.copy()
    filled.paste(page(2).crop((60, 300, 700, 480)), (60, 300))
    near, alike = compare(fingerprint_of(form), fingerprint_of(filled))
    assert near > NEAR  # alike at large, which is why details are compared place by place
    assert alike < ALIKE


def test_what_shows_nothing_is_like_nothing() -> None:
    assert len(fingerprint_of(PIL.Image.new("RGB", (300, 200), "white")).boxes) == 0
    blank = fingerprint_of(PIL.Image.new("RGB", (300, 200), "white"))
    assert guarded_vectors(blank).shape == (0, DIMENSIONS)


def test_margins_are_found() -> None:
    made = PIL.Image.new("RGB", (640, 640), "black")
    made.paste(scene(1).resize((640, 320)), (0, 160))
    boxes = fingerprint_of(made).boxes
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert np.abs(boxes[1] - [0, 0.25, 1, 0.75]).max() <= 1 / 64
    assert len(fingerprint_of(scene(1)).boxes) == 1


def test_vectors_are_the_same_whatever_rounding_the_machine_does() -> None:
    vectors = guarded_vectors(fingerprint_of(page(1)))
    assert np.array_equal(vectors * 1024, np.rint(vectors * 1024))
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 0.01


@given(st.integers(1, 3000), st.integers(1, 40), st.booleans(), st.integers(0, 9))
def test_any_form_has_a_look(long: int, short: int, upright: bool, seed: int) -> None:
    size = (short, long) if upright else (long, short)
    noise = np.random.default_rng(seed).integers(0, 255, size=(size[1], size[0]), dtype=np.uint8)
    look = fingerprint_of(PIL.Image.fromarray(noise).convert("RGB"))
    assert look.thumbnail.shape == (64, 64)
    if len(look.boxes):
        near, alike = compare(look, look)
        assert np.isfinite([near, alike]).all()
