"""Filters on a source's index: which of its samples a mixture takes."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from varyforge.errors import UserError

Kind = Literal["text", "number"]

COLUMNS: dict[str, Kind] = {
    **dict.fromkeys(("language", "split", "licence", "task", "document", "prompt"), "text"),
    **dict.fromkeys(("answer_chars", "tokens", "images", "width", "height", "boxes"), "number"),
}
"""Of `varyforge.shards.IndexRow`, what may be filtered by; a source's own measures come on top."""

DEFAULT_SPLIT = "train"
"""Taken where `where` does not name a split: what is held out stays out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a sample's value in a column must be: one of `values`, or from `low` to `high`, both included."""

    column: str
    kind: Kind
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """As a user would write it."""
        if self.values:
            return f"{self.column}: {', '.join(map(str, self.values))}"
        ends = {"min": self.low, "max": self.high}
        return f"{self.column}: {', '.join(f'{name} {end:g}' for name, end in ends.items() if end is not None)}"

    def holds(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """(rows,) whether it holds; where a measure is missing it does not."""
        if self.kind == "text":
            codes, values = coded(column)
            return np.array([value in self.values for value in values], np.bool_)[codes]
        numbers = column.to_numpy().astype(np.float64)  # a missing one becomes NaN, which nothing equals
        if self.values:
            return np.isin(numbers, np.array(self.values, np.float64))
        low = -np.inf if self.low is None else self.low
        return np.asarray((numbers >= low) & (numbers <= (np.inf if self.high is None else self.high)))


def coded(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """A column of text as codes (rows,) and the values they stand for; None is one where a row has none."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no chunk
        return np.empty(0, np.int64), []
    values = array.dictionary.to_pylist()
    codes = array.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, values + [None] * bool(array.null_count)


def conditions_of(where: Mapping[str, Any], kinds: Mapping[str, Kind], at: str) -> list[Condition]:
    """The conditions that `where` states, on the split first.

    Args:
        where: index column → value, list of values, or {min, max}.
        kinds: the columns that there are.
        at: the setting's key, for messages.

    Raises:
        UserError: no such column, or a condition that does not suit it.
    """
    for column in where:
        if column not in kinds:
            near = difflib.get_close_matches(str(column), kinds, n=1, cutoff=0.0)
            raise UserError(f"{at}.{column}: no such column; did you mean {near[0]}? There are {', '.join(kinds)}")
    wanted = {"split": where.get("split", DEFAULT_SPLIT), **where}
    return [_condition(column, kinds[column], value, f"{at}.{column}") for column, value in wanted.items()]


def _condition(column: str, kind: Kind, wanted: Any, at: str) -> Condition:
    if isinstance(wanted, Mapping):
        return _range(column, kind, wanted, at)
    values = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,)
    if not values:
        raise UserError(f"{at}: an empty list; no sample can match")
    for value in values:
        if not (isinstance(value, str) if kind == "text" else _is_number(value)):
            raise UserError(f"{at}: found {value!r}, expected {_expected(kind)}")
    return Condition(column=column, kind=kind, values=values)


def _range(column: str, kind: Kind, wanted: Mapping[Any, Any], at: str) -> Condition:
    strange = [key for key in wanted if key not in ("min", "max")]
    if kind == "text" or strange or not wanted:
        found = f"the key {strange[0]!r}" if strange else "min or max" if wanted else "{}"
        raise UserError(f"{at}: found {found}, expected {_expected(kind)}")
    for end, value in wanted.items():
        if not _is_number(value):
            raise UserError(f"{at}.{end}: found {value!r}, expected a number")
    low, high = wanted.get("min"), wanted.get("max")
    if low is not None and high is not None and low > high:
        raise UserError(f"{at}: min {low:g} is above max {high:g}; no sample can match")
    return Condition(column=column, kind=kind, low=low, high=high)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max or abs(value) == math.inf  # no NaN, which nothing equals


def _expected(kind: Kind) -> str:
    return "a text or a list of texts" if kind == "text" else "a number, a list of numbers, or {min: , max: }"
