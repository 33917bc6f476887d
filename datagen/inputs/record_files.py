"""Files of records: JSON, JSON Lines and Parquet, as one kind of input."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from datagen.inputs import json_records
from datagen.inputs.listing import list_files
from datagen.inputs.parquet_records import MAGIC, parquet_records
from datagen.inputs.record import Record
from varyforge.console import say
from varyforge.errors import UserError, WrongFormat

PARQUET = ".parquet"
SUFFIXES = (*json_records.SUFFIXES, PARQUET)
"""File name endings of files of records."""

SPLITS = ("train", "val", "test")

_SPLIT_OF = dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "val") | {"train": "train", "test": "test"}
_SHARD = re.compile(r"(?:.*[-_.])?([a-z]+)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?\.parquet")  # …-5e46f07e.parquet
_NUMBERED = re.compile(r"\d{4}\.parquet")  # in a folder called as the split
_POINTER = b"version https://git-lfs"


def records(path: Path, key: str = "") -> Iterator[Record]:
    """Yield the records of a file, in order. Its beginning tells the format, not its name.

    `key` is that of the list where a JSON file is an object that holds the list.

    Raises:
        WrongFormat: the file is of neither format, or is cut. May come after some records.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start.startswith(MAGIC):
        return parquet_records(path)
    if start == _POINTER:
        raise WrongFormat("a pointer of Git LFS and not the file itself; type: git lfs pull")
    if path.suffix.lower() == PARQUET:
        raise WrongFormat("not Parquet: the file does not begin with PAR1")
    return json_records.read_json_records(path, key)


def check_splits(splits: Sequence[str]) -> None:
    """Raise ValueError for a split that is none of `SPLITS`, and for none."""
    if not splits or not set(splits) <= set(SPLITS):
        raise ValueError(f"needs splits of {', '.join(SPLITS)}")


def list_record_files(paths: Sequence[str], splits: Sequence[str], suffixes: Sequence[str] = SUFFIXES) -> Iterator[str]:
    """Yield the files of records in paths, as `list_files`, without Parquet files that name another split.

    Raises:
        UserError: a path does not exist, or holds no file of these splits.
    """
    others: dict[str, int] = {}
    yielded = False
    for path in list_files(paths, *suffixes):
        split = "" if path in paths else split_named(path)  # a file that is given by its name is meant
        if split in ("", *splits):
            yielded = True
            yield path
        else:
            others[split] = others.get(split, 0) + 1
    left = ", ".join(f"{count} of {split}" for split, count in sorted(others.items()))
    if not yielded:
        advice = [split for split in ("train", "val") if split in others]  # nobody is to train on the test split
        remedy = f"; add splits=[{advice[0]}]" if advice else ""
        raise UserError(f"{', '.join(paths)}: no file of {', '.join(splits)}, but {left}{remedy}")
    if left:
        say(f"files of other splits are not read: {left} (setting splits)")


def split_named(path: str) -> str:
    """Return the split (of `SPLITS`) that the name of a Parquet file states, or ""."""
    name = PurePosixPath(path)
    shard = _SHARD.fullmatch(name.name)
    word = shard[1] if shard else name.parent.name if _NUMBERED.fullmatch(name.name) else ""
    return _SPLIT_OF.get(word, "")
