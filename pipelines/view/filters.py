"""The viewer's filters, as conditions on rows of the index and of the ledger. Pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from varyforge.errors import UserError
from varyforge.escape import JOINER

OUTCOMES = ("written", "rejected", "failed")
UNKNOWN = "unknown"
"""The name that the page shows for the language or licence ""."""

_ONLY_SAMPLES = ("task", "split", "licence", "twins", "group")  # a unit without samples has none of these


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that a row meets when one of `columns` passes `test`."""

    columns: tuple[str, ...]
    test: Callable[[pa.ChunkedArray], pa.ChunkedArray]

    def passed(self, table: pa.Table) -> pa.ChunkedArray:
        """Return true for each row that passes, false or null for the others."""
        first, *others = (self.test(table.column(name)) for name in self.columns)
        for other in others:
            first = pc.or_(first, other)
        return first


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The conditions of a page. An empty field sets no condition; the names are those of the address's query."""

    set: str = ""  # shard set, as it was named on the command line
    outcome: str = ""  # one of OUTCOMES
    task: str = ""
    split: str = ""
    language: str = ""  # UNKNOWN for ""
    licence: str = ""  # UNKNOWN for ""
    cause: str = ""  # gate or reason
    document: str = ""  # a part of its name
    text: str = ""  # words in a row in the conversation, or in a ledger row's detail
    twins: str = ""  # the first key of a group of near duplicates
    group: str = ""
    id: str = ""  # key of a sample or id of a unit
    measure: str = ""  # a number of index or ledger, between …
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """Read the filters from an address's query and ignore its other parameters.

        Raises:
            UserError: an end of the range is no number, or the outcome is unknown.
        """
        texts = {name: query.get(name, "").strip() for name in cls.__dataclass_fields__ if name not in ("low", "high")}
        if texts["outcome"] not in ("", *OUTCOMES):
            raise UserError(f"outcome={texts['outcome']}: expected one of {', '.join(OUTCOMES)}")
        return cls(**texts, low=number_in("low", query), high=number_in("high", query))

    def query(self) -> dict[str, str]:
        """Return the query that `of` reads these filters from, without empty fields."""
        return {name: str(value) for name, value in asdict(self).items() if value not in ("", None)}

    def for_samples(self) -> list[Condition] | None:
        """Return the conditions on index rows without `text`; None where no sample can pass."""
        if self.outcome in ("rejected", "failed") or self.cause:
            return None
        conditions = [_equal(value, name) for name in ("task", "split", "group") if (value := getattr(self, name))]
        if self.licence:
            conditions.append(_named("licence", self.licence))
        if self.twins:
            conditions.append(_equal(self.twins, "twins", "key"))
        if self.id:
            conditions.append(_equal(self.id, "key", "unit"))
        return conditions + self._for_both()

    def for_units(self) -> list[Condition] | None:
        """Return the conditions on ledger rows of units without samples; None where no unit can pass."""
        if self.outcome == "written" or any(getattr(self, name) for name in _ONLY_SAMPLES):
            return None
        conditions = []
        if self.outcome:
            conditions.append(_equal(self.outcome, "outcome"))
        if self.cause:
            conditions.append(_equal(self.cause, "gate", "reason"))
        if self.id:
            conditions.append(_equal(self.id, "unit"))
        if self.text:
            conditions.append(_contains(" ".join(self.text.split()), "detail"))
        return conditions + self._for_both()

    def _for_both(self) -> list[Condition]:
        conditions = []
        if self.language:
            conditions.append(_named("language", self.language))
        if self.document:
            conditions.append(_contains(self.document, "document"))
        if self.measure and self.low is not None:
            conditions.append(Condition((self.measure,), lambda column: pc.greater_equal(column, self.low)))
        if self.measure and self.high is not None:
            conditions.append(Condition((self.measure,), lambda column: pc.less_equal(column, self.high)))
        return conditions


def _named(column: str, value: str) -> Condition:
    return _equal("" if value == UNKNOWN else value, column)


def _equal(value: str, *columns: str) -> Condition:
    return Condition(columns, lambda column: pc.equal(column, value))


def _contains(part: str, column: str) -> Condition:
    return Condition((column,), lambda column: pc.match_substring(column, part, ignore_case=True))


def number_in(name: str, query: Mapping[str, str]) -> float | None:
    """Return the number that a query gives for `name`; None where the query gives none.

    Raises:
        UserError: the value is no number.
    """
    text = query.get(name, "").strip()
    try:
        value = float(text) if text else None
    except ValueError:
        raise UserError(f"{name}={text}: expected a number") from None
    if value is not None and math.isnan(value):
        raise UserError(f"{name}={text}: expected a number")
    return value


class Words:
    """A search for consecutive words in conversations, whatever their case and the white space between them.

    The lines of a page break where the paper ends, so a line break counts as a space. The joiners of `escape.py` are
    ignored, so a search for `<|im_end|>` finds the token as it stood in the data.
    """

    def __init__(self, text: str) -> None:
        words = text.replace(JOINER, "").casefold().split()
        self._phrase = " ".join(words)
        longest = max(words, key=len, default="")
        self._raw = json.dumps(longest, ensure_ascii=False)[1:-1]  # as a sample's JSON spells the word

    def are_in(self, data: bytes) -> bool:
        """Return whether a turn of a sample holds the words; `data` is the sample's JSON member."""
        text = data.decode(errors="replace").replace(JOINER, "")
        if self._raw not in text.casefold():
            return False  # the usual case, and faster than parsing
        turns: list[dict[str, Any]] = json.loads(text)["turns"]
        return any(self._phrase in " ".join(turn["text"].casefold().split()) for turn in turns)
