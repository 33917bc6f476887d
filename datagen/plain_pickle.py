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
    """Raises ValueError for an instruction that plain data do not need."""
    try:
        for instruction, argument, position in pickletools.genops(data):
            if instruction.name not in _ALLOWED:
                raise pickle.UnpicklingError(f"{instruction.name} {argument or ''} at byte {position} is no plain data")
            if "PUT" in instruction.name and isinstance(argument, int) and argument > len(data):
                raise pickle.UnpicklingError(f"a table of {argument} places at byte {position}")
    except pickle.UnpicklingError as error:
        raise ValueError(f"pickle is refused: {error}") from error
    except Exception as error:  # whatever a wrong program leads to
        raise ValueError(f"pickle is broken: {error}") from error


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
