"""Pages per second against the PDF library alone, and where the time goes.

    python -m benchmarks.pdf_throughput papers/

One run, the same pages throughout:

- bare: one process opens each document once and, page by page, renders at the job's size, encodes JPEG at its quality
  and extracts the text with the same library; nothing else. What a person would write in ten lines.
- job: `datagen.pdf` as it is (audit, reading order, isolation, tars, hashes, index, ledger), with one worker and with
  two, from its start to its manifest. Ray's own start is not counted.
- parts: one process calls the job's functions one after the other and times each.

Wall-clock figures mean something on an otherwise idle machine only; CPU seconds are those of the process and its
children.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import pickle
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import PIL.Image
import pymupdf

from datagen.inputs.listing import list_files
from datagen.job.duplicates import fingerprint
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner, Runner
from datagen.job.settings import JobSettings
from datagen.pdf.audit.gates import judge, measure
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import PdfError
from datagen.pdf.source import PdfSource
from datagen.pdf.text.reading_order import read_text
from varyforge.console import say, show_table
from varyforge.errors import command
from varyforge.images import encode_jpeg
from varyforge.language import read
from varyforge.lengths import estimate_tokens
from varyforge.shards import ShardSet

T = TypeVar("T")


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def wanted(source: PdfSource) -> list[tuple[str, int]]:
    """The pages that the job can render; both sides do exactly these."""
    found = []
    for path in list_files(source.paths, ".pdf"):
        try:
            with open_document(path) as document:
                for number in range(len(document)):
                    page = document._document.load_page(number)
                    short, long = sorted((page.rect.width, page.rect.height))
                    if short >= 1 and source.short_side_px / short * long <= source.long_side_px:
                        found.append((path, number))
        except PdfError:
            continue
    return found


def bare(pages: list[tuple[str, int]], source: PdfSource) -> None:
    """The ten lines."""
    opened, document = "", None
    for path, number in pages:
        if path != opened:
            opened, document = path, pymupdf.open(path)
        page = document.load_page(number)  # type: ignore[union-attr]  # opened above
        zoom = source.short_side_px / min(page.rect.width, page.rect.height)
        pixmap = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), colorspace=pymupdf.csRGB, alpha=False)
        picture = PIL.Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
        picture.save(io.BytesIO(), "JPEG", quality=source.jpeg_quality)
        page.get_text("text")


def parts(pages: list[tuple[str, int]], source: PdfSource) -> dict[str, float]:
    """CPU seconds of each part of the job over all pages."""
    spent: Counter[str] = Counter()

    def timed(name: str, call: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        started = time.process_time()
        try:
            return call(*arguments, **keywords)
        finally:
            spent[name] += time.process_time() - started

    size = {"short_side_px": source.short_side_px, "long_side_px": source.long_side_px}
    opened, document = "", None
    for path, number in pages:
        if path != opened:
            opened, document = path, timed("open", open_document, path)
        page = timed("render, glyph runs, shapes", document.page, number, **size)  # type: ignore[union-attr]
        text = timed("reading order", read_text, page, source.text).text
        reading = timed("language", read, text)
        measures = timed("audit", measure, page, text, reading)
        if judge(measures, reading.language, source.gates):
            continue
        image = timed("JPEG", encode_jpeg, page.picture, source.jpeg_quality)
        timed("pickle both ways", lambda data: pickle.loads(pickle.dumps(data)), image)
        timed("hash, tar", lambda data: (hashlib.sha256(data), io.BytesIO().write(data)), image.data)
        timed("fingerprint, tokens", lambda text: (fingerprint(text), estimate_tokens(text)), text)
    return dict(spent)


def job(source: PdfSource, out: Path, runner: Runner, units_per_shard: int) -> int:
    """The whole job. Returns the number of units."""
    shutil.rmtree(out, ignore_errors=True)
    return run_job(source, out, JobSettings(units_per_shard=units_per_shard), runner).units


def local_job(source: PdfSource, out: Path, workers: int, units_per_shard: int) -> int:
    """The whole job in threads of this process, to the end of its children: only then their CPU seconds are known."""
    runner = LocalRunner(workers)
    units = job(source, out, runner, units_per_shard)
    runner.close()
    return units


def resident_of_children() -> Iterator[int]:
    """MiB held by each child process that makes units, now."""
    for entry in Path("/proc").iterdir():
        try:
            if b"datagen.job.isolate" in (entry / "cmdline").read_bytes():
                yield int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
        except (OSError, ValueError):
            continue


def best(call: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Wall and CPU seconds of the fastest of several runs."""
    runs = []
    for _ in range(repeats):
        wall, cpu = time.monotonic(), cpu_seconds()
        call()
        runs.append((time.monotonic() - wall, cpu_seconds() - cpu))
    return min(runs)


@command
def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", help="PDF files or folders")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each, of which the fastest counts (%(default)s)"
    )
    parser.add_argument("--units-per-shard", type=int, default=JobSettings().units_per_shard)
    parser.add_argument("--ray", action="store_true", help="the job on Ray too")
    arguments = parser.parse_args()
    source = PdfSource(paths=arguments.paths)
    pages = wanted(source)
    out = Path(tempfile.mkdtemp(prefix="throughput-"))
    rows: list[tuple[str, ...]] = []

    def row(name: str, units: int, seconds: tuple[float, float], against: float) -> float:
        rate = units / seconds[0]
        cpu = f"{1000 * seconds[1] / units:.1f}"
        rows.append((name, f"{rate:.1f}", cpu, f"{rate / against:.2f}" if against else "1"))
        return rate

    bare(pages, source)  # the page cache, the fonts
    alone = row("bare loop, 1 process", len(pages), best(lambda: bare(pages, source), arguments.repeats), 0)
    units = local_job(source, out, 1, arguments.units_per_shard)
    here = lambda workers: best(  # noqa: E731
        lambda: local_job(source, out, workers, arguments.units_per_shard), arguments.repeats
    )
    one = row("job, 1 worker", units, here(1), alone)
    two = row("job, 2 workers", units, here(2), alone)
    if arguments.ray:
        from datagen.job.ray_runner import RayRunner  # noqa: PLC0415  # Ray takes a second to import

        for workers in (1, 2):
            with RayRunner(workers=workers) as runner:
                seconds = best(lambda: job(source, out, runner, arguments.units_per_shard), arguments.repeats)
                row(f"job on Ray, {workers} workers", units, seconds, alone)
    show_table(f"{len(pages)} pages", ("", "pages/s", "CPU ms/page", "of the bare loop"), rows)
    say(f"2 workers are {two / one:.2f} times 1 worker; per worker they reach {two / 2 / alone:.2f} of the bare loop")
    spent = parts(pages, source)
    table = [(name, f"{1000 * seconds / len(pages):.2f}") for name, seconds in spent.items()]
    show_table(
        "parts of the job, one process",
        ("", "CPU ms/page"),
        [*table, ("sum", f"{1000 * sum(spent.values()) / len(pages):.2f}")],
    )
    written = sum(record.tar_bytes for record in ShardSet(out).records)
    say(f"{written / 1e6:.0f} MB of tars; memory of the children now: {list(resident_of_children())} MiB")
    shutil.rmtree(out)


if __name__ == "__main__":  # by its real name, which the child processes can import
    from benchmarks.pdf_throughput import main as _main

    _main()
