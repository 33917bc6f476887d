"""What an image is called, so that one image is one document whichever data set it comes from."""

from __future__ import annotations

import re

_COCO = re.compile(r"(?:.*/)?(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})(?:_\d+)?\.jpg")


def image_id_of(name: str) -> str | None:
    """The id of a COCO image by its file name in any vintage, as in "coco:581857"; None for other names.

    COCO 2014 has COCO_train2014_000000581857.jpg, COCO 2017, LLaVA and RefCOCO's file names derive from it. Only the
    twelve-digit form counts.
    """
    found = _COCO.fullmatch(name)
    return f"coco:{int(found[1])}" if found else None


def document_of_image(name: str) -> str:
    """What a split keeps together: "coco/000000581857" for a COCO image, else the name."""
    found = _COCO.fullmatch(name)
    return f"coco/{found[1]}" if found else name
