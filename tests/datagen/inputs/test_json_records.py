from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.inputs import json_records
from datagen.inputs.json_records import read_json_records as records
from varyforge.errors import WrongFormat

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@given(values=st.lists(JSON, max_size=5), indent=st.sampled_from([None, 2]), ascii=st.booleans())
def test_a_list_is_read_as_python_reads_it(
    tmp_path_factory: pytest.TempPathFactory, chunk: int, values: list[object], indent: int | None, ascii: bool
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    for given_values, key in ((values, ""), ({"a": {"data": [0]}, "data": values, "b": 1}, "data")):
        text = json.dumps(given_values, indent=indent, ensure_ascii=ascii)
        path.write_bytes(text.encode(errors="surrogatepass" if ascii else "replace"))
        expected = json.loads(path.read_bytes())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_records, "_CHUNK", chunk)  # windows end within words, numbers and characters
            found = [record.value for record in records(path, key)]
        assert found == (expected[key] if key else expected)


@pytest.mark.parametrize(
    ("text", "before", "said"),
    [
        ("", 0, "not JSON: Expecting value at character 0"),
        ("{}", 0, "expected a list of records, or one record a line; found an object"),
        ('{"data": [1]}', 0, "found an object with the keys 'data'"),
        ('"prose"', 0, "found text"),
        ("3", 0, "found a number"),
        ("[1, 2", 2, "character 5: expected ',' or ']', found the end"),
        ('[{"a": 1}, {"a": "cut', 1, "not JSON: Unterminated string starting at at character 17"),
        ("[1, 2,]", 2, "not JSON: Expecting value at character 6"),
        ("[1 2]", 1, "character 3: expected ',' or ']', found '2'"),
        ("[1]\n[2]", 1, "files of one JSON text a line end in .jsonl"),
        ("[1]" + "[" * 100_000, 1, "more text behind the list"),
        ("[" * 100_000, 0, "nested too deeply"),
        ("[1, " + "9" * 5000 + "]", 1, "not JSON: Exceeds the limit"),
        (b'[1, "\xff"]', 0, "not UTF-8"),
        ("[1]".encode("utf-16"), 0, "UTF-16, as PowerShell writes it; save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_records(tmp_path: Path, text: str | bytes, before: int, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = records(path)
    for _ in range(before):
        next(found)
    with pytest.raises(WrongFormat, match=re.escape(said)):
        next(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"data": 3}', "key 'data' is missing, or holds no list"),
        ('{"date": []}', "key 'data' is missing"),
        ("[]", "expected an object with lists, found a list"),
        ('{"a": 1', "expected ',' or '}', found the end"),
    ],
)
def test_an_object_without_the_list(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(WrongFormat, match=re.escape(said)):
        list(records(tmp_path / "a.json", "data"))


def test_a_broken_line_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "MAX_RECORD", 200)
    monkeypatch.setattr(json_records, "_CHUNK", 16)
    lines = [
        b'\xef\xbb\xbf{"a": 1}',
        b"",
        b'{"a": ',
        b'{"a": "\xff"}',
        b"[" * 150,
        b'"' + b"x" * 5000 + b'"',
        b'{"a": "\\ud83d"}',
        b"null",
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\r\n".join(lines))
    found = {record.number: record.wrong or record.value for record in records(tmp_path / "a.jsonl")}
    assert found == {
        0: {"a": 1},
        2: "line 3: not JSON: Expecting value: line 1 column 6 (char 5)",
        3: "line 4: not UTF-8: invalid start byte; it looks like Windows-1252: save it as UTF-8",
        4: "line 5: not JSON: Expecting value: line 1 column 151 (char 150)",
        5: "line 6: longer than 0 MiB",
        6: {"a": "\ud83d"},
        7: None,
    }


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "text", ['{"a": 1}\n{"a": 2}\n', '[\n {"a": 1},\n {\n  "a": 2\n }\n]\n', '[{"a": 1}, {"a": 2}]']
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_content_and_not_the_name_tells_lines_from_a_list(tmp_path: Path, name: str, text: str, mark: str) -> None:
    (tmp_path / name).write_text(mark + text, encoding="utf-8")
    assert [record.value for record in records(tmp_path / name)] == [{"a": 1}, {"a": 2}]


def test_a_mark_where_two_files_are_joined(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"a": 1}\n\ufeff{"a": 2}\n', encoding="utf-8")
    assert [record.value for record in records(tmp_path / "a.jsonl")] == [{"a": 1}, {"a": 2}]


def test_a_line_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 100_000 + "\n[1]\n")
    first, second = records(tmp_path / "a.jsonl")
    assert (first.wrong, second.value) == ("line 1: nested too deeply", [1])


def test_an_error_early_in_a_large_file_does_not_read_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "MAX_RECORD", 1000)
    monkeypatch.setattr(json_records, "_CHUNK", 100)
    (tmp_path / "a.json").write_text('[{"a" 1},' + " " * 3000 + "\xff")
    with pytest.raises(WrongFormat, match="Expecting ':' delimiter at character 6"):
        list(records(tmp_path / "a.json"))


MEMORY = """
import resource, sys
from pathlib import Path
from datagen.inputs.json_records import read_json_records as records
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(1 for _ in records(Path(sys.argv[1]))), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_memory_holds_a_record_and_not_the_file(tmp_path: Path, name: str) -> None:
    one = json.dumps({"conversations": [{"from": "human", "value": "word " * 4000}]})
    with (tmp_path / name).open("w") as file:
        for number in range(3000):  # 60 MB
            file.write(one + "\n" if name == "a.jsonl" else ("," if number else "[") + one)
        file.write("" if name == "a.jsonl" else "]")
    command = [sys.executable, "-c", MEMORY, str(tmp_path / name)]
    count, mebibytes = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert (count, mebibytes < 20) == (3000, True), mebibytes
