"""The rules of CONTRIBUTING for English and names, as far as a program can tell."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("varyforge", "datagen", "trainer", "pipelines")
NO_VERB = re.compile(r"(What|Of|Who|Whoever|Where|How(?! many))\b")
NOT_A_NOUN = {"found", "made", "given", "wanted", "asked", "said", "told", "kept", "shown"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
INTERFACES = {"main", "parser", "open_document"}
"""Public names that every command has, or every PDF backend."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def files(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, those behind an assignment included."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text
        body = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
        for before, after in pairwise(body):
            if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                if isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
                    yield after.lineno, after.value.value


def bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every variable and parameter; fields of classes are names on disk and not among them."""
    fields = {
        id(item.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def faults_of(path: Path) -> list[str]:
    tree = tree_of(path)
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    lines = []
    for line, text in docstrings(tree):
        if NO_VERB.match(text):
            lines.append(f"{where}:{line}: begins without a verb: {text.splitlines()[0]}")
        if re.match(r"See `", text):
            lines.append(f"{where}:{line}: says only where to look: {text.splitlines()[0]}")
    lines += [f"{where}:{line}: {name!r} is no noun" for line, name in bound_names(tree) if name in NOT_A_NOUN]
    return lines


def public_names(package: str) -> dict[str, list[str]]:
    """Public top-level functions and classes → the modules of the package that define them."""
    modules = defaultdict(list)
    for path in files(package):
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                modules[node.name].append(str(path.relative_to(ROOT)))
    return modules


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_begin_with_a_verb_and_variables_are_nouns(package: str) -> None:
    assert [line for path in files(package) for line in faults_of(path)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_name_is_defined_once_in_a_package(package: str) -> None:
    twice = {name: paths for name, paths in public_names(package).items() if len(paths) > 1}
    assert {name: paths for name, paths in twice.items() if name not in INTERFACES} == {}


def test_the_rules_see_faults(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text('"""What it is."""\nX = 1\n"""Of X."""\n\n\ndef f(given):\n    """See `g`."""\n    found = given\n')
    assert len(faults_of(bad)) == 5
