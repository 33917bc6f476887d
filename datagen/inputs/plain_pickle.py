"""Pickles of plain data, read without running code in them.

A pickle is a program. This reader knows only the instructions that build lists, dicts, text and numbers, and refuses
every instruction that asks for a class, a function or a call. `pickle.Unpickler` with a `find_class` that refuses would
read RefCOCO 2.5 times as fast (2.1 s, not 5.2 s), but ten bytes make it fill 64 GiB, and nested tuples end the process.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any, ClassVar

MAX_BYTES = 512 << 20
"""Bytes of a file at most; no set of annotations of this kind is larger."""

_PLAIN = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
)
_NAMES = {ord(code.code): code.name for code in pickletools.opcodes}
_CODES = {name: code for code, name in _NAMES.items()}


class _Refused(Exception):
    pass


class _PlainUnpickler(pickle._Unpickler):
    """The unpickler in Python, not the one in C. Its memo is a dict, so an entry numbered 4e9 costs one entry.

    Tuples are refused too: as keys of dicts, nested tuples overflow the stack when they are hashed.
    """

    dispatch: ClassVar = {_CODES[name]: pickle._Unpickler.dispatch[_CODES[name]] for name in _PLAIN}

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:  # of `dispatch`, or a GET of what was never PUT
            raise _Refused(f"instruction {_NAMES.get(error.args[0], error.args[0])} is none of plain data") from error


def load_plain_pickle(path: str | Path) -> Any:
    """Load a pickle of any protocol that holds lists, dicts, text, numbers, booleans and None.

    Byte strings (text of Python 2) are read as UTF-8, or all as Latin-1 if one of them is not UTF-8.

    Raises:
        OSError: the file is missing.
        ValueError: the file is no pickle, cut short, larger than `MAX_BYTES`, or holds other than plain data. The
            message names the file.
    """
    name = Path(path).name
    if Path(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"{name}: larger than {MAX_BYTES >> 20} MiB")
    data = Path(path).read_bytes()
    try:
        try:
            return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except _Refused as error:
        raise ValueError(f"{name}: not a pickle of plain data: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a broken program may go wrong in any way; none of them has run anything
        raise ValueError(f"{name}: not a pickle, or a broken one: {type(error).__name__}: {error}"[:300]) from error
