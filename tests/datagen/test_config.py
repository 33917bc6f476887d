from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from datagen.config import files_of, load, to_yaml
from datagen.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    rate: float = 1e-3
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    out: str
    inner: Inner = field(default_factory=Inner)
    named: dict[str, Inner] = field(default_factory=dict)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_layers_in_order(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "{out: low, inner: {rate: 2e-5}, named: {x: {mode: b}}}")
    write(tmp_path, "more/sizes.yaml", "inner: {rate: 5}")
    top = write(tmp_path, "top.yaml", "base: [low.yaml, more/sizes.yaml]\nnamed: {x: {rate: 7}}")
    settings = load(Outer, top, ["inner.mode=b", "out=here"])
    assert settings == Outer(out="here", inner=Inner(rate=5, mode="b"), named={"x": Inner(rate=7, mode="b")})
    assert [path.name for path in files_of(top)] == ["low.yaml", "sizes.yaml", "top.yaml"]
    again = write(tmp_path, "again.yaml", to_yaml(settings))
    assert load(Outer, again) == settings


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("{out: x, inner: {rat: 1}}", [], ["r.yaml", "inner.rat", "rate"]),
        ("{out: x, inner: {rate: fast}}", [], ["r.yaml", "inner.rate", "fast"]),
        ("{out: x, inner: {mode: c}}", [], ["r.yaml", "inner.mode", "'a', 'b'"]),
        ("inner: {rate: 1}", [], ["r.yaml", "out"]),
        ("{out: x, named: {y: {z: 1}}}", [], ["r.yaml", "named.y.z"]),
        ("out: [unclosed", [], ["r.yaml", "YAML"]),
        ("- a list", [], ["r.yaml", "keys and values"]),
        ("base: gone.yaml", [], ["gone.yaml", "no such recipe", "r.yaml"]),
        ("base: r.yaml", [], ["circle"]),
        ("out: x", ["inner.rat=3"], ["command line", "inner.rat", "rate"]),
        ("out: x", ["nonsense"], ["command line", "'nonsense'", "key=value"]),
    ],
)
def test_errors_are_one_line_with_file_and_key(
    tmp_path: Path, text: str, overrides: list[str], parts: list[str]
) -> None:
    path = write(tmp_path, "r.yaml", text)
    with pytest.raises(UserError) as error:
        load(Outer, path, overrides)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message
