"""Lists of objects that a table holds as an object of lists."""

from __future__ import annotations

from typing import Any


def rows_of(value: Any) -> Any:
    """Return `{"a": [1, 2], "b": [3, 4]}` as `[{"a": 1, "b": 3}, {"a": 2, "b": 4}]`, and any other value unchanged.

    The library `datasets` stores a sequence of structs in this way. The lists must have one length. A null is left out.
    """
    if not isinstance(value, dict) or not value or not all(isinstance(column, list) for column in value.values()):
        return value
    if len({len(column) for column in value.values()}) > 1:
        return value
    rows = (dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True))
    return [{key: field for key, field in row.items() if field is not None} for row in rows]
