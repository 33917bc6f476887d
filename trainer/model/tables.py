"""Lookup of names and keys of a recipe, with the nearest valid one in the error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from varyforge.errors import UserError

Row = TypeVar("Row")


def lookup(table: Mapping[str, Row], name: str, key: str) -> Row:
    """Return row `name` of a table of parts. UserError names the recipe's `key`, all rows and the nearest one."""
    if name not in table:
        raise UserError(f"{key}: found {name!r}, expected one of {', '.join(table)}{nearest(name, table)}")
    return table[name]


def check_keys(config: Mapping[str, Any], valid: Iterable[str], part: str) -> None:
    """Raise UserError if a part's configuration has a key that is not `valid`. The error names the nearest one."""
    valid = sorted(valid)
    for key in config:
        if key not in valid:
            known = f"valid keys: {', '.join(valid)}" if valid else "it takes none"
            raise UserError(f"{part}: unknown key {key!r}{nearest(key, valid)}; {known}")


def nearest(name: str, options: Iterable[str]) -> str:
    """Return the end of an error message that names the option most similar to `name`, or ""."""
    close = difflib.get_close_matches(name, list(options), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
