"""Tables as lines of a label: with tabs, as Markdown, as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal, NamedTuple

Style = Literal["tabs", "markdown", "html"]


class TableCell(NamedTuple):
    """A cell with its first row and column, from 0, and the rows and columns that it spans."""

    text: str
    row: int
    column: int
    rows: int = 1
    columns: int = 1


def written(cells: Sequence[TableCell], style: Style) -> list[str]:
    """Return the lines of a table.

    Tabs and Markdown write a spanning cell once, in its first row and column, and leave the rest of the span empty.
    Tabs at the end of a row, and in a row of one cell, are left out. Only HTML says how far a cell spans.
    """
    if style == "html":
        return _html(cells)
    width = max(cell.column + cell.columns for cell in cells)
    fields = [[""] * width for _ in range(max(cell.row + cell.rows for cell in cells))]
    for cell in cells:
        fields[cell.row][cell.column] = cell.text
    fields = [row for row in fields if any(row)]
    if style == "tabs":
        return ["\t".join(row).rstrip("\t") if sum(map(bool, row)) > 1 else "".join(row) for row in fields]
    lines = [f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |" for row in fields]
    return [lines[0], "|" + " --- |" * width, *lines[1:]]


def _html(cells: Sequence[TableCell]) -> list[str]:
    rows: dict[int, list[TableCell]] = {number: [] for number in range(max(cell.row + cell.rows for cell in cells))}
    for cell in sorted(cells, key=lambda cell: cell.column):
        rows[cell.row].append(cell)
    return ["<table>", *(f"<tr>{''.join(map(_html_cell, row))}</tr>" for row in rows.values()), "</table>"]


def _html_cell(cell: TableCell) -> str:
    spans = (("rowspan", cell.rows), ("colspan", cell.columns))
    attributes = "".join(f' {name}="{count}"' for name, count in spans if count > 1)
    return f"<td{attributes}>{html.escape(cell.text, quote=False)}</td>"
