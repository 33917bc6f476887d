"""Tars as others write them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL.Image

SIDE = 12


def picture(form: str = "jpeg", colour: str = "red", **about: Any) -> bytes:
    out = io.BytesIO()
    PIL.Image.new(about.pop("mode", "RGB"), (SIDE, SIDE // 2), colour).save(out, form, **about)
    return out.getvalue()


def write_tar(path: Path, entries: Mapping[str, bytes | str | object], form: int = tarfile.GNU_FORMAT) -> Path:
    """A tar of members by name: bytes, text, or what becomes JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in entries.items():
            text = content if isinstance(content, bytes | str) else json.dumps(content)
            data = text if isinstance(text, bytes) else text.encode()
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            tar.addfile(info, io.BytesIO(data))
    return path


def img2dataset(number: int, caption: str = "a red thing", **about: Any) -> dict[str, Any]:
    """Members of one sample as img2dataset writes them, which it sorts by ending."""
    key = f"{number:09d}"
    record = {"url": f"https://example.org/{key}.jpg", "caption": caption, "key": key, "status": "success", **about}
    image = {f"{key}.jpg": picture()} if record["status"] == "success" else {}
    return image | {f"{key}.json": record, f"{key}.txt": caption}
