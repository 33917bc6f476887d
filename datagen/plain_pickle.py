"""Pickles that hold plain data, read without running anything: RefCOCO's refs are published so.

A pickle is a program. Before it runs, every instruction is looked at: those that make lists, dicts, tuples, text and
numbers may pass, those that import or call (GLOBAL, REDUCE, BUILD …) may not, nor those that ask for more memory than
the file has bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

MAX_BYTES = 256 << 20
MAX_DEPTH = 32  # lists in lists
MAX_VALUES = 100_000_000  # a list that holds another twice has its values twice

_ALLOWED = frozenset(
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES UNICODE BINUNICODE SHORT_BINUNICODE EMPTY_LIST "
    "LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 PUT BINPUT "
    "LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE".split()
)
_OPCODES = {ord(one.code): one for one in pickletools.opcodes}
_ARGUMENTS = {code: one.arg.n if one.arg else 0 for code, one in _OPCODES.items() if one.name in _ALLOWED}
_PUT, _LONG_BINPUT, _STOP = ord("p"), ord("r"), ord(".")
_TABLES = {_PUT, _LONG_BINPUT}
_COUNTS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
}


def load_plain_pickle(path: str | Path) -> Any:
    """What the pickle at `path` holds: lists, tuples, dicts, str, bytes, int, float, bool, None.

    Text that Python 2 wrote as bytes is read as UTF-8, or as Latin-1 where it is not that.

    Raises:
        ValueError: it is broken, holds anything else, or is larger or deeper than such data are.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    return loads_plain_pickle(data)


def loads_plain_pickle(data: bytes) -> Any:
    """See `load_plain_pickle`."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"pickle is larger than {MAX_BYTES} bytes")
    _check_instructions(data)
    try:
        try:
            value = _NothingToImport(io.BytesIO(data), encoding="utf-8").load()
        except UnicodeDecodeError:
            value = _NothingToImport(io.BytesIO(data), encoding="latin-1").load()
    except Exception as error:  # whatever a wrong program leads to
        raise ValueError(f"pickle is broken: {type(error).__name__}: {error}") from error
    _check_size(value)
    return value


class _NothingToImport(pickle.Unpickler):
    """The second lock behind `_check_instructions`."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError(f"asks for {module_name}.{global_name}")


def _check_instructions(data: bytes) -> None:
    """Raises ValueError for an instruction that plain data do not need, or whose argument is not there."""
    position, size = 0, len(data)
    while position < size:
        code = data[position]
        argument = _ARGUMENTS.get(code)
        if argument is None:
            name = _OPCODES[code].name if code in _OPCODES else f"instruction {code}"
            raise ValueError(f"pickle is refused: {name} at byte {position} is no plain data")
        end = position + 1 + argument if argument >= 0 else _end_of_argument(data, position + 1, argument)
        if not position < end <= size:
            raise ValueError(f"pickle is broken: it ends in the middle of {_OPCODES[code].name} at byte {position}")
        if code in _TABLES and _number(data[position + 1 : end], code) > size:
            raise ValueError(f"pickle is refused: a table larger than the file at byte {position}")
        if code == _STOP:
            return
        position = end
    raise ValueError("pickle is broken: it has no end")


def _number(argument: bytes, code: int) -> int:
    """What stands in a PUT (decimal) or LONG_BINPUT (binary)."""
    try:
        return int(argument) if code == _PUT else int.from_bytes(argument, "little")
    except ValueError as error:
        raise ValueError(f"pickle is broken: {error}") from error


def _end_of_argument(data: bytes, start: int, kind: int) -> int:
    """Where an argument ends that goes up to a line's end, or is as long as it says."""
    if kind == pickletools.UP_TO_NEWLINE:
        return data.find(b"\n", start) + 1
    return start + _COUNTS[kind] + int.from_bytes(data[start : start + _COUNTS[kind]], "little")


def _check_size(value: Any) -> None:
    """Raises ValueError where a reader would walk for ever: lists in themselves, or in many lists at once."""
    if _values_in(value, {}, 0) > MAX_VALUES:
        raise ValueError(f"pickle holds more than {MAX_VALUES} values")


def _values_in(value: Any, known: dict[int, int], depth: int) -> int:
    """How many values there are below, each counted where it stands. `known`: of lists and dicts seen, by identity."""
    if not isinstance(value, list | tuple | dict):
        return 1
    if depth > MAX_DEPTH:
        raise ValueError(f"pickle is nested more than {MAX_DEPTH} deep, or in itself")
    if id(value) not in known:
        below = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_values_in(one, known, depth + 1) for one in below)
    return known[id(value)]
