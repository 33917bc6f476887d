"""The reader of COCO's caption annotations (captions_train2017.json), about five captions per image.

Format: https://cocodataset.org/#format-data, section 5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath
from typing import Any

from datagen.caption.record import CaptionRecord, link_to, wrong_format
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.json_records import arrays, json_id
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
                    text, image_id = about.get("caption"), json_id(about.get("image_id"))
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
    """Yield a record per file: entries of one file are joined, and all entries of an id with several files fail."""
    files: dict[Any, set[str]] = {}
    ids: dict[str, list[int | str]] = {}
    for one in images:
        image_id, name = _entry(one)
        if image_id is not None and name:
            files.setdefault(image_id, set()).add(normpath(name))
            ids.setdefault(normpath(name), []).append(image_id)
    for index, one in enumerate(images):
        image_id, name = _entry(one)
        if image_id is None or not name:
            yield wrong_format(f"images[{index}]", "expected an object with an id and a file_name")
            continue
        of_file = ids.get(normpath(name), [])
        several = next((each for each in of_file if len(files[each]) > 1), None)
        if several is not None:
            yield wrong_format(f"images[{index}]", f"image {several!r} is listed with {len(files[several])} files")
        elif of_file:
            del ids[normpath(name)]
            left_out = sum(malformed.pop(each, 0) for each in of_file)
            repeated = len(of_file) - 1
            yield CaptionRecord(
                name=str(image_id),
                image=name,
                captions=tuple(caption for each in of_file for caption in captions.pop(each, ())),
                document=document_of_image(name),
                origin={
                    "image_id": image_id,
                    **link_to(licence=licences.get(str(one.get("license"))), url=one.get("flickr_url")),
                },
                notes=+Counter(malformed_annotations=left_out, repeated_entries=repeated),
            )
    for several in (each for each in files if len(files[each]) > 1):
        captions.pop(several, None)
        malformed.pop(several, None)
    for image_id in dict.fromkeys([*captions, *malformed]):
        number = len(captions.get(image_id, ())) + malformed[image_id]
        failure = Failed(reason="unlisted_image", detail=f"{number} annotations, no entry in images")
        yield CaptionRecord(name=f"annotations of image {image_id!r}", failure=failure)


def _entry(item: Any) -> tuple[int | str | None, str]:
    """Return id and file name of an item of `images`; None and "" where it has none."""
    about = item if isinstance(item, dict) else {}
    name = about.get("file_name")
    return json_id(about.get("id")), name if isinstance(name, str) else ""
