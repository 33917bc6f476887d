"""The reader of COCO's caption annotations (captions_train2017.json), about five captions per image.

Format: https://cocodataset.org/#format-data, section 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datagen.caption.record import CaptionRecord, link_to, wrong_format
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.json_records import arrays
from varyforge.errors import WrongFormat
from varyforge.outcome import Failed


def read_coco(file: str) -> Iterator[CaptionRecord]:
    """Return the listed images in order, each with its captions, then a failure per image that only annotations name.

    Raises:
        WrongFormat: the file is not JSON, or has no images or no annotations.
    """
    captions: dict[Any, list[str]] = {}
    malformed: Counter[Any] = Counter()
    licences: dict[str, Any] = {}
    images: list[Any] = []
    seen: set[str] = set()
    for key, items in arrays(Path(file)):
        for one in items:
            seen.add(key)
            about = one if isinstance(one, dict) else {}
            match key:
                case "images":
                    images.append(one)
                case "licenses":
                    licences[str(about.get("id"))] = about.get("url") or about.get("name")
                case "annotations":
                    text, image_id = about.get("caption"), about.get("image_id")
                    if not isinstance(image_id, int | str):
                        image_id = None
                    if isinstance(text, str) and image_id is not None:
                        captions.setdefault(image_id, []).append(text)
                    else:
                        malformed[image_id] += 1
    for key in ("images", "annotations"):
        if key not in seen:
            raise WrongFormat(f"key {key!r} is not there or holds nothing; COCO form has images, annotations, licenses")
    return _images(images, captions, malformed, licences)


def _images(
    images: list[Any], captions: dict[Any, list[str]], malformed: Counter[Any], licences: dict[str, Any]
) -> Iterator[CaptionRecord]:
    seen: set[Any] = set()
    for index, one in enumerate(images):
        about = one if isinstance(one, dict) else {}
        image_id, name = about.get("id"), about.get("file_name")
        if not isinstance(image_id, int | str) or not isinstance(name, str):
            yield wrong_format(f"images[{index}]", "expected an object with an id and a file_name")
        elif image_id in seen:
            yield wrong_format(f"images[{index}]", f"image {image_id!r} is listed twice")
        else:
            seen.add(image_id)
            left_out = malformed.pop(image_id, 0)
            yield CaptionRecord(
                name=str(image_id),
                image=name,
                captions=tuple(captions.pop(image_id, ())),
                document=document_of_image(name),
                origin={
                    "image_id": image_id,
                    **link_to(licence=licences.get(str(about.get("license"))), url=about.get("flickr_url")),
                },
                notes={"malformed_annotations": left_out} if left_out else {},
            )
    for image_id in dict.fromkeys([*captions, *malformed]):
        number = len(captions.get(image_id, ())) + malformed[image_id]
        failure = Failed(reason="unlisted_image", detail=f"{number} annotations, no entry in images")
        yield CaptionRecord(name=f"annotations of image {image_id!r}", failure=failure)
