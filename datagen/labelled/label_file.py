"""Label files: text with a form feed between pages, and JSON, which becomes an answer of one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from varyforge.errors import WrongFormat, kind_of
from varyforge.external.text_encoding import not_utf8

ENDINGS = (".txt", ".md", ".json")
"""File name endings of labels."""

MAX_BYTES = 1 << 20
"""Bytes of a label at most."""

_PAGE_END = "\f"


def decoded(data: bytes) -> str:
    """Return the text of a label file, with line feeds at the ends of its lines.

    Raises:
        WrongFormat: it is too large or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise WrongFormat(f"a label of more than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongFormat(not_utf8(error)) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def pages_of(text: str, pages: int) -> Sequence[str]:
    """Return the parts of a text, one per page where it has as many. The text of one page may have form feeds."""
    if pages == 1:
        return [text.replace(_PAGE_END, "\n").strip()]
    parts = [part.strip() for part in text.split(_PAGE_END)]
    return parts[:-1] if len(parts) == pages + 1 and not parts[-1] else parts  # one behind each page, or between them


def canonical(text: str) -> str:
    """Return JSON on one line with a space after each comma and colon, and characters in place of their escapes.

    Keys keep their order, and numbers their digits.

    >>> canonical('{"n":1.10,  "a":[1,2]}')
    '{"n": 1.10, "a": [1, 2]}'

    Raises:
        WrongFormat: the text is no JSON, or an object has a key twice.
    """
    return _written(_parsed(text))


def fields_of(text: str) -> list[tuple[str, str]]:
    """Return key and value of each member of a JSON object, values as text. A value that is null is empty text.

    A list or object is its `canonical` JSON, a number has the digits of the file.

    Raises:
        WrongFormat: as `canonical`, or the text is no object.
    """
    members = _parsed(text)
    if not isinstance(members, dict):
        raise WrongFormat(f"expected an object with a question per key, found {kind_of(members)}")
    return [(key, _as_text(value)) for key, value in members.items()]


class _Number(str):
    """A number with the digits of the file."""


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else _written(value)


def _written(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        members = (f"{json.dumps(key, ensure_ascii=False)}: {_written(member)}" for key, member in value.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _parsed(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_members, parse_constant=_refused, parse_float=_Number, parse_int=_Number
        )
    except RecursionError:
        raise WrongFormat("not JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise WrongFormat(f"not JSON: {error}") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        raise WrongFormat(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return members


def _refused(constant: str) -> None:
    raise WrongFormat(f"not JSON: {constant} is no number of JSON")
