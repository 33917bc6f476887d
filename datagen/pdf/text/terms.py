"""Names in the left margin of a text: the commands of a manual, the terms of a description.

They are taken out of the rows, because they are no column of a table, and the lines beside them go on below them. The
text that a name stands beside, or above, is written behind it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from datagen.pdf.text import thresholds as limits
from datagen.pdf.text.regions import Row, Run, full
from datagen.pdf.text.sentences import sentences

_ENDS = "!?。！？：；．"
_MAY_END = ".:;"  # or abbreviate, before a small letter
_ROMAN = re.compile(r"[IVXLC]+\.?")


class _Term(NamedTuple):
    """A name in the margin, and the row of text at its height, if there is one."""

    run: Run
    row: Row | None
    opens: bool  # whether it stands on the line of a text that begins there


def terms_apart(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without the names in the left margin. Each is in `Run.lead` of the text that follows it."""
    left = _text_edge(rows)
    if left is None:
        return list(rows)
    largest = (1 + limits.ALIKE_SIZE) * median(row.size for row in rows)
    parts = [_parted(row, left, largest) for row in rows]
    names = sum(bool(term) for term, _ in parts)
    most = limits.TERM_SHARE * sum(bool(text) for _, text in parts)
    keys = sum(_is_key(row, left) for row in rows)
    if not max(2 * keys, _outdented(rows, left)) < names <= most or not _is_prose(rows, left):
        return list(rows)
    texts: list[Row] = []
    terms: list[_Term] = []
    right = full(rows)
    for term, text in parts:
        if term:
            opens = bool(text and _on_one_line(term, text) and not (texts and _goes_on(texts[-1], text, right)))
            terms.append(_Term(term, text, opens))
        texts += [text] if text else []
    below = texts
    for group in _groups(terms):
        top = group[0].run.middle - limits.SAME_ROW * group[0].run.size
        below = [row for row in below if row is group[0].row or row.middle >= top]
        plain = [row for row in below if type(row.runs[0]) is Run]  # no ruled table
        if plain:
            plain[0].runs[0].lead += _lead(group)
        else:
            texts += [Row([term.run]) for term in group]
    return texts


def _text_edge(rows: Sequence[Row]) -> float | None:
    """Return the x at which the text begins; None where no row begins further left or too few rows begin there."""
    wide = sorted((run.x0, run.size) for row in rows for run in row.runs if _is_wide(run))
    least = max(limits.TERM_LINES, len(wide) * limits.TERM_EDGE)
    for number, (x0, size) in enumerate(wide):
        if sum(x - x0 < limits.TERM_NEAR * size for x, _ in wide[number:]) >= least:
            return x0 if any(row.x0 < x0 - limits.TERM_OUT * size for row in rows) else None
    return None


def _is_wide(run: Run) -> bool:
    return run.x1 - run.x0 >= limits.PROSE_WIDTH * run.size


def _outdented(rows: Sequence[Row], left: float) -> int:
    """Count the lines that begin in the margin, as those of another column or of a text with indented parts do."""
    first = [row.runs[0] for row in rows]
    return sum(
        run.x0 < left - limits.TERM_OUT * run.size and _is_wide(run) and _split(run, left)[0] is None
        for run in first
        if run.text[:1].isalpha()
    )


def _is_prose(rows: Sequence[Row], left: float) -> bool:
    """Whether sentences go on from line to line in the text that begins at `left`."""
    lines = [above for above, _ in sentences(rows) if abs(above.x0 - left) < limits.LINE_SHIFT * above.size]
    return len(lines) >= limits.TERM_SENTENCES


def _parted(row: Row, left: float, largest: float) -> tuple[Run | None, Row | None]:
    """Return the name in the margin of a row, of at most a size, and the text beside it; without a name all is text."""
    first = row.runs[0]
    if row.x0 >= left - limits.TERM_OUT * first.size or type(first) is not Run:
        return None, row
    head, rest = (first, None) if first.x1 <= left else _split(first, left)
    runs = [*([rest] if rest else []), *row.runs[1:]]
    near = not runs or left - limits.TERM_NEAR * first.size <= runs[0].x0
    if head is None or _are_cells(runs) or not near or not _is_name(head) or head.size > largest:
        return None, row
    return head, Row(runs) if runs else None


def _is_key(row: Row, left: float) -> bool:
    """Whether a row has cells beside a text in the margin, which is a key of a table then."""
    return row.runs[0].x1 <= left and _is_name(row.runs[0]) and _are_cells(row.runs[1:])


def _are_cells(runs: Sequence[Run]) -> bool:
    return any(b.x0 - a.x1 >= limits.CELL_GAP * b.size for a, b in pairwise(runs))


def _is_name(run: Run) -> bool:
    """Whether a text in the margin is no line of prose, and no number of a line, an item or a part."""
    text = run.text.strip()
    if _is_wide(run) and " " in text:
        return False
    return sum(map(str.isalpha, text)) >= limits.TERM_LETTERS and not _ROMAN.fullmatch(text)


def _split(run: Run, left: float) -> tuple[Run | None, Run | None]:
    """Return the parts of a run before and behind the gap at which the text begins; nothing without such a gap."""
    for place, end, start in run.joints:
        if abs(start - left) < limits.TERM_NEAR * run.size:
            text = run.text[place:].lstrip()
            moved = len(run.text) - len(text)
            joints = tuple((at - moved, e, s) for at, e, s in run.joints if at > place)
            return (
                replace(run, text=run.text[:place].rstrip(), x1=end, joints=()),
                replace(run, text=text, x0=start, joints=joints),
            )
    return None, None


def _on_one_line(term: Run, text: Row) -> bool:
    return abs(term.y1 - text.runs[0].y1) < limits.TERM_LINE * text.size


def _goes_on(above: Row, row: Row, right: float) -> bool:
    """Whether a row goes on with the sentence of a row above it that ends at the margin."""
    last, small = above.runs[-1].text.rstrip()[-1:], row.runs[0].text.lstrip()[:1].islower()
    ends = last in _ENDS or (last in _MAY_END and not small)
    return not ends and right - above.x1 <= limits.RAGGED * row.size


def _groups(terms: Sequence[_Term]) -> list[list[_Term]]:
    """Return the names that stand below one another, beside one text."""
    groups = [[terms[0]]]
    for above, term in pairwise(terms):
        near = term.run.middle - above.run.middle < limits.LINE_BELOW * term.run.size
        if near and not (above.opens and term.opens):
            groups[-1].append(term)
        else:
            groups.append([term])
    return groups


def _lead(group: Sequence[_Term]) -> str:
    """Return names as they are written before their text: on its line for one that stands there, else above it."""
    (run, row, opens), *others = group
    if others or not opens or row is None:
        return "".join(f"{term.run.text.strip()}\n" for term in group)
    return run.text.strip() + ("\t" if row.x0 - run.x1 >= limits.CELL_GAP * row.size else " ")
