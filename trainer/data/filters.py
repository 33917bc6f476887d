"""Filters on a source's index choose the samples that a mixture takes."""

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
"""The columns of `varyforge.shards.IndexRow` to filter by. A source's own measures come on top."""

DEFAULT_SPLIT = "train"
"""The split where the filters name none, so that held-out samples stay out of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition on a column: the value is one of `values`, or lies in `low` … `high`, both included."""

    column: str
    kind: Kind
    values: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Return the condition as in a recipe."""
        if self.values:
            return f"{self.column}: {', '.join(map(str, self.values))}"
        ends = {"min": self.low, "max": self.high}
        return f"{self.column}: {', '.join(f'{name} {end:g}' for name, end in ends.items() if end is not None)}"

    def holds(self, column: pa.ChunkedArray) -> NDArray[np.bool_]:
        """Return (rows,) bool: whether the condition holds. It does not hold for a missing value."""
        if self.kind == "text":
            codes, values = coded(column)
            return np.array([value in self.values for value in values], np.bool_)[codes]
        numbers = column.to_numpy().astype(np.float64)  # a missing value becomes NaN, which equals nothing
        if self.values:
            return np.isin(numbers, np.array(self.values, np.float64))
        low = -np.inf if self.low is None else self.low
        return np.asarray((numbers >= low) & (numbers <= (np.inf if self.high is None else self.high)))


def coded(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[Any]]:
    """Encode a column of text as codes (rows,) and a list of values. Rows without a value get the code of None."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # without a chunk
        return np.empty(0, np.int64), []
    values = array.dictionary.to_pylist()
    codes = array.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, values + [None] * bool(array.null_count)


def conditions_of(filters: Mapping[str, Any], kinds: Mapping[str, Kind], at: str) -> list[Condition]:
    """Parse a source's filters: index column → value, list of values, or {min, max}. The one on the split comes first.

    `kinds` has all columns of the index. `at` is the setting's key, for messages.

    Raises:
        UserError: there is no such column, or the filter does not fit its kind.
    """
    for column in filters:
        if column not in kinds:
            near = difflib.get_close_matches(str(column), kinds, n=1, cutoff=0.0)
            raise UserError(f"{at}.{column}: no such column; did you mean {near[0]}? There are {', '.join(kinds)}")
    filters = {"split": filters.get("split", DEFAULT_SPLIT), **filters}
    return [_condition(column, kinds[column], value, f"{at}.{column}") for column, value in filters.items()]


def _condition(column: str, kind: Kind, setting: Any, at: str) -> Condition:
    if isinstance(setting, Mapping):
        return _range(column, kind, setting, at)
    values = tuple(setting) if isinstance(setting, list | tuple) else (setting,)
    if not values:
        raise UserError(f"{at}: an empty list; no sample can match")
    for value in values:
        if not (isinstance(value, str) if kind == "text" else _is_number(value)):
            raise UserError(f"{at}: found {value!r}, expected {_expected(kind)}")
    return Condition(column=column, kind=kind, values=values)


def _range(column: str, kind: Kind, ends: Mapping[Any, Any], at: str) -> Condition:
    unknown = [key for key in ends if key not in ("min", "max")]
    if kind == "text" or unknown or not ends:
        fault = f"the key {unknown[0]!r}" if unknown else "min or max" if ends else "{}"
        raise UserError(f"{at}: found {fault}, expected {_expected(kind)}")
    for end, value in ends.items():
        if not _is_number(value):
            raise UserError(f"{at}.{end}: found {value!r}, expected a number")
    low, high = ends.get("min"), ends.get("max")
    if low is not None and high is not None and low > high:
        raise UserError(f"{at}: min {low:g} is above max {high:g}; no sample can match")
    return Condition(column=column, kind=kind, low=low, high=high)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max or abs(value) == math.inf  # NaN equals nothing


def _expected(kind: Kind) -> str:
    return "a text or a list of texts" if kind == "text" else "a number, a list of numbers, or {min: , max: }"
