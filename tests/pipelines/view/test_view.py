"""The viewer: every row once, what a filter says and nothing else, and nothing of a document runs in the page."""

from __future__ import annotations

import html
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from datagen.card.pictures import COLOURS
from datagen.source import UnitView
from pipelines.view.__main__ import sample_rows, write_page
from pipelines.view.data import Library, RowId
from pipelines.view.filters import OUTCOMES, Filters
from pipelines.view.page import browse, text_page
from pipelines.view.search import find
from tests.pipelines.shard_world import HOSTILE, page, photo, rejected, write_set, write_world
from varyforge.errors import UserError
from varyforge.escape import escape as escape_tokens
from varyforge.shards import MANIFEST, SPLITS

FOREVER = float("inf")


def no_preview(shard_set: str, unit: str) -> UnitView | str:
    return "picture not available: a shard set holds pictures of written units only"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_world(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def library(world: list[str]) -> Library:
    return Library(world)


# What a plain scan gives.


@cache
def scan(library: Library) -> dict[RowId, dict[str, Any]]:
    """Every row, read without the viewer: the index row or ledger row, and what is said in it."""
    rows: dict[RowId, dict[str, Any]] = {}
    number = 0
    for name, shards in library.sets.items():
        for index, ledger in zip(shards.tables(), shards.ledgers(), strict=True):
            samples = index.to_pylist()
            units = [row for row in ledger.to_pylist() if row["outcome"] != "written"]
            for sample in samples:
                turns = shards.read(sample["shard"], sample["offset"], sample["size"]).turns
                sample |= {"outcome": "written", "said": [turn.text for turn in turns]}
            for unit in units:
                unit |= {"said": [unit["detail"]], "key": unit["unit"], "task": "", "split": "", "twins": None}
                unit |= {"group": "", "cause": unit["gate"] or unit["reason"]}
            for at, row in enumerate(samples + units):
                rows[RowId(number, at)] = row | {"set": name}
            number += 1
    return rows


def passes(row: dict[str, Any], asked: Filters) -> bool:
    """Whether a row is what is asked for, said as plainly as can be."""
    if any(getattr(asked, name) not in ("", row[name]) for name in ("set", "outcome", "task", "split", "group")):
        return False
    if asked.language and row["language"] != ("" if asked.language == "unknown" else asked.language):
        return False
    if asked.licence and row.get("licence") != ("" if asked.licence == "unknown" else asked.licence):
        return False
    if asked.cause not in ("", row.get("cause")) or asked.id not in ("", row["key"], row["unit"]):
        return False
    if asked.twins and (row["twins"] is None or asked.twins not in (row["twins"], row["key"])):
        return False
    if asked.document.casefold() not in row["document"].casefold():
        return False
    words = " ".join(asked.text.casefold().split())
    if words and not any(words in " ".join(text.casefold().split()) for text in row["said"]):
        return False
    if not asked.measure or asked.low is asked.high is None:
        return True
    value = row.get(asked.measure)
    low, high = (end if bound is None else bound for bound, end in ((asked.low, -FOREVER), (asked.high, FOREVER)))
    return value is not None and low <= value <= high


def walk(library: Library, asked: Filters, limit: int, budget_s: float = FOREVER) -> list[RowId]:
    """All rows, from page to page; and back again, which gives the same."""
    there: list[RowId] = []
    place: RowId | None = library.row_at(library.span(asked.set)[0])
    while place is not None:
        found = find(library, asked, place, limit=limit, budget_s=budget_s)
        assert len(found.rows) <= limit and (found.next is None or found.next > place)
        there, place = there + found.rows, found.next
    back: list[RowId] = []
    place = library.row_at(library.span(asked.set)[1])
    while place is not None:
        found = find(library, asked, place, limit=limit, forward=False, budget_s=budget_s)
        assert len(found.rows) <= limit and (found.previous is None or found.previous < place)
        back, place = found.rows + back, found.previous
    assert back == there
    return there


@cache
def values(library: Library, name: str) -> list[str]:
    """What a filter can be asked for here, and something that is nowhere."""
    rows = scan(library).values()
    match name:
        case "document":
            return ["REPORT", "文", ".pdf", "<script>", "%", "nowhere"]
        case "text":
            said = ["page 1", "CHARACTER  recognition\n turns", "神经网络", "question", "the ink", HOSTILE, '"', "\\"]
            return [*said, "[", "neural network reads", "not said anywhere"]
        case "id":
            return [*sorted({row[of] for row in rows for of in ("key", "unit")})[::5], "nowhere"]
        case "language":
            return ["en", "zh", "unknown", "fr"]
        case "licence":
            return ["CC BY 2.0", "unknown", "CC"]
        case "outcome":
            return list(OUTCOMES)
        case "set":
            return list(library.sets)
        case "split":
            return [*SPLITS, "nowhere"]
    return [*sorted({row.get(name) or "" for row in rows} - {""}), "nowhere"]


NAMES = ("set", "outcome", "task", "split", "language", "licence", "cause", "document", "text", "twins", "group", "id")


@pytest.mark.parametrize("name", NAMES)
def test_each_filter_gives_what_a_plain_scan_gives(library: Library, name: str) -> None:
    rows = scan(library)
    counts = []
    for value in values(library, name):
        asked = Filters.of({name: f" {value} "})
        expected = [place for place, row in rows.items() if passes(row, asked)]
        for limit in (1, 4) if name != "id" else (2,):
            assert walk(library, asked, limit) == expected, (value, limit)
        counts.append(len(expected))
    assert any(counts)  # the world has what is asked for


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_pages_hold_every_row_once_both_ways(library: Library, limit: int) -> None:
    assert walk(library, Filters(), limit) == list(scan(library))


@pytest.mark.parametrize("bounds", [(0.5, None), (None, 0.31), (0.52, 0.6), (5, 1), (-1e400, 1e400)])
@pytest.mark.parametrize("measure", ["glyphs_on_ink", "chars", "tokens", "answer_chars", "images"])
def test_ranges_of_measures(library: Library, measure: str, bounds: tuple[float | None, float | None]) -> None:
    asked = Filters(measure=measure, low=bounds[0], high=bounds[1])
    assert walk(library, asked, 3) == [place for place, row in scan(library).items() if passes(row, asked)]


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_filters_together(library: Library, data: st.DataObject) -> None:
    rows = scan(library)
    names = data.draw(st.sets(st.sampled_from(NAMES), min_size=1, max_size=4))
    asked = Filters(**{name: data.draw(st.sampled_from(values(library, name)), label=name) for name in sorted(names)})
    if data.draw(st.booleans(), label="range"):
        low = data.draw(st.sampled_from([None, 0.0, 0.53, 12.0]))
        asked = replace(asked, measure=data.draw(st.sampled_from(library.measures())), low=low, high=200.0)
    expected = [place for place, row in rows.items() if passes(row, asked)]
    limit, budget_s = data.draw(st.integers(1, 30)), data.draw(st.sampled_from([0.0, FOREVER]))
    assert walk(library, asked, limit, budget_s) == expected
    start = data.draw(st.sampled_from(list(rows)))
    if asked.set in ("", rows[start]["set"]):
        ahead = find(library, asked, start, limit=1000, budget_s=FOREVER).rows
        behind = find(library, asked, start, limit=1000, forward=False, budget_s=FOREVER).rows
        assert (behind, ahead) == ([p for p in expected if p < start], [p for p in expected if p >= start])


def test_a_search_goes_on_where_its_time_was_over(tmp_path: Path) -> None:
    shards = [[page(200 * n + m, text="needle" if m % 90 == 7 else "hay") for m in range(200)] for n in range(2)]
    write_set(tmp_path / "hay", "pdf", shards, ["glyphs_on_ink", "chars"])
    library = Library([str(tmp_path / "hay")])
    asked = Filters(text="Needle")
    expected = [RowId(shard, row) for shard in range(2) for row in (7, 97, 187)]
    assert walk(library, asked, 100, budget_s=0.0) == expected
    stopped = find(library, asked, RowId(0, 0), limit=100, budget_s=0.0)
    assert not stopped.in_time and stopped.rows == [RowId(0, 7)] and stopped.next == RowId(0, 64)


def test_escaped_text_is_found_as_it_stood_in_the_data(tmp_path: Path) -> None:
    text = "The answer ends in <|im_end|> or </s>."
    write_set(tmp_path / "set", "pdf", [[page(1), page(2, text=escape_tokens(text))]], ["glyphs_on_ink", "chars"])
    library = Library([str(tmp_path / "set")])
    for words in ("<|im_end|>", "in <|im", "</s>.", escape_tokens("</s>")):
        assert walk(library, Filters(text=words), 5) == [RowId(0, 1)], words


def test_a_unit_of_several_samples_and_a_name_in_two_sets(tmp_path: Path) -> None:
    entry = photo(1)
    sample = entry.outcome.samples[0]  # type: ignore[union-attr]
    entry.outcome = replace(entry.outcome, samples=(sample, replace(sample, key=sample.key + "-2")))  # type: ignore[type-var]
    for name in ("a", "b"):
        write_set(tmp_path / name, "detection", [[entry, photo(2)]])
    library = Library([str(tmp_path / name) for name in ("a", "b")])
    assert walk(library, Filters(id="000001.jpg"), 1) == [RowId(0, 0), RowId(0, 1), RowId(1, 0), RowId(1, 1)]
    assert walk(library, Filters(id=sample.key, set=str(tmp_path / "b")), 5) == [RowId(1, 0)]


def test_a_share_of_the_way(library: Library) -> None:
    rows = list(scan(library))
    for share, first in ((0, 0), (50, len(rows) // 2), (100, len(rows) - 1), (-5, 0), (1e9, len(rows) - 1)):
        shown = browse(library, {"go": str(share)})
        assert f"rows {first + 1} – " in shown
        assert f"at={rows[first][0]}.{rows[first][1]}&amp;number=0" in shown or f"at={rows[first]}" in shown
    low, high = library.span(list(library.sets)[1])
    within = browse(library, {"go": "50", "set": list(library.sets)[1]})
    assert f"rows {(high - low) // 2 + 1} – {high - low} of {high - low}" in within


# What stands on the page.


def article(shown: str, name: str) -> str:
    """The card of a row."""
    return next(part for part in shown.split("<article") if f'id="{html.escape(name)}"' in part)


def test_boxes_are_drawn_from_the_answer(library: Library, world: list[str]) -> None:
    shown = browse(library, {"set": world[1]})
    boxes = re.findall(r'class="box" style="([^"]+)"><b>([^<]+)<', shown)
    assert len(boxes) == 7 * 3
    assert boxes[0] == (f"left:5.0%;top:10.0%;width:25.0%;height:70.0%;color:{COLOURS[0]}", "cat")
    assert [label for _, label in boxes[:3]] == ["cat", "cat", "浣熊"]
    assert "浣熊 × 1" in shown and "cat × 2" in shown
    assert 'class="box"' not in browse(library, {"set": world[0]})


def test_units_without_samples_say_why_beside_their_picture(library: Library) -> None:
    shown = browse(library, {"outcome": "rejected"})
    assert shown.count("<article") == shown.count('src="preview?at=') == 8
    card = article(shown, "report.pdf#0001")
    assert "<b>glyphs_on_ink</b>: 0.31, threshold 0.9<br>page 1: the text layer does not stand" in card
    assert "glyphs_on_ink <b>0.31</b>" in card and "ledger row" in card and "index row" not in card
    assert "<b>timeout</b>" in article(browse(library, {"outcome": "failed"}), "broken.pdf#0098")


def test_large_numbers_are_written_out(tmp_path: Path) -> None:
    entry = rejected(1, gate="max_chars")
    entry.outcome = replace(entry.outcome, value=123456.7, threshold=20000)  # type: ignore[type-var]
    write_set(tmp_path / "set", "pdf", [[entry]], ["glyphs_on_ink", "chars"])
    assert "<b>max_chars</b>: 123,457, threshold 20,000" in browse(Library([str(tmp_path / "set")]), {})


def test_a_card_shows_conversation_measures_and_both_rows(library: Library) -> None:
    shown = browse(library, {"id": "report.pdf#0000"})
    assert shown.count("<article") == 1
    assert "Read the page." in shown and "what it has learnt to say" in shown
    assert "index row" in shown and "ledger row" in shown and "<td>01ff</td>" in shown
    assert 'src="image?at=0.0&amp;number=0&amp;px=640' in shown and 'width="12" height="16"' in shown
    assert "glyphs_on_ink <b>0.5</b>" in shown


BREAKING_OUT = ["<script>alert(1)</script>", "\"'><img src=x>", "</textarea></title></style>", "{{7*7}}"]


@pytest.mark.parametrize("hostile", BREAKING_OUT)
def test_hostile_text_is_escaped_wherever_it_stands(tmp_path: Path, hostile: str) -> None:
    entry = page(1, text=hostile, document=hostile, language=hostile, twins=hostile, group=hostile, split=hostile)
    entry.cells = {"licence": hostile}
    refused = rejected(2, gate=hostile, document=hostile, detail=hostile)
    place = str(tmp_path / "a set")
    write_set(place, "pdf", [[entry, refused, photo(1, labels=[hostile.replace(":", "")])]], ["glyphs_on_ink", "chars"])
    library = Library([place])
    named = ("language", "licence", "cause", "document", "text", "id", "task", "split", "twins", "group")
    pages = [browse(library, {}), *(browse(library, {name: hostile}) for name in named)]
    for view in (hostile, UnitView(text=hostile)):
        assert hostile not in text_page(view).partition("<pre")[2] or hostile[0] == "{"
        write_page(tmp_path / "page.html", library, lambda *_, view=view: view, limit=9)
    pages.append((tmp_path / "page.html").read_text())
    for shown in pages:
        assert escape(hostile) in shown
        assert hostile not in shown or hostile[0] == "{"
        for tag in ("script", "title", "style"):
            assert len(re.findall(rf"<{tag}[ >]", shown)) == shown.count(f"</{tag}>") == 1
        assert "<textarea" not in shown and "</textarea" not in shown
        assert shown.count("<img") == len(re.findall(r'<img src="(image\?|preview\?|data:image/)', shown))


def test_numbers_that_json_does_not_have_are_left_out(tmp_path: Path) -> None:
    entry = page(1, cells={"glyphs_on_ink": float("nan"), "chars": float("inf")})
    write_set(tmp_path / "set", "pdf", [[entry]], ["glyphs_on_ink", "chars"])
    shown = browse(Library([str(tmp_path / "set")]), {})
    numbers = json.loads(html.unescape(re.findall(r'data-numbers="([^"]*)"', shown)[0]))
    assert numbers.keys() == {"tokens", "answer_chars", "images"}


def test_an_empty_page_says_so(library: Library) -> None:
    shown = browse(library, {"document": "nowhere"})
    assert "Nothing passes these filters." in shown and '<a href="?">Show everything</a>' in shown
    assert "Nothing passes these filters from here on." in browse(library, {"cause": "min_chars", "go": "100"})


def test_a_damaged_sample_is_shown_as_such(tmp_path: Path) -> None:
    write_set(tmp_path / "set", "pdf", [[page(1), page(2)]], ["glyphs_on_ink", "chars"])
    library = Library([str(tmp_path / "set")])
    tar = tmp_path / "set" / "pdf-0000.tar"
    data = tar.read_bytes()
    tar.write_bytes(b"\0" * 600 + data[600:])
    shown = browse(library, {})
    assert shown.count("this sample cannot be read") == 1 and shown.count("<img") == 1
    start = data.index(b"\xff\xd8")  # of the first picture
    tar.write_bytes(data[:start] + b"\0" * 64 + data[start + 64 :])
    write_page(tmp_path / "page.html", library, no_preview, limit=9)
    assert (tmp_path / "page.html").read_text().count("data:image/svg+xml;base64") == 1


# The page that needs nothing else.


def test_a_written_page_needs_nothing_else(library: Library, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    rows = write_page(out, library, no_preview, limit=1000)
    shown = out.read_text()
    assert rows == shown.count("<article") == library.span("")[1]
    assert not re.search(r"""\b(src|href|action)=["'](?!data:|#|["'])|@import|url\((?!#)""", shown)
    assert not re.search(r"(https?|file)://", shown.replace(HOSTILE, ""))
    assert str(tmp_path.parent) not in re.sub(re.escape(str(Path(next(iter(library.sets))).parent)), "", shown)


@pytest.mark.parametrize("limit", [1, 2, 10, 30])
def test_limit_bounds_a_written_page_and_rows_are_from_all_over(library: Library, tmp_path: Path, limit: int) -> None:
    assert write_page(tmp_path / "page.html", library, no_preview, limit=limit) == limit
    assert (tmp_path / "page.html").read_text().count("<article") == limit
    chosen = sample_rows(library, limit)
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(scan(library))
    if limit >= 10:
        assert len({library.shards[place.shard].name for place in chosen}) == 3
        assert any(place.row >= library.shards[place.shard].record.samples for place in chosen)


def test_a_query_chooses_the_rows_of_a_written_page(library: Library, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert write_page(out, library, no_preview, limit=3, query="language=zh&split=validation") == 3
    assert out.read_text().count('data-language="zh"') == 3
    assert write_page(out, library, no_preview, limit=3, query="go=100") == 1
    with pytest.raises(UserError, match="outcome=odd: expected one of written, rejected, failed"):
        write_page(out, library, no_preview, limit=3, query="outcome=odd")


# The command line.


def command(*arguments: object) -> str:
    """What a viewer that ends with an error says."""
    words = [sys.executable, "-m", "pipelines.view", *map(str, arguments)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and not ended.stdout, ended.stderr
    return ended.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def test_errors_of_the_command_line_are_one_line(world: list[str], tmp_path: Path, taken: int) -> None:
    write_set(tmp_path / "set", "pdf", [[page(1)]], ["glyphs_on_ink", "chars"])
    (tmp_path / "set" / MANIFEST).unlink()
    said = {
        "no such shard set": command(tmp_path / "nowhere"),
        "unfinished: its job has not finished": command(tmp_path / "set"),
        f"127.0.0.1:{taken}: cannot listen there": command(world[0], "--port", taken),
    }
    with pytest.raises(UserError, match="given twice"):
        Library([world[0], world[0]])
    for expected, line in said.items():
        assert expected in line and line.startswith("error: ") and line.count("\n") == 1


def test_a_set_of_an_older_version_is_named(tmp_path: Path) -> None:
    write_set(tmp_path / "set", "pdf", [[page(1)]], ["glyphs_on_ink", "chars"])
    file = tmp_path / "set" / "index" / "pdf-0000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["twins"]), file)
    with pytest.raises(UserError, match="made by an older version: its index has no twins"):
        Library([str(tmp_path / "set")])
