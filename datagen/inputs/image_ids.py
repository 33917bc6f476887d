"""One name for one image, whichever data set lists it: COCO's images are in most of them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# Twelve digits, so that other sets' numbers (LLaVA's "00453/004539375.jpg") are not taken for COCO's. RefCOCO's refs
# add the number of the annotation: COCO_train2014_000000581857_16.jpg.
_COCO = re.compile(
    r"(?:.*/)?(?:COCO_(?:train|val|test)20\d\d_(\d{12})(?:_\d+)?|(\d{12}))\.(?:jpe?g|png)", re.IGNORECASE
)


def image_id_of(name: str, collection: str = "") -> str | None:
    """What an image is called in every data set that has it; None where its name says no such thing.

    Args:
        name: as a data set gives it: "train2017/000000581857.jpg", "COCO_train2014_000000581857.jpg" and
            "000000581857.jpg" are one image, "coco/000000581857".
        collection: the set whose own names count too, where the caller knows that it reads this set: with "docvqa",
            "documents/xnbl0037_1.png" is "docvqa/xnbl0037_1".
    """
    found = _COCO.fullmatch(name)
    if found:
        return coco_id(int(found[1] or found[2]))
    return f"{collection}/{PurePosixPath(name).stem}" if collection else None


def coco_id(number: int) -> str:
    """The name of COCO's image of that number."""
    return f"coco/{number:012d}"


def document_of_image(name: str) -> str:
    """The document that a split keeps together: an image of COCO is one document in all data sets."""
    return image_id_of(name) or name
