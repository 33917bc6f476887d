"""Tables of captions: one table gives the same records in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.caption.record import CaptionRecord
from datagen.caption.tables import ENDINGS, Columns, read_table

COLUMNS = Columns("path", "text")
CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=8)


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    """A table with another column between the two."""
    match path.suffix:
        case ".parquet":
            columns = {
                "path": [image for image, _ in rows],
                "id": list(range(len(rows))),
                "text": [text for _, text in rows],
            }
            pq.write_table(pa.table(columns), path)
        case ".jsonl":
            lines = [json.dumps({"path": image, "id": 1, "text": text}) for image, text in rows]
            path.write_text("\n".join(lines), encoding="utf-8")
        case ending:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
                writer.writerow(["path", "id", "text"])
                writer.writerows((image, "1", text) for image, text in rows)
    return str(path)


def content(path: str) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(one.image, one.captions, one.failure is None) for one in read_table(path, COLUMNS)]


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS.filter(bool), CELLS), min_size=1, max_size=5))
def test_any_text_comes_back(tmp_path: Path, ending: str, rows: list[tuple[str, str]]) -> None:
    path = write(tmp_path / f"a{ending}", rows)
    assert content(path) == [(image, (text,), True) for image, text in rows]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, ending: str) -> None:
    path = Path(write(tmp_path / f"a{ending}", [("a.jpg", "A dog.")]))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert content(str(path)) == [("a.jpg", ("A dog.",), True)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_column_that_is_not_there_is_named(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", [("a.jpg", "A dog.")])
    message = r"not one column 'caption'; there are 'path', 'id', 'text' \(settings image_column and caption_column\)"
    if ending == ".jsonl":  # each line has keys of its own
        (record,) = read_table(path, Columns("path", "caption"))
        assert record.failure and record.failure.detail.startswith("not one column 'caption'")
        return
    with pytest.raises(ValueError, match=message):
        list(read_table(path, Columns("path", "caption")))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_row_without_an_image_costs_itself(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path / f"a{ending}", [("", "A dog."), ("b.jpg", "A cat.")])
    wrong, good = read_table(path, COLUMNS)
    assert wrong.failure and wrong.failure.detail == "'path' is empty"
    assert (good.image, good.captions) == ("b.jpg", ("A cat.",))


def test_lists_of_captions_where_the_format_has_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"path": "a.jpg", "text": ["A dog.", "A puppy."]}))
    pq.write_table(pa.table({"path": ["a.jpg"], "text": [["A dog.", "A puppy."]]}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        (record,) = read_table(str(tmp_path / name), COLUMNS)
        assert isinstance(record, CaptionRecord) and record.captions == ("A dog.", "A puppy.")


def test_records_are_named_by_line_or_row(tmp_path: Path) -> None:
    rows = [("a.jpg", "one\nor two"), ("b.jpg", "three")]
    names = {
        ending: [one.name for one in read_table(write(tmp_path / f"a{ending}", rows), COLUMNS)] for ending in ENDINGS
    }
    assert names[".csv"] == names[".tsv"] == ["00000002", "00000004"]  # a quoted caption takes two lines
    assert names[".jsonl"] == names[".parquet"] == ["00000001", "00000002"]


def test_no_known_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no table; known are \.parquet, \.csv, \.tsv, \.jsonl"):
        read_table(str(tmp_path / "a.xlsx"), COLUMNS)
