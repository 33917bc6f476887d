from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType

import pytest

from datagen.pdf.text import (
    code,
    columns,
    document_order,
    furniture,
    grid,
    margins,
    paragraphs,
    reading_order,
    regions,
    rows,
    sentences,
    tables,
    terms,
    thresholds,
)

PHASES = (
    code,
    reading_order,
    margins,
    furniture,
    grid,
    regions,
    rows,
    columns,
    sentences,
    document_order,
    paragraphs,
    tables,
    terms,
)
ROW = re.compile(r"([A-Z_]+) = \S.*  # [^|]+ \| (?:[\w.-]+#\d+ \(\d+\)|-)")


def test_each_threshold_has_a_unit_a_meaning_and_a_page() -> None:
    rows = [line for line in inspect.getsource(thresholds).splitlines() if " = " in line and line[0].isupper()]
    names = [row[1] for line in rows if (row := ROW.fullmatch(line))]
    assert names == [name for name in vars(thresholds) if name.isupper()]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__.rpartition(".")[2])
def test_thresholds_are_in_the_table_alone_and_each_is_used(phase: ModuleType) -> None:
    numbers = {node.value for node in ast.walk(ast.parse(inspect.getsource(phase))) if isinstance(node, ast.Constant)}
    assert {number for number in numbers if isinstance(number, float)} <= {0.0, 1.0}


def test_no_threshold_is_left_over() -> None:
    used = {name for phase in PHASES for name in re.findall(r"\blimits\.([A-Z_]+)", inspect.getsource(phase))}
    assert used == {name for name in vars(thresholds) if name.isupper()}
