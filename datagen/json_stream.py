"""JSON files of many gigabytes whose bulk lies in arrays at the top: read item by item, in the order they stand in.

One pass with the standard library's decoder, which is quicker than an event parser where every item is wanted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

ITEM_CHARS = 1 << 26
"""An item that is longer is taken for a broken file."""

_CHUNK_CHARS = 1 << 20
_BEHIND = frozenset(",:]} \t\n\r")  # what may stand behind a value
_SPACE = re.compile(r"[ \t\n\r]*")


def arrays(path: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """Of the object in a file, each member that is an array: its name, and its items.

    Items are there until the next member is asked for. Other members are passed over.

    Raises:
        ValueError: not UTF-8, not JSON, not one object, or something in it is longer than `ITEM_CHARS`. That may turn
            up late: what came before it was read from a broken file.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        text = _Text(file)
        text.take("{")
        if text.next() == "}":
            text.take("}")
        else:
            while True:
                name = text.value()
                if not isinstance(name, str):
                    raise ValueError(f"not JSON: {name!r:.40} where the name of a member should stand")
                text.take(":")
                if text.next() == "[":
                    items = _items(text)
                    yield name, items
                    for _ in items:  # whatever was not asked for
                        pass
                else:
                    text.value()
                if text.take(",}") == "}":
                    break
        if text.next():
            raise ValueError(f"not JSON: {text.next()!r} behind the end")


def _items(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.next() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return


class _Text:
    """A file's text from the place that was read up to."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def next(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """The next character, which must be one of `expected`."""
        found = self.next()
        if not found or found not in expected:
            raise ValueError(
                f"not JSON: {found!r} where one of {expected!r} should stand" if found else "not JSON: it ends early"
            )
        self._at += 1
        return found

    def value(self) -> Any:
        """The value that stands next."""
        if self._at == len(self._text) or self._text[self._at] in " \t\n\r":
            self.next()
        while True:
            problem = None
            try:
                value, end = self._decode(self._text, self._at)
                if self._text[end : end + 1] in _BEHIND:
                    self._at = end
                    return value
            except RecursionError as error:
                raise ValueError("not JSON that can be read: nested too deep") from error
            except ValueError as error:
                problem = error
            if len(self._text) - self._at > ITEM_CHARS:
                raise ValueError(f"not JSON, or an item of more than {ITEM_CHARS} characters") from problem
            if not self._more():  # or else it may go on: the 1 at a chunk's end may be a 1.5
                raise ValueError(f"not JSON: {problem or 'it ends early'}") from problem

    def _more(self) -> bool:
        """Reads on, as much again as there is, so that a long item costs its length; False at the end of the file."""
        rest = self._text[self._at :]
        read = self._file.read(max(_CHUNK_CHARS, len(rest)))
        self._text, self._at = rest + read, 0
        return bool(read)
