"""The reader of img2dataset's tars (LAION-COCO and others), with KEY.jpg, KEY.txt and KEY.json per image.

Format: https://github.com/rom1504/img2dataset (output format "webdataset").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from datagen.caption.record import CaptionRecord, captions_in, link_to, wrong_format
from datagen.inputs.image_ids import document_of_image
from varyforge.external.text_encoding import not_utf8
from varyforge.outcome import Failed
from varyforge.tar import IMAGES, Member, TarError, key_and_ending, members

_MAX_TEXT = 1 << 20  # bytes of a caption or JSON file; a JSON file with EXIF data may have 100 kB
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # first bytes of gzip, bzip2, xz, zstd
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_tar(file: str, caption_key: str) -> Iterator[CaptionRecord]:
    """Return the samples of a tar in order. Only headers, captions and JSON are read, no images.

    If the tar is truncated, the last sample fails, because it may lack a member. `caption_key` is the key in KEY.json
    of the caption or list of captions, or "" for the caption in KEY.txt.

    Raises:
        ValueError: the file is not a tar, or is compressed.
    """
    with open(file, "rb") as tar:
        if tar.read(6).startswith(_COMPRESSED):
            raise ValueError(
                "a compressed tar; unpack it to .tar first: its members are read one by one at their place"
            )
        try:
            next(members(tar), None)
        except TarError as error:
            raise ValueError(f"no tar: {error}") from error
    return _samples(Path(file), caption_key)


def _samples(path: Path, caption_key: str) -> Iterator[CaptionRecord]:
    cut = ""

    def complete_members() -> Iterator[tuple[str, str, Member]]:
        nonlocal cut
        try:
            for member in members(tar):
                named = key_and_ending(member.name)
                if named and member.kind != "a folder":
                    yield *named, member
        except TarError as error:
            cut = str(error)

    seen: set[str] = set()
    before: CaptionRecord | None = None
    with path.open("rb") as tar:
        for key, group in groupby(complete_members(), key=lambda named: named[0]):
            parts = [(suffix, member) for _, suffix, member in group]
            if before:
                yield before
            if key in seen:
                before = wrong_format(f"{key}#{parts[0][1].offset}", "the members of a sample do not stand together")
            else:
                before = _sample(tar, key, parts, caption_key)
            seen.add(key)
    if cut:
        name = before.name if before else "its start"
        yield CaptionRecord(name=name, failure=Failed(reason="truncated", detail=f"{cut}; what follows is not read"))
    elif before:
        yield before


def _sample(file: BinaryIO, key: str, parts: list[tuple[str, Member]], caption_key: str) -> CaptionRecord:
    by_suffix = dict(parts)
    relevant = ["json" if caption_key else "txt", "json", *IMAGES]
    used = [suffix for suffix, _ in parts if suffix in relevant]
    images = [by_suffix[suffix] for suffix in used if suffix in IMAGES]
    twice = next((suffix for suffix in used if used.count(suffix) > 1), None)
    odd = next((by_suffix[suffix] for suffix in used if by_suffix[suffix].kind != "a file"), None)
    if twice or len(images) > 1:
        return wrong_format(key, f"two members {key}.{twice}" if twice else "more than one image")
    if odd:
        return wrong_format(key, f"{odd.name} is {odd.kind}, and no file")
    try:
        about = _about(file, by_suffix.get("json"))
        text = by_suffix.get("txt")
        captions = captions_in(about.get(caption_key) if caption_key else text and _text(file, text))
    except ValueError as error:
        return wrong_format(key, str(error))
    if captions is None:
        return wrong_format(
            key, f"{caption_key!r} of {key}.json is a {type(about[caption_key]).__name__}, expected text"
        )
    if not images:
        why = str(about.get("error_message") or _no_image(key, by_suffix))
        return CaptionRecord(name=key, failure=Failed(reason="missing_image", detail=why[:200]))
    (image,) = images
    url, digest = str(about.get("url")), str(about.get("sha256"))
    return CaptionRecord(
        name=key,
        piece=(image.offset, image.size),
        captions=captions,
        document=document_of_image(url) if "cocodataset.org/" in url else "",
        content=digest if _SHA256.fullmatch(digest) else "",
        origin=link_to(url=about.get("url"), licence=about.get("license") or about.get("LICENSE")),
    )


def _no_image(key: str, endings: Iterable[str]) -> str:
    """Return why a key has no image, and what to do."""
    dotted = next((ending for ending in endings if ending.rpartition(".")[2] in IMAGES), "")
    if dotted:
        return f"{key}.{dotted}: a key ends at the first dot, so several samples may be one; write names without dots"
    return f"no image among the members of this key; its endings: {', '.join(sorted(endings))}"


def _about(file: BinaryIO, member: Member | None) -> dict[str, Any]:
    """Return the JSON object of a sample.

    Raises:
        ValueError: the member is not a JSON object.
    """
    if member is None:
        return {}
    try:
        about = json.loads(_text(file, member))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{member.name}: {error}") from error
    if not isinstance(about, dict):
        raise ValueError(f"{member.name}: expected an object, found {type(about).__name__}")
    return about


def _text(file: BinaryIO, member: Member) -> str:
    if member.size > _MAX_TEXT:
        raise ValueError(f"{member.name} has {member.size} bytes, {_MAX_TEXT} at most")
    file.seek(member.offset)
    try:
        return file.read(member.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{member.name}: {not_utf8(error, f' at byte {error.start}')}") from error
