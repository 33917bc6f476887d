"""Looking up what a recipe names, and saying what would have been right when it is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from varyforge.errors import UserError

Row = TypeVar("Row")


def lookup(table: Mapping[str, Row], name: str, what: str) -> Row:
    """The row `name` of a table of parts; UserError lists the rows and the nearest one."""
    if name not in table:
        raise UserError(f"{what}: found {name!r}, expected one of {', '.join(table)}{nearest(name, table)}")
    return table[name]


def check_keys(config: Mapping[str, Any], valid: Iterable[str], what: str) -> None:
    """Refuse a part's configuration that has a key the part does not know; UserError names the nearest one."""
    valid = sorted(valid)
    for key in config:
        if key not in valid:
            known = f"valid keys: {', '.join(valid)}" if valid else "it takes none"
            raise UserError(f"{what}: unknown key {key!r}{nearest(key, valid)}; {known}")


def nearest(name: str, options: Iterable[str]) -> str:
    """The option that a wrong name comes near to, as the end of an error; "" when there is none."""
    close = difflib.get_close_matches(name, list(options), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
