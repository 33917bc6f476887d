"""Measure time and memory of the PDF job on hostile documents, and whether its limits hold.

    python -m benchmarks.pdf_hostile --deadline 10 --memory 2048
    python -m benchmarks.pdf_hostile --only tiling --deadline 5

The documents are made here. Each goes through the job, a process of its own with one worker. Seconds are wall clock
from start to end of the job, peak memory is that of its largest process. Every document must end in rows of the ledger,
or in the job's one line about a file that no page can be read from, within its deadlines and with no process above
`--memory`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pymupdf

from benchmarks.bench import Miss, Table, main_of, work_folder
from datagen.job.ledger import cause_of
from varyforge.errors import UserError
from varyforge.shards import ShardSet

TINY = {"only": "truncated", "deadline": 20.0}
START_S = 20.0  # for starting the job's processes, on a machine with other work
TRIES = 4  # deadlines that one page may take: cutting the file, the page, both again after running out of memory
_ENDED = (0, 1)  # the job's exit status with samples and without
PARENT_MIB = 256  # the job's own process has no limit; its peak is near 130

TEXT = b"BT /F 12 Tf 72 700 Td (A line of text that everybody can read) Tj ET "


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--deadline", type=float, default=10.0, help="seconds per page (%(default)s)")
    parser.add_argument("--memory", type=int, default=2048, help="MiB of address space (%(default)s)")
    parser.add_argument("--only", default="", help="part of the names of the kinds to try")


def raw(*objects: bytes, trailer: bytes = b"") -> bytes:
    """Return a PDF of the objects, which count from 1; the first one is the catalogue."""
    body, places = bytearray(b"%PDF-1.7\n"), []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return bytes(body + b"trailer <</Size %d /Root 1 0 R %s>>\nstartxref\n%d\n" % (len(objects) + 1, trailer, start))


def stream(content: bytes, entries: bytes = b"", *, packed: bool = False) -> bytes:
    """Return a stream object."""
    if packed:
        content, entries = zlib.compress(content, 9), entries + b" /Filter /FlateDecode"
    return b"<<%s /Length %d>>\nstream\n%s\nendstream" % (entries, len(content), content)


def page(
    content: bytes,
    *more: bytes,
    resources: bytes = b"",
    entries: bytes = b"",
    box: bytes = b"0 0 612 792",
    packed: bool = False,
) -> bytes:
    """Return a PDF of one page; `more` are its further objects, which count from 6."""
    font = b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>"
    fonts = b"" if b"/Font" in resources else b"/Font <</F 5 0 R>>"
    return raw(
        b"<</Type /Catalog /Pages 2 0 R>>",
        b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
        b"<</Type /Page /Parent 2 0 R /MediaBox [%s] /Contents 4 0 R /Resources <<%s %s>> %s>>"
        % (box, fonts, resources, entries),
        stream(content, packed=packed),
        font,
        *more,
    )


def form(content: bytes, resources: bytes = b"", entries: bytes = b"") -> bytes:
    """Return a form object of a page's size."""
    head = b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources <<%s>> %s" % (resources, entries)
    return stream(content, head)


def forms_of_forms(levels: int) -> bytes:
    """Return a page of 10 to the power of `levels` operations."""
    inner = [form(b"/X Do " * 10, b"/XObject <</X %d 0 R>>" % (7 + level)) for level in range(levels - 1)]
    return page(b"/X Do", *inner, form(b"0 0 1 1 re f " * 10), resources=b"/XObject <</X 6 0 R>>")


def tiling(step: bytes) -> bytes:
    """Return a page painted with a pattern of that step."""
    head = (
        b"/Type /Pattern /PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 5 5] /XStep %s /YStep %s /Resources <<>>"
    )
    cell = stream(b"0 0 3 3 re f", head % (step, step))
    return page(b"/Pattern cs /P scn 0 0 612 792 re f " + TEXT, cell, resources=b"/Pattern <</P 6 0 R>>")


def image(width: int, height: int, bits: int, data: bytes, entries: bytes) -> bytes:
    """Return a page with a picture."""
    head = b"/Type /XObject /Subtype /Image /Width %d /Height %d /BitsPerComponent %d /ColorSpace /DeviceGray %s"
    picture = stream(data, head % (width, height, bits, entries))
    return page(b"612 0 0 792 0 0 cm /X Do", picture, resources=b"/XObject <</X 6 0 R>>")


def tree(pages: bytes, *more: bytes) -> bytes:
    """Return a PDF with the given root of the page tree; `more` count from 3."""
    return raw(b"<</Type /Catalog /Pages 2 0 R>>", pages, *more)


def deep_tree(levels: int) -> bytes:
    """Return a PDF whose page lies so many nodes deep."""
    nodes = [b"<</Type /Pages /Kids [%d 0 R] /Count 1>>" % (number + 3) for number in range(levels)]
    return tree(*nodes, b"<</Type /Page /MediaBox [0 0 612 792]>>")


def glyph(content: bytes, resources: bytes) -> bytes:
    """Return a page with a Type 3 font whose letter "a" is `content`."""
    font = (
        b"<</Type /Font /Subtype /Type3 /FontBBox [0 0 1 1] /FontMatrix [1 0 0 1 0 0] /FirstChar 97 /LastChar 97"
        b" /Widths [1] /Encoding <</Differences [97 /a]>> /CharProcs <</a 7 0 R>> /Resources <<%s>>>>" % resources
    )
    text = b"BT /G 12 Tf 72 700 Td (aaaaaaaa) Tj ET " + TEXT
    return page(text, font, stream(content), resources=b"/Font <</F 5 0 R /G 6 0 R>>")


def many_fonts(count: int) -> bytes:
    """Return a page that uses so many fonts."""
    fonts = b"".join(b"/F%d %d 0 R " % (number, number + 6) for number in range(count))
    text = b"".join(b"BT /F%d 9 Tf %d 700 Td (ab) Tj ET " % (number, number % 500) for number in range(count))
    object_ = b"<</Type /Font /Subtype /TrueType /BaseFont /Font%d>>"
    return page(text, *(object_ % number for number in range(count)), resources=b"/Font <<%s>>" % fonts)


def mapped_to(characters: int) -> bytes:
    """Return a page whose letter "a" stands for so many characters, a thousand times."""
    cmap = b"begincmap 1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfchar <61> <%s> endbfchar endcmap"
    font = b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 7 0 R>>"
    text = b"BT /G 9 Tf 72 700 Td (%s) Tj ET" % (b"a" * 1000)
    return page(text, font, stream(cmap % (b"0061" * characters)), resources=b"/Font <</G 6 0 R>>")


def masked_by_itself() -> bytes:
    """Return a page whose soft mask uses that mask."""
    state = b"<</Type /ExtGState /SMask <</S /Luminosity /G 7 0 R>>>>"
    group = form(b"/S gs 0 0 612 792 re f", b"/ExtGState <</S 6 0 R>>", b"/Group <</S /Transparency /CS /DeviceGray>>")
    return page(b"/S gs 0 0 612 792 re f " + TEXT, state, group, resources=b"/ExtGState <</S 6 0 R>>")


def nested_groups(levels: int) -> bytes:
    """Return a page of transparency groups in one another."""
    group = b"/Group <</S /Transparency /I true>>"
    inner = [form(b"/X Do", b"/XObject <</X %d 0 R>>" % (7 + level), group) for level in range(levels)]
    return page(b"/X Do " + TEXT, *inner, form(b"0 0 9 9 re f"), resources=b"/XObject <</X 6 0 R>>")


def own_appearance() -> bytes:
    """Return a page with an annotation whose appearance shows itself."""
    annotation = b"<</Type /Annot /Subtype /Stamp /Rect [0 0 600 700] /AP <</N 7 0 R>>>>"
    return page(TEXT, annotation, form(b"/X Do", b"/XObject <</X 7 0 R>>"), entries=b"/Annots [6 0 R]")


def saved(**settings: Any) -> bytes:
    """Return an ordinary document, saved with settings of PyMuPDF."""
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 90), "A line of text that everybody can read")
        return bytes(document.tobytes(**settings))


def flipped(document: bytes) -> bytes:
    """Return a document in which every 97th byte is another one."""
    return bytes(byte ^ (0x5A if place % 97 == 96 else 0) for place, byte in enumerate(document))


def empty_pages(count: int) -> bytes:
    """Return a document of empty pages."""
    kids = b" ".join(b"%d 0 R" % (number + 3) for number in range(count))
    leaf = b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 612 792]>>"
    return tree(b"<</Type /Pages /Count %d /Kids [%s]>>" % (count, kids), *[leaf] * count)


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
ENCRYPTED = {"encryption": pymupdf.PDF_ENCRYPT_AES_256, "owner_pw": "owner"}
LEAF = b"<</Type /Page /Parent 2 0 R /MediaBox [0 0 612 792]>>"

KINDS: dict[str, Callable[[], bytes]] = {
    "forms: 10^8 operations": lambda: forms_of_forms(8),
    "form that shows itself": lambda: page(
        b"/X Do", form(b"/X Do " + TEXT, b"/XObject <</X 6 0 R>>"), resources=b"/XObject <</X 6 0 R>>"
    ),
    "annotation that shows itself": own_appearance,
    "soft mask of itself": masked_by_itself,
    "transparency groups, 2,000 deep": lambda: nested_groups(2000),
    "Type 3 letter that shows itself": lambda: glyph(b"1 0 d0 BT /G 1 Tf (a) Tj ET", b"/Font <</G 6 0 R>>"),
    "Type 3 letter of 10^6 operations": lambda: glyph(b"1 0 d0 " + b"0 0 1 1 re f " * 1_000_000, b""),
    "tiling with step 0.001": lambda: tiling(b"0.001"),
    "tiling with step 0": lambda: tiling(b"0"),
    "dashes of 0.0001": lambda: page(b"[0.0001] 0 d " + b"0 0 m 612 792 l S " * 1000 + TEXT),
    "a million curves": lambda: page(b"0 0 m " + b"9 800 600 -9 300 300 c " * 1_000_000 + b"S", packed=True),
    "500,000 saved states": lambda: page(b"q " * 500_000 + TEXT, packed=True),
    "200,000 arrays in one another": lambda: page(b"[" * 200_000 + b"]" * 200_000 + b" TJ " + TEXT, packed=True),
    "10 million pieces of text": lambda: page(b"BT /F 9 Tf " + b"(a)Tj " * 10_000_000 + b"ET", packed=True),
    "2 million lines of text": lambda: page(b"BT /F 9 Tf 1 TL " + b"(ab)' " * 2_000_000 + b"ET", packed=True),
    "a letter that stands for 500": lambda: mapped_to(500),
    "5,000 fonts": lambda: many_fonts(5000),
    "a font that is missing": lambda: page(TEXT.replace(b"/F ", b"/Nothing ")),
    "font size 0": lambda: page(TEXT.replace(b" 12 Tf", b" 0 Tf")),
    "text matrix of zeros": lambda: page(TEXT.replace(b"72 700 Td", b"0 0 0 0 72 700 Tm")),
    "text matrix of 1e38": lambda: page(TEXT.replace(b"72 700 Td", b"1e38 0 0 1e38 1e38 -1e38 Tm")),
    "matrix that is no number": lambda: page(b"nan nan nan nan nan nan cm " + TEXT),
    "numbers of 400 digits": lambda: page(b"9" * 400 + b" 0 0 " + b"9" * 400 + b" 0 0 cm " + TEXT),
    "page of 2e9 points": lambda: page(TEXT, box=b"0 0 2000000000 2000000000"),
    "page of 14,400 points": lambda: page(TEXT, box=b"0 0 14400 14400"),
    "page of 0.01 points": lambda: page(TEXT, box=b"0 0 0.01 0.01"),
    "page of no size": lambda: page(TEXT, box=b"5 5 5 5"),
    "page box of words": lambda: page(TEXT, box=b"nan inf (a) /b"),
    "page of 3 x 90,000 points": lambda: page(TEXT, box=b"0 0 3 90000"),
    "user unit of 100,000": lambda: page(TEXT, entries=b"/UserUnit 100000"),
    "page tree that holds itself": lambda: tree(b"<</Type /Pages /Kids [2 0 R] /Count 1>>"),
    "page that is its own parent": lambda: tree(
        b"<</Type /Pages /Kids [3 0 R] /Count 1>>", b"<</Type /Page /Parent 3 0 R>>"
    ),
    "page tree, 50,000 deep": lambda: deep_tree(50_000),
    "page count of 2e9": lambda: tree(b"<</Type /Pages /Kids [3 0 R] /Count 2000000000>>", LEAF),
    "page count of -5": lambda: tree(b"<</Type /Pages /Kids [3 0 R] /Count -5>>", LEAF),
    "3,000 empty pages": lambda: empty_pages(3000),
    "table of objects before itself": lambda: page(TEXT).replace(b"/Root", b"/Prev 9 /Root"),
    "stream of 400 MB in 400 kB": lambda: page(b"\n" * 400_000_000, packed=True),
    "picture of 60,000 x 60,000": lambda: image(
        60_000, 60_000, 8, zlib.compress(b"\0" * 60_000), b"/Filter /FlateDecode"
    ),
    "picture of 20,000 x 20,000 bits": lambda: image(
        20_000, 20_000, 1, zlib.compress(b"\x55" * 50_000_000), b"/Filter /FlateDecode"
    ),
    "JPEG 2000 that is none": lambda: image(5000, 5000, 8, b"\xff\x4f\xff\x51" + b"\x7f" * 999, b"/Filter /JPXDecode"),
    "JBIG2 that is none": lambda: image(5000, 5000, 1, b"\x7f" * 999, b"/Filter /JBIG2Decode"),
    "password to open": lambda: saved(user_pw="user", **ENCRYPTED),
    "password to change": lambda: saved(**ENCRYPTED),
    "truncated": lambda: saved()[:400],
    "every 97th byte flipped": lambda: flipped(saved()),
    "PNG named .pdf": lambda: PNG,
    "HTML named .pdf": lambda: b"<!doctype html><p>not found</p>",
    "no bytes at all": lambda: b"",
    "name that is no UTF-8": lambda: page(TEXT),
}
"""Kind → function that makes the document."""


@dataclass(frozen=True)
class Ran:
    """The job's end on a document."""

    status: int
    seconds: float
    peak_mib: float
    outcomes: Counter[str]  # "written", "rejected: min_chars", "failed: timeout", …
    error: str  # last line of the job's messages

    def row(self, kind: str) -> list[str]:
        """Return the row of the table."""
        outcomes = ", ".join(
            f"{count} x {name}" if count > 1 else name for name, count in sorted(self.outcomes.items())
        )
        return [kind, outcomes or self.error or "no row", f"{self.seconds:.1f}", f"{self.peak_mib:.0f}"]


def write(kind: str, path: bytes) -> None:
    """Write the document of a kind."""
    Path(os.fsdecode(path)).write_bytes(KINDS[kind]())


def run_job(folder: Path, out: Path, deadline: float, memory: int) -> Ran:
    """Run the job on a folder of one document."""
    words = ["--runner", "local", "--workers", "1", "--deadline", f"{deadline:g}", "--memory", str(memory)]
    command = [sys.executable, "-m", "datagen.pdf", str(folder), "--out", str(out), *words]
    begin = time.monotonic()
    with (out.with_suffix(".log")).open("w+b") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(job.pid, 0)
        job.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begin
        log.seek(0)
        message = log.read().decode(errors="replace").strip().rpartition("\n")[2]
    outcomes: Counter[str] = Counter()
    if job.returncode in _ENDED:
        outcomes.update(map(cause_of, ShardSet(str(out)).ledger().to_pylist()))
    return Ran(job.returncode, seconds, usage.ru_maxrss / 1024, outcomes, message)


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Run the job on each kind of document.

    Raises:
        UserError: no kind has the name.
    """
    kinds = [name for name in KINDS if arguments.only in name]
    if not kinds:
        raise UserError(f"--only {arguments.only}: no such kind; there are {', '.join(KINDS)}")
    rows, misses = [], []
    with work_folder() as work:
        for number, kind in enumerate(kinds):
            folder = work / str(number)
            folder.mkdir()
            name = b"\xff\xfe.pdf" if "UTF-8" in kind else b"hostile.pdf"
            with ProcessPoolExecutor(
                1, mp_context=get_context("spawn")
            ) as other:  # else its memory counts as the job's
                other.submit(write, kind, os.fsencode(folder) + b"/" + name).result()
            ran = run_job(folder, work / f"{number}.out", arguments.deadline, arguments.memory)
            rows.append(ran.row(kind))
            misses += [f"{kind}: {miss}" for miss in missed(ran, arguments.deadline, arguments.memory)]
    yield Table(
        title=f"{len(rows)} kinds of documents, deadline {arguments.deadline:g} s, memory {arguments.memory} MiB.",
        head=("document", "outcome of its pages", "s", "peak MiB"),
        rows=rows,
    )
    yield from map(Miss, misses)


def missed(ran: Ran, deadline: float, memory: int) -> Iterator[str]:
    """Yield what the job did beyond its limits."""
    if not ran.outcomes and not ran.error.endswith("it cannot be used"):
        yield f"the job ended with status {ran.status} and {ran.outcomes.total()} rows; {ran.error}"
    if ran.seconds > START_S + TRIES * deadline * max(ran.outcomes.total() / 100, 1):
        yield f"took {ran.seconds:.0f} s"
    if ran.peak_mib > memory + PARENT_MIB:
        yield f"took {ran.peak_mib:.0f} MiB"


if __name__ == "__main__":
    main_of("benchmarks.pdf_hostile")
