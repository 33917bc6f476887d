from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from varyforge.config import files_of, find_recipe, load, to_yaml
from varyforge.errors import UserError


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


def test_a_base_further_down(tmp_path: Path) -> None:
    """It lies below what stands beside it and above what the file inherits as a whole; paths are the naming file's."""
    write(tmp_path, "low.yaml", "{out: low, inner: {rate: 1, mode: b}, named: {x: {rate: 1}}}")
    write(tmp_path, "parts/inner.yaml", "base: rates/low.yaml\nmode: a")
    write(tmp_path, "parts/rates/low.yaml", "{rate: 2, mode: b}")
    write(tmp_path, "parts/named.yaml", "y: {base: rates/low.yaml, rate: 3}\nz: {base: [inner.yaml, rates/low.yaml]}")
    top = write(
        tmp_path, "top.yaml", "base: low.yaml\ninner: {base: parts/inner.yaml}\nnamed: {base: parts/named.yaml}"
    )
    named = {"x": Inner(rate=1), "y": Inner(rate=3, mode="b"), "z": Inner(rate=2, mode="b")}
    assert load(Outer, top) == Outer(out="low", inner=Inner(rate=2, mode="a"), named=named)
    assert load(Outer, top, ["named.y.rate=9"]).named["y"] == Inner(rate=9, mode="b")
    found = [str(path.relative_to(tmp_path)) for path in files_of(top)]
    assert found == ["low.yaml", "parts/rates/low.yaml", "parts/inner.yaml", "parts/named.yaml", "top.yaml"]


def test_references_in_a_base_further_down_are_to_the_whole_recipe(tmp_path: Path) -> None:
    write(tmp_path, "inner.yaml", "rate: ${named.x.rate}")
    top = write(tmp_path, "top.yaml", "{out: x, inner: {base: inner.yaml}, named: {x: {rate: 7}}}")
    assert load(Outer, top).inner.rate == 7


def test_only_file_names_are_bases(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Free:
        config: dict[str, int] = field(default_factory=dict)

    assert load(Free, write(tmp_path, "free.yaml", "config: {base: 10000}")).config == {"base": 10000}


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
        ("{out: x, inner: {base: gone.yaml}}", [], ["gone.yaml", "no such recipe", "r.yaml"]),
        ("{out: x, named: {y: {base: r.yaml}}}", [], ["circle"]),
        ("{out: x, inner: {base: bad.yaml}}", [], ["bad.yaml", "inner.rat", "rate"]),
        ("out: x", ["inner.rat=3"], ["command line", "inner.rat", "rate"]),
        ("out: x", ["nonsense"], ["command line", "'nonsense'", "key=value"]),
    ],
)
def test_errors_are_one_line_with_file_and_key(
    tmp_path: Path, text: str, overrides: list[str], parts: list[str]
) -> None:
    write(tmp_path, "bad.yaml", "rat: 1")
    path = write(tmp_path, "r.yaml", text)
    with pytest.raises(UserError) as error:
        load(Outer, path, overrides)
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize("name", ["recipes/toy_pretrain.yaml", "toy_pretrain.yaml", "toy_pretrain", "demo/toy_sft"])
def test_a_shipped_recipe_is_found_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = find_recipe(name)
    assert path.is_file() and path.stem == Path(name).stem
    assert files_of(Path(name))[-1] == path
    assert find_recipe("gone") == Path("gone")
    assert find_recipe(tmp_path / "toy_pretrain") == tmp_path / "toy_pretrain"


def test_a_file_of_the_working_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy_pretrain.yaml").write_text("out: mine")
    assert files_of(Path("toy_pretrain.yaml")) == [Path("toy_pretrain.yaml")]
    (tmp_path / "own.yaml").write_text("base: toy_sft.yaml\nout: mine")
    assert files_of(Path("own.yaml"))[-2] == find_recipe("toy_sft")  # the base is a shipped one
    assert files_of(Path("own.yaml"))[-1] == Path("own.yaml")


def test_a_word_in_place_of_a_list_is_shown_how_to_be_one() -> None:
    @dataclass(frozen=True)
    class Listed:
        languages: list[str] = field(default_factory=list)

    with pytest.raises(UserError, match=r"languages: is a list: write it as \[a,b\]"):
        load(Listed, None, ["languages=eng,deu"])
