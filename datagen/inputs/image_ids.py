"""One id per image for all data sets, since most of them contain images of COCO."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

# Twelve digits tell COCO's numbers from those of other sets (LLaVA's "00453/004539375.jpg"). RefCOCO's refs append the
# number of the annotation: COCO_train2014_000000581857_16.jpg.
_COCO = re.compile(
    r"(?:.*/)?(?:COCO_(?:train|val|test)20\d\d_(\d{12})(?:_\d+)?|(\d{12}))\.(?:jpe?g|png)", re.IGNORECASE
)


def image_id_of(name: str, collection: str = "") -> str | None:
    """Return the id of an image, the same for every data set that has it, or None where its name shows none.

    Args:
        name: the file name in a data set. "train2017/000000581857.jpg", "COCO_train2014_000000581857.jpg" and
            "000000581857.jpg" are one image, "coco/000000581857".
        collection: the data set, where its own file names are ids too: with "docvqa", "documents/xnbl0037_1.png" is
            "docvqa/xnbl0037_1".
    """
    coco = _COCO.fullmatch(name)
    if coco:
        return coco_id(int(coco[1] or coco[2]))
    return f"{collection}/{PurePosixPath(name).stem}" if collection else None


def coco_id(number: int) -> str:
    """Return the id of COCO's image of that number."""
    return f"coco/{number:012d}"


def document_of_image(name: str) -> str:
    """Return the document for the split: an image of COCO is the same document in all data sets."""
    return image_id_of(name) or name
