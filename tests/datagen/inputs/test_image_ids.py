from __future__ import annotations

import pytest

from datagen.inputs.image_ids import coco_id, document_of_image, image_id_of


@pytest.mark.parametrize(
    "name",
    [
        "COCO_train2014_000000581857.jpg",
        "train2014/COCO_train2014_000000581857.jpg",
        "coco/train2017/000000581857.jpg",
        "000000581857.jpg",
        "000000581857.JPG",
        "COCO_val2014_000000581857.png",
        "COCO_train2014_000000581857_16.jpg",
    ],
)
def test_one_image_of_coco_has_one_name(name: str) -> None:
    assert image_id_of(name) == document_of_image(name) == coco_id(581857) == "coco/000000581857"


@pytest.mark.parametrize(
    "name",
    [
        "00453/004539375.jpg",
        "0000000581857.jpg",
        "a000000581857.jpg",
        "000000581857_16.jpg",
        "000000581857.jpg.txt",
        "x.png",
        "",
    ],
)
def test_other_sets_names_are_not_cocos(name: str) -> None:
    assert image_id_of(name) is None
    assert document_of_image(name) == name


def test_a_sets_own_names_count_where_it_is_known_to_be_read() -> None:
    assert image_id_of("documents/xnbl0037_1.png", "docvqa") == "docvqa/xnbl0037_1"
    assert image_id_of("train2017/000000000009.jpg", "docvqa") == "coco/000000000009"
