"""Streams the records of a JSON file: memory holds a record and not the file, which may have gigabytes.

A file holds one JSON text per line, or is one JSON text: a list of records, or an object with the list under a key. Its
beginning tells which, because people call either of them `.json` and `.jsonl`. Python's own parser reads the records,
because streaming parsers turn a lone surrogate into "?" and take all memory for endless nesting.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO

from datagen.inputs.record import Home, Record, Span
from varyforge.errors import WrongFormat, kind_of
from varyforge.external.text_encoding import not_utf8

SUFFIXES = (".json", ".jsonl", ".ndjson")
"""File name endings of JSON files."""

MAX_RECORD = 64 << 20
"""Most characters of a record (bytes of a line). A longer one is taken for a broken file."""

_LINES = (".jsonl", ".ndjson")
_CHUNK = 1 << 20
_DECODER = json.JSONDecoder()
_LIST = re.compile(rb"\[\s*(\{|$)")  # the beginning of a list of records
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json_records(path: Path, key: str = "") -> Iterator[Record]:
    """Yield the records of a file, in order. A broken line in a file of lines is a record with its fault.

    `key` is that of the list where the file is an object that holds the list.

    Raises:
        WrongFormat: the file is no list of records, or is cut. May come after some records.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if not key and _is_lines(file, path.suffix.lower() in _LINES):
            yield from _lines(file)
        else:
            text = _Text(file)
            for number, value in enumerate(_under(text, key) if key else text.items()):
                yield Record(number=number, value=value, home=_home(text.span))


def arrays(path: Path) -> Iterator[tuple[str, Iterator[Any]]]:
    """Yield name and items of each list among the members of the object in a file, in file order and one pass.

    The items of a list are available until the next list is requested. Other members are skipped.

    Raises:
        WrongFormat: the file is not UTF-8, not JSON or no object, or an item is longer than `MAX_RECORD`. May come
            after some items, which then are from a broken file.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        yield from _Text(file).arrays()


def json_id(value: object) -> int | str | None:
    """Return an id: a text or a whole number, also one that pandas made a float (7.0). None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _under(text: _Text, key: str) -> Iterator[Any]:
    missing = True
    for name, items in text.arrays():
        if name == key:
            missing = False
            yield from items
    if missing:
        raise WrongFormat(f"key {key!r} is missing, or holds no list")


def _is_lines(file: BinaryIO, called_so: bool) -> bool:
    """Return whether a file has one record per line: as it is called, unless its beginning is that of the other kind.

    Raises:
        WrongFormat: the file is UTF-16.
    """
    lines = iter(partial(file.readline, MAX_RECORD), b"")
    first, second = ([line.strip() for line in islice(filter(bytes.strip, lines), 2)] + [b"", b""])[:2]
    file.seek(0)
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WrongFormat("UTF-16, as PowerShell writes it; save it as UTF-8")
    first = first.removeprefix(codecs.BOM_UTF8)
    if called_so:
        return not _LIST.match(first)
    return first.startswith(b"{") and first.endswith(b"}") and second.startswith(b"{")


def _home(span: Span) -> Home:
    return Home(spans={"": span})


def _lines(file: BinaryIO) -> Iterator[Record]:
    end = 0
    for number in count():
        line = file.readline(MAX_RECORD)
        home, end = _home((end, len(line))), end + len(line)
        if not line:
            return
        try:
            if len(line) == MAX_RECORD and not line.endswith(b"\n"):
                while (rest := file.readline(_CHUNK)) and not rest.endswith(b"\n"):
                    pass
                end = file.tell()
                raise WrongFormat(f"longer than {MAX_RECORD >> 20} MiB")
            text = line.decode("utf-8-sig").strip()  # where files are joined, a mark stands in the middle
            if text:
                yield Record(number=number, value=json.loads(text), home=home)
        except (ValueError, RecursionError) as error:
            yield Record(number=number, wrong=f"line {number + 1}: {_fault(error)}", home=home)


class _Text:
    """A JSON text of which a window is in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._before = 0  # characters before the window
        self._window = ""
        self._at = 0  # the next character, in the window
        self._ended = False
        self.span: Span = (0, 0)  # of the last value
        self._counted = (0, 3 if file.read(3) == codecs.BOM_UTF8 else 0)  # a character of the window, and its byte
        file.seek(0)

    def items(self) -> Iterator[Any]:
        """Yield the items of the text, which is a list."""
        if self._peek() != "[":
            value = self._value()
            keys = f" with the keys {', '.join(map(repr, value))}"[:100] if isinstance(value, dict) else ""
            raise WrongFormat(f"expected a list of records, or one record a line; found {kind_of(value)}{keys}")
        yield from self._list()
        self._end("list; files of one JSON text a line end in .jsonl")

    def arrays(self) -> Iterator[tuple[str, Iterator[Any]]]:
        """Yield the lists among the members of the text, which is an object."""
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
                for _ in items:  # those that the caller left
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

    def _end(self, kind: str) -> None:
        if self._peek():
            raise WrongFormat(f"{self._position()}: more text behind the {kind}")

    def _peek(self) -> str:
        """Return the next character that is no space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._window, self._at).end()  # type: ignore[union-attr]  # it always matches
            if self._at < len(self._window):
                return self._window[self._at]
            if self._ended:
                return ""
            self._more()

    def _expect(self, characters: str) -> str:
        character = self._peek()
        if not character or character not in characters:
            choices = " or ".join(map(repr, characters))
            actual = repr(character) if character else "the end"
            raise WrongFormat(f"{self._position()}: expected {choices}, found {actual}")
        self._at += 1
        return character

    def _value(self) -> Any:
        """Parse the next value. A window that ends within the value is doubled."""
        self._peek()
        start = self._byte()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
                if end + len("e+5") <= len(self._window) or self._ended:  # else a number may go on
                    self._at = end
                    self.span = (start, self._byte() - start)
                    return value
            except json.JSONDecodeError as error:
                if self._ended or len(self._window) - self._at > MAX_RECORD:
                    raise WrongFormat(f"not JSON: {error.msg} at character {self._before + error.pos}") from error
            except (ValueError, RecursionError) as error:
                raise WrongFormat(f"{self._position()}: {_fault(error)}") from error
            self._more()

    def _more(self) -> None:
        left, byte = self._window[self._at :], self._byte()
        try:
            data = self._file.read(max(_CHUNK, len(left)))
            text = self._decode.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise WrongFormat(f"after character {self._before + len(self._window)}: {_fault(error)}") from error
        self._before += self._at
        self._window, self._at, self._ended, self._counted = left + text, 0, not data, (0, byte)

    def _byte(self) -> int:
        """Return the position of the next character in the file, in bytes."""
        at, byte = self._counted
        self._counted = (self._at, byte + len(self._window[at : self._at].encode()))
        return self._counted[1]

    def _position(self) -> str:
        return f"character {self._before + self._at}"


def _fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(error)
    return str(error) if isinstance(error, WrongFormat) else f"not JSON: {error}"
