from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.inputs import json_records
from datagen.inputs.json_records import arrays
from varyforge.errors import WrongFormat

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=4), below, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


def read(path: Path) -> dict[str, list[Any]]:
    return {name: list(items) for name, items in arrays(path)}


@given(
    root=st.dictionaries(st.text(max_size=6), values, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.none() | st.just(1),
)
def test_the_same_as_reading_it_whole(folder: Path, root: dict[str, Any], chunk: int, indent: int | None) -> None:
    path = folder / "a.json"
    path.write_text(json.dumps(root, indent=indent, ensure_ascii=False), encoding="utf-8", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_CHUNK", chunk)
        assert read(path) == {name: value for name, value in root.items() if isinstance(value, list)}


def test_items_that_nobody_asks_for_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2, 3], "b": {"c": [9]}, "d": [4]}')
    found = []
    for name, items in arrays(tmp_path / "a.json"):
        found.append((name, next(items)))
    assert found == [("a", 1), ("d", 4)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value at character 0"),
        ("[1, 2]", "expected an object with lists, found a list"),
        ('{"a": [1, 2', "character 11: expected ',' or ']', found the end"),
        ('{"a": [1, {"b": ', "Expecting value"),
        ('{"a": [1 2]}', "character 9: expected ',' or ']', found '2'"),
        ('{"a": [1,]}', "Expecting value"),
        ('{"a": [1]} {}', "character 11: more text behind the object"),
        ('{"a": [1]', "character 9: expected ',' or '}', found the end"),
        ("{3: [1]}", "character 1: expected '\"', found '3'"),
        ('{"a": ["\\ud8"]}', "escape"),
        ('{"a": [' + "[" * 100_000, "nested too deeply"),
        ('{"a": ["' + "x" * 4_000_000 + '"]}', "Unterminated string"),
        ('{"a": [' + "1" * 5000 + "]}", "integer"),
    ],
)
def test_what_is_broken_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    monkeypatch.setattr(json_records, "MAX_RECORD", 1_000_000)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(WrongFormat) as caught:
        read(tmp_path / "a.json")
    assert said in str(caught.value)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"a": ["\xff"]}')
    with pytest.raises(WrongFormat, match="not UTF-8"):
        read(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": [1]}')
    assert read(tmp_path / "a.json") == {"a": [1]}
