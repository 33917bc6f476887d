"""The records of a JSON file, one at a time: memory holds a record and not the file, which may have gigabytes.

A file is what its name says: `.jsonl` and `.ndjson` hold one JSON text a line, any other file is one JSON text, a list
of records or an object that has the list under a key. Python's own parser reads them: a streaming one makes half a
character (a lone surrogate) a "?" and takes all memory for nesting without end.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from datagen.source import Unit
from varyforge.errors import WrongFormat, kind_of
from varyforge.outcome import Failed

SUFFIXES = (".json", ".jsonl", ".ndjson")
"""What such files are called."""

MAX_RECORD = 64 << 20
"""A longer record (in characters; in a line, bytes) is taken for a broken file."""

_LINES = (".jsonl", ".ndjson")
_CHUNK = 1 << 20
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of a file, or what is wrong with its line."""

    number: int  # from 0; in a file of lines, the line's
    value: Any = None  # what the JSON says
    wrong: str = ""  # "" where it is JSON

    @property
    def fields(self) -> Mapping[str, Any]:
        """The object that the record should be.

        Raises:
            WrongFormat: it is none.
        """
        if self.wrong or not isinstance(self.value, dict):
            raise WrongFormat(self.wrong or f"expected an object, found {kind_of(self.value)}")
        return self.value


def records(path: Path, key: str = "") -> Iterator[Record]:
    """The records of a file, in order.

    Args:
        path: the file.
        key: of the list, where the file is an object that holds one.

    Raises:
        WrongFormat: while the records are gone through; the file is no list of records, or breaks off. (A broken line in
            a file of lines is a record that says what is wrong.)
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if path.suffix.lower() in _LINES:
            yield from _lines(file)
        else:
            for number, value in enumerate(_under(_Text(file), key) if key else _Text(file).items()):
                yield Record(number=number, value=value)


def arrays(path: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """Of the object in a file, each member that is a list, in the order in which they stand: its name, and its items.

    Items are there until the next member is asked for. Other members are passed over. One pass, whatever is asked for.

    Raises:
        WrongFormat: not UTF-8, not JSON, no object, or an item is longer than `MAX_RECORD`. That may turn up late: what
            came before it was read from a broken file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        yield from _Text(file).arrays()


def failed_record(name: str, error: WrongFormat) -> Unit:
    """The unit of a record that is not of its form."""
    return Unit(id=name, document=name, content=name, verdict=Failed(reason="wrong_form", detail=str(error)))


def _under(text: _Text, key: str) -> Iterator[Any]:
    found = False
    for name, items in text.arrays():
        if name == key:
            found = True
            yield from items
    if not found:
        raise WrongFormat(f"key {key!r} is missing, or holds no list")


def _lines(file: BinaryIO) -> Iterator[Record]:
    for number in itertools.count():
        line = file.readline(MAX_RECORD)
        if not line:
            return
        try:
            if len(line) == MAX_RECORD and not line.endswith(b"\n"):
                while (rest := file.readline(_CHUNK)) and not rest.endswith(b"\n"):
                    pass
                raise WrongFormat(f"longer than {MAX_RECORD >> 20} MiB")
            text = line.decode("utf-8" if number else "utf-8-sig").strip()
            if text:
                yield Record(number=number, value=json.loads(text))
        except (ValueError, RecursionError) as error:
            yield Record(number=number, wrong=f"line {number + 1}: {_said(error)}")


class _Text:
    """A JSON text, of which a window is held."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._before = 0  # characters before the window
        self._window = ""
        self._at = 0  # in the window
        self._ended = False

    def items(self) -> Iterator[Any]:
        """The items of the list that the text is."""
        if self._peek() != "[":
            raise WrongFormat(f"expected a list of records, found {kind_of(self._value())}")
        yield from self._list()
        self._end("list; files of one JSON text a line end in .jsonl")

    def arrays(self) -> Iterator[tuple[str, Iterator[Any]]]:
        """The lists among the members of the object that the text is."""
        if self._peek() != "{":
            raise WrongFormat(f"expected an object with lists, found {kind_of(self._value())}")
        self._at += 1
        after = "," if self._peek() != "}" else self._expect("}")
        while after == ",":
            if self._peek() != '"':
                self._expect('"')
            name = self._value()
            self._expect(":")
            if self._peek() == "[":
                items = self._list()
                yield name, items
                for _ in items:  # whatever was not asked for
                    pass
            else:
                self._value()
            after = self._expect(",}")
        self._end("object")

    def _list(self) -> Iterator[Any]:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._expect(",]") == "]":
                return

    def _end(self, of: str) -> None:
        if self._peek():
            raise WrongFormat(f"{self._place()}: more text behind the {of}")

    def _peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._window, self._at).end()  # type: ignore[union-attr]  # it matches nothing too
            if self._at < len(self._window):
                return self._window[self._at]
            if self._ended:
                return ""
            self._more()

    def _expect(self, characters: str) -> str:
        found = self._peek()
        if not found or found not in characters:
            wanted = " or ".join(map(repr, characters))
            raise WrongFormat(f"{self._place()}: expected {wanted}, found {repr(found) if found else 'the end'}")
        self._at += 1
        return found

    def _value(self) -> Any:
        """The value that stands next. A window that ends within it is doubled."""
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
                if end + len("e+5") <= len(self._window) or self._ended:  # else there may be more of a number
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended or len(self._window) - self._at > MAX_RECORD:
                    raise WrongFormat(f"not JSON: {error.msg} at character {self._before + error.pos}") from error
            except (ValueError, RecursionError) as error:
                raise WrongFormat(f"{self._place()}: {_said(error)}") from error
            self._more()

    def _more(self) -> None:
        left = self._window[self._at :]
        try:
            data = self._file.read(max(_CHUNK, len(left)))
            text = self._decode.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise WrongFormat(f"after character {self._before + len(self._window)}: {_said(error)}") from error
        self._before += self._at
        self._window, self._at, self._ended = left + text, 0, not data

    def _place(self) -> str:
        return f"character {self._before + self._at}"


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason}"
    return str(error) if isinstance(error, WrongFormat) else f"not JSON: {error}"
