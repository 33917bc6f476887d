"""Measure the time of a page's text, and how its order compares with that of PyMuPDF 2's layout model.

    python -m benchmarks.pdf_layout FOLDER
    python3 -m venv v2 && v2/bin/pip install "pymupdf>=2"
    python -m benchmarks.pdf_layout FOLDER --other v2/bin/python --show 15

Pages are spread evenly over the PDF files of the inputs. With `--other`, an interpreter with PyMuPDF 2 finds boxes by
`page.get_layout()` (a packaged model, by onnxruntime). Printed lines are put into the model's order by the box that
contains the line, and compared with ours: Kendall's tau over the lines, edit distance of the texts, lines that count as
headers and footers, and whether the cells of a row of the model's tables stand on one line of our text. Times are CPU
times of one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeVar

from rapidfuzz.distance import Levenshtein

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.inputs import add_inputs, draw_documents, files_in, inputs_of
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Line, Page, PdfError
from datagen.pdf.text.reading_order import TextPolicy, read_text
from varyforge.console import say

SHORT_SIDE_PX, LONG_SIDE_PX = 1024, 4096
REPEATS = 3
AS_PRINTED: dict[str, Any] = {"paragraphs": "lines", "leaders": "keep", "ligatures": "keep"}
T = TypeVar("T")

OTHER = """
import json, sys, time
import pymupdf, pymupdf.layout
pages = []
for path, number in json.load(sys.stdin):
    with pymupdf.open(path) as document:
        page = document[number]
        begin, wall = time.process_time(), time.perf_counter()
        page.get_layout()
        times = time.process_time() - begin, time.perf_counter() - wall
        pages.append({"times": times, "boxes": page.layout_information, "width": page.rect.width})
print("\\n" + json.dumps({"version": pymupdf.__version__, "pages": pages}))
"""
TINY = {"pages": 2}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_inputs(parser, "PDF files")
    parser.add_argument("--pages", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--other", help="a Python with PyMuPDF 2")
    parser.add_argument("--show", type=int, default=0, help="number of least agreeing pages to name (%(default)s)")


@dataclass(frozen=True, slots=True)
class Sampled:
    """A page and its times."""

    path: str
    number: int
    page: Page
    text_ms: float
    page_ms: float


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Time our text; with `--other` compare it with the layout model's."""
    with work_folder() as work:
        paths = files_in(inputs_of(arguments, work / "pdf", draw_documents), ".pdf")
        pages = list(sample(paths, arguments.pages))
        times = sorted(page.text_ms for page in pages)
        lines = mean(len(page.page.lines) for page in pages)
        yield f"{len(pages)} pages of {len(paths)} documents, {lines:.0f} lines a page."
        yield Table(
            head=("CPU ms a page", "mean", "median", "most"),
            rows=[
                ("our rules (`read_text`)", f"{mean(times):.2f}", f"{median(times):.2f}", f"{times[-1]:.2f}"),
                ("rendering and text layer", f"{mean(page.page_ms for page in pages):.1f}", "-", "-"),
            ],
        )
        if arguments.other:
            yield compare(pages, arguments.other, arguments.show)


def sample(paths: list[Path], count: int) -> Iterable[Sampled]:
    """Yield pages spread evenly over the documents."""
    numbers: list[tuple[Path, int]] = []
    for path in paths:
        with open_document(str(path)) as document:
            most = -(-count // len(paths)) if len(paths) < count else 1
            step = max(1, len(document) // most)
            numbers += [(path, number) for number in range(0, len(document), step)][:most]
    for path, number in numbers:
        try:
            yield measured(path, number)
        except PdfError as error:
            say(f"{path.name} page {number}: {error.reason}")


def measured(path: Path, number: int) -> Sampled:
    """Read and time a page of a document."""
    with open_document(str(path)) as document:
        page, page_ms = best(lambda: document.page(number, short_side_px=SHORT_SIDE_PX, long_side_px=LONG_SIDE_PX))
    _, text_ms = best(lambda: read_text(page))
    return Sampled(str(path), number, page, text_ms, page_ms)


def best(call: Callable[[], T]) -> tuple[T, float]:
    """Return the result of a call, and the CPU ms of the fastest of several calls."""
    fastest = float("inf")
    for _ in range(REPEATS):
        begin = time.process_time()
        result = call()
        fastest = min(fastest, time.process_time() - begin)
    return result, 1000 * fastest


def compare(pages: list[Sampled], interpreter: str, show: int) -> Table:
    """Compare the layout model's order, headers and footers, and tables with ours."""
    numbers = json.dumps([(page.path, page.number) for page in pages])
    run = subprocess.run([interpreter, "-c", OTHER], input=numbers, capture_output=True, text=True, check=True)
    answer = json.loads(run.stdout.splitlines()[-1])
    cpu, wall = zip(*(page["times"] for page in answer["pages"]), strict=True)
    orders, furniture, cells = [], Counter[str](), Counter[bool]()
    for page, theirs in zip(pages, answer["pages"], strict=True):
        zoom = page.page.picture.width / theirs["width"]
        boxed = [(box_of(line, theirs["boxes"], zoom), line) for line in page.page.lines if seen(line)]
        known = [(*box, line) for box, line in boxed if box]
        order = agreement(page.page, [line for *_, line in sorted(known, key=in_box)])
        if order:
            orders.append((*order, Path(page.path).stem, page.number))
        furniture += headers(page.page, known)
        cells += rows_intact(page.page, known)
    for tau, distance, name, number in sorted(orders)[:show]:
        say(f"  {name} page {number}: tau {tau:.3f}, distance {distance:.3f}")
    taus = [order[0] for order in orders]
    return Table(
        title=f"PyMuPDF {answer['version']} get_layout() beside our rules.",
        head=("figure", "value"),
        rows=[
            ("model, ms a page", f"{1000 * mean(cpu):.0f} CPU, {1000 * mean(wall):.0f} wall"),
            ("order: Kendall's tau", f"{mean(taus):.3f} (median {median(taus):.3f})"),
            ("pages with a tau above 0.98", f"{sum(tau > 0.98 for tau in taus)} of {len(taus)}"),
            ("order: edit distance of the texts", f"{mean(order[1] for order in orders):.3f}"),
            ("header and footer lines: both, only ours, only the model's",
             f"{furniture['both']}, {furniture['ours']}, {furniture['theirs']}"),
            ("neighbouring cells of the model's tables on one line of ours", f"{cells[True]} of {cells.total()}"),
        ],
    )  # fmt: skip


def seen(line: Line) -> bool:
    """Return whether the whole line is painted, upright."""
    return bool(line.text.strip()) and all(span.visible for span in line.spans) and line.direction == (1.0, 0.0)


def box_of(line: Line, boxes: list[list[Any]], zoom: float) -> tuple[int, str] | None:
    """Return number and class of the model's box (in points) that contains the middle of the line."""
    x, y = (line.box[0] + line.box[2]) / 2 / zoom, (line.box[1] + line.box[3]) / 2 / zoom
    inside = [n for n, (x0, y0, x1, y1, _) in enumerate(boxes) if x0 <= x <= x1 and y0 - 1 <= y <= y1 + 1]
    if not inside:
        return None
    smallest = min(inside, key=lambda n: (boxes[n][2] - boxes[n][0]) * (boxes[n][3] - boxes[n][1]))
    return smallest, boxes[smallest][4]


def in_box(known: tuple[int, str, Line]) -> tuple[int, int, float]:
    """Return the sort key of a line: box, row in the box, x."""
    number, _, line = known
    return number, round((line.box[1] + line.box[3]) / line.spans[0].size), line.box[0]


def agreement(page: Page, theirs: list[Line]) -> tuple[float, float] | None:
    """Return Kendall's tau and normalised edit distance of two orders of the lines whose text is unique on the page."""
    ours = read_text(page, TextPolicy(**AS_PRINTED)).text
    counts = Counter(line.text.strip() for line in page.lines)
    texts = [
        text for line in theirs if len(text := line.text.strip()) >= 6 and counts[text] == 1 and ours.count(text) == 1
    ]
    if len(texts) < 5:
        return None
    positions = [ours.index(text) for text in texts]
    signs = [1 if a < b else -1 for a, b in combinations(positions, 2)]
    mine = "".join(sorted(texts, key=ours.index))
    return mean(signs), Levenshtein.normalized_distance(mine, "".join(texts))


def headers(page: Page, known: list[tuple[int, str, Line]]) -> Counter[str]:
    """Count lines that are headers or footers for both, for us alone, for the model alone."""
    everything, body = (
        Counter(read_text(page, TextPolicy(headers=headers, **AS_PRINTED)).text.splitlines())
        for headers in ("keep", "drop")
    )
    dropped = {part for row in everything - body for part in (row, *row.split("\t"))}
    counts: Counter[str] = Counter()
    for _, kind, line in known:
        text, theirs = line.text.strip(), kind in {"page-header", "page-footer"}
        ours = text in dropped or (
            len(text) > 3 and any(text in part for part in dropped)
        )  # parts of a line are joined
        counts[{(True, True): "both", (True, False): "ours", (False, True): "theirs"}.get((ours, theirs), "none")] += 1
    return counts


def rows_intact(page: Page, known: list[tuple[int, str, Line]]) -> Counter[bool]:
    """Count whether neighbours of one row of the model's tables stand on one line of our text."""
    rows = read_text(page).text.splitlines()
    table = sorted((in_box(item), item[2].text.strip()) for item in known if item[1] == "table")
    return Counter(
        any(left in row and right in row for row in rows) for (a, left), (b, right) in pairwise(table) if a[:2] == b[:2]
    )


if __name__ == "__main__":
    main_of("benchmarks.pdf_layout")
