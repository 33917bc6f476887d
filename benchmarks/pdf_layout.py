"""What the text of a page costs, and how its order compares with that of PyMuPDF 2's layout model.

    python benchmarks/pdf_layout.py FOLDER
    python3 -m venv v2 && v2/bin/pip install "pymupdf>=2"
    python benchmarks/pdf_layout.py FOLDER --other v2/bin/python --show 15

FOLDER holds PDFs; the pages are spread evenly over them. With `--other`, an interpreter with PyMuPDF 2 finds boxes with
`page.get_layout()` (a packaged model, by onnxruntime); printed lines are put into its order by the box they lie in, and
compared with ours: Kendall's tau over the lines, edit distance of the texts, lines taken for headers and footers, and
whether the cells of a row of its tables stand on one line of our text. Times are CPU times of one process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any, TypeVar

from rapidfuzz.distance import Levenshtein

from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import Line, Page, PdfError
from datagen.pdf.text.reading_order import TextPolicy, read_text
from varyforge.console import say
from varyforge.errors import command

SHORT_SIDE_PX, LONG_SIDE_PX = 1024, 4096
REPEATS = 3
AS_PRINTED: dict[str, Any] = {"paragraphs": "lines", "leaders": "keep", "ligatures": "keep"}
T = TypeVar("T")

OTHER = """
import json, sys, time
import pymupdf, pymupdf.layout
found = []
for path, number in json.load(sys.stdin):
    with pymupdf.open(path) as document:
        page = document[number]
        begin, wall = time.process_time(), time.perf_counter()
        page.get_layout()
        times = time.process_time() - begin, time.perf_counter() - wall
        found.append({"times": times, "boxes": page.layout_information, "width": page.rect.width})
print("\\n" + json.dumps({"version": pymupdf.__version__, "pages": found}))
"""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A page and what it cost."""

    path: str
    number: int
    page: Page
    text_ms: float
    page_ms: float


@command
def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--other", help="a Python with PyMuPDF 2")
    parser.add_argument("--show", type=int, default=0, help="how many of the least agreeing pages to name")
    arguments = parser.parse_args()
    pages = list(sample(sorted(arguments.folder.glob("*.pdf")), arguments.pages))
    times = sorted(page.text_ms for page in pages)
    say(f"{len(pages)} pages, {mean(len(page.page.lines) for page in pages):.0f} lines each")
    say(f"read_text: {mean(times):.2f} ms per page (median {median(times):.2f}, most {times[-1]:.2f})")
    say(f"rendering and text layer: {mean(page.page_ms for page in pages):.1f} ms per page")
    if arguments.other:
        compare(pages, arguments.other, arguments.show)
    return 0


def sample(paths: list[Path], count: int) -> Iterable[Sampled]:
    """Pages spread evenly over the documents."""
    wanted: list[tuple[Path, int]] = []
    for path in paths:
        with open_document(str(path)) as document:
            most = -(-count // len(paths)) if len(paths) < count else 1
            step = max(1, len(document) // most)
            wanted += [(path, number) for number in range(0, len(document), step)][:most]
    for path, number in wanted:
        try:
            yield measured(path, number)
        except PdfError as error:
            say(f"{path.name} page {number}: {error.reason}")


def measured(path: Path, number: int) -> Sampled:
    """A page of a document, read and timed."""
    with open_document(str(path)) as document:
        page, page_ms = best(lambda: document.page(number, short_side_px=SHORT_SIDE_PX, long_side_px=LONG_SIDE_PX))
    _, text_ms = best(lambda: read_text(page))
    return Sampled(str(path), number, page, text_ms, page_ms)


def best(call: Callable[[], T]) -> tuple[T, float]:
    """Its result, and the CPU time in milliseconds of the fastest of several calls."""
    fastest = float("inf")
    for _ in range(REPEATS):
        begin = time.process_time()
        result = call()
        fastest = min(fastest, time.process_time() - begin)
    return result, 1000 * fastest


def compare(pages: list[Sampled], interpreter: str, show: int) -> None:
    """Prints how the layout model's order, furniture and tables compare with ours."""
    asked = json.dumps([(page.path, page.number) for page in pages])
    run = subprocess.run([interpreter, "-c", OTHER], input=asked, capture_output=True, text=True, check=True)
    answer = json.loads(run.stdout.splitlines()[-1])
    cpu, wall = zip(*(found["times"] for found in answer["pages"]), strict=True)
    say(f"PyMuPDF {answer['version']} get_layout, per page: {1000 * mean(cpu):.0f} ms CPU, {1000 * mean(wall):.0f} ms")
    orders, furniture, cells = [], Counter[str](), Counter[bool]()
    for page, found in zip(pages, answer["pages"], strict=True):
        zoom = page.page.picture.width / found["width"]
        placed = [(place(line, found["boxes"], zoom), line) for line in page.page.lines if seen(line)]
        known = [(*where, line) for where, line in placed if where]
        order = agreement(page.page, [line for *_, line in sorted(known, key=in_box)])
        if order:
            orders.append((*order, Path(page.path).stem, page.number))
        furniture += headers(page.page, known)
        cells += rows_kept(page.page, known)
    taus = [order[0] for order in orders]
    same = sum(tau > 0.98 for tau in taus)
    say(f"order: Kendall's tau {mean(taus):.3f} (median {median(taus):.3f}; {same} of {len(taus)} above 0.98)")
    say(f"order: edit distance of the texts {mean(order[1] for order in orders):.3f}")
    by_whom = f"both {furniture['both']}, only ours {furniture['ours']}, only the model's {furniture['theirs']}"
    say(f"header and footer lines: {by_whom}")
    say(f"neighbouring cells of its tables on one line of ours: {cells[True]} of {cells.total()}")
    for tau, distance, name, number in sorted(orders)[:show]:
        say(f"  {name} page {number}: tau {tau:.3f}, distance {distance:.3f}")


def seen(line: Line) -> bool:
    """Whether the whole line is painted, upright."""
    return bool(line.text.strip()) and all(span.visible for span in line.spans) and line.direction == (1.0, 0.0)


def place(line: Line, boxes: list[list[Any]], zoom: float) -> tuple[int, str] | None:
    """Number and class of the model's box (points) that the middle of the line lies in."""
    x, y = (line.box[0] + line.box[2]) / 2 / zoom, (line.box[1] + line.box[3]) / 2 / zoom
    inside = [n for n, (x0, y0, x1, y1, _) in enumerate(boxes) if x0 <= x <= x1 and y0 - 1 <= y <= y1 + 1]
    if not inside:
        return None
    smallest = min(inside, key=lambda n: (boxes[n][2] - boxes[n][0]) * (boxes[n][3] - boxes[n][1]))
    return smallest, boxes[smallest][4]


def in_box(known: tuple[int, str, Line]) -> tuple[int, int, float]:
    """Order by box, row in it, and x."""
    number, _, line = known
    return number, round((line.box[1] + line.box[3]) / line.spans[0].size), line.box[0]


def agreement(page: Page, theirs: list[Line]) -> tuple[float, float] | None:
    """Kendall's tau and normalised edit distance of two orders of the lines whose text stands once on the page."""
    ours = read_text(page, TextPolicy(**AS_PRINTED)).text
    counts = Counter(line.text.strip() for line in page.lines)
    texts = [
        text for line in theirs if len(text := line.text.strip()) >= 6 and counts[text] == 1 and ours.count(text) == 1
    ]
    if len(texts) < 5:
        return None
    places = [ours.index(text) for text in texts]
    signs = [1 if a < b else -1 for a, b in combinations(places, 2)]
    mine = "".join(sorted(texts, key=ours.index))
    return mean(signs), Levenshtein.normalized_distance(mine, "".join(texts))


def headers(page: Page, known: list[tuple[int, str, Line]]) -> Counter[str]:
    """Lines taken for headers or footers by both, by us, by the model."""
    everything, body = (
        Counter(read_text(page, TextPolicy(headers=headers, **AS_PRINTED)).text.splitlines())
        for headers in ("keep", "drop")
    )
    dropped = {part for row in everything - body for part in (row, *row.split("\t"))}
    found: Counter[str] = Counter()
    for _, kind, line in known:
        text, theirs = line.text.strip(), kind in {"page-header", "page-footer"}
        ours = text in dropped or (
            len(text) > 3 and any(text in part for part in dropped)
        )  # parts of a line are put together
        found[{(True, True): "both", (True, False): "ours", (False, True): "theirs"}.get((ours, theirs), "none")] += 1
    return found


def rows_kept(page: Page, known: list[tuple[int, str, Line]]) -> Counter[bool]:
    """Whether neighbours of one row of the model's tables stand on one line of our text."""
    rows = read_text(page).text.splitlines()
    table = sorted((in_box(item), item[2].text.strip()) for item in known if item[1] == "table")
    return Counter(
        any(left in row and right in row for row in rows) for (a, left), (b, right) in pairwise(table) if a[:2] == b[:2]
    )


if __name__ == "__main__":
    main()
