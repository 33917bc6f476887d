"""Text files that are not UTF-8: their probable encoding, named so that the user knows how to save them."""

from __future__ import annotations

import re

_GBK = re.compile(rb"(?:[\xa1-\xfe]{2})+")  # of two bytes a character, both high, in most Chinese text


def not_utf8(error: UnicodeDecodeError, position: str = "") -> str:
    """Return the reason why a text is refused. `position` stands behind the decoder's word, such as " at byte 7"."""
    return f"not UTF-8: {error.reason}{position}; it looks like {probable_encoding(error.object)}: save it as UTF-8"


def probable_encoding(data: bytes) -> str:
    """Name the encoding of bytes that are not UTF-8, for a message."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if _GBK.sub(b"", data).isascii():
        return "GBK"
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "no text"
    return "Windows-1252"
