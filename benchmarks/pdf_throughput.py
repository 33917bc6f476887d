"""Measure pages per second of the PDF job against the PDF library alone, and the time of each part.

    python -m benchmarks.pdf_throughput FOLDER --repeats 3 --ray

All rows are about the same pages:

- bare: one process opens each document once and, page by page, renders at the job's size, encodes JPEG at its quality
  and extracts the text with the same library; nothing else. It is the program that one would write in ten lines. Two
  such processes at once, each with every page, show how much faster the machine is with two
- job: `datagen.pdf` as it is (audit, reading order, isolation, tars, hashes, index, ledger), with one worker and with
  two, from its start to its manifest. Ray's own start is not counted
- parts: one process calls the job's functions one after the other and times each

Wall-clock figures need an otherwise idle machine. CPU seconds are those of the process and its children.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import PIL.Image
import pymupdf

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.clocks import PartTimes, Spent, spent
from benchmarks.inputs import add_inputs, draw_documents, inputs_of
from datagen.inputs.listing import list_files
from datagen.job.duplicates import fingerprint
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner, Runner
from datagen.job.settings import JobSettings
from datagen.pdf.audit.gates import judge
from datagen.pdf.audit.gates import measure as measure_page
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import PdfError, picture_size, zoom_of
from datagen.pdf.source import PdfSource
from datagen.pdf.text.reading_order import read_text
from datagen.source import Source
from varyforge.images import encode_jpeg
from varyforge.language import read
from varyforge.lengths import estimate_tokens
from varyforge.shards import ShardSet

TINY = {"repeats": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_inputs(parser, "PDF files")
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs of each, of which the fastest counts (%(default)s)"
    )
    parser.add_argument("--units-per-shard", type=int, default=JobSettings().units_per_shard, help="(%(default)s)")
    parser.add_argument("--ray", action="store_true", help="the job on Ray too")


def renderable(source: PdfSource) -> list[tuple[str, int]]:
    """List the pages that the job can render; all rows are about these."""
    pages = []
    for path in list_files(source.paths, ".pdf"):
        try:
            with open_document(path) as document:
                for number in range(len(document)):
                    page = document._document.load_page(number)
                    with suppress(PdfError):
                        picture_size(page.rect.width, page.rect.height, source.short_side_px, source.long_side_px)
                        pages.append((path, number))
        except PdfError:
            continue
    return pages


def bare(pages: list[tuple[str, int]], source: PdfSource) -> None:
    """Run the ten lines."""
    opened, document = "", None
    for path, number in pages:
        if path != opened:
            opened, document = path, pymupdf.open(path)
        page = document.load_page(number)  # type: ignore[union-attr]  # opened above
        zoom = zoom_of(page.rect.width, page.rect.height, source.short_side_px, source.long_side_px)
        pixmap = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), colorspace=pymupdf.csRGB, alpha=False)
        picture = PIL.Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
        picture.save(io.BytesIO(), "JPEG", quality=source.jpeg_quality)
        page.get_text("text")


def bare_twice(pages: list[tuple[str, int]], source: PdfSource) -> None:
    """Run the ten lines in two processes at once, each over all pages."""
    fork = multiprocessing.get_context("fork")  # as quick as it gets: nothing is imported again
    processes = [fork.Process(target=bare, args=(pages, source)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def part_times(pages: list[tuple[str, int]], source: PdfSource) -> Table:
    """Return CPU ms a page of each part of the job."""
    times = PartTimes()
    size = {"short_side_px": source.short_side_px, "long_side_px": source.long_side_px}
    opened, document = "", None
    for path, number in pages:
        if path != opened:
            opened, document = path, times.timed("open", open_document, path)
        page = times.timed("render, glyph runs, shapes", document.page, number, **size)  # type: ignore[union-attr]
        text = times.timed("reading order", read_text, page, source.text).text
        reading = times.timed("language", read, text)
        measures = times.timed("audit", measure_page, page, text, reading)
        if judge(measures, reading.language, source.gates):
            continue
        image = times.timed("JPEG", encode_jpeg, page.picture, source.jpeg_quality)
        times.timed("pickle both ways", lambda data: pickle.loads(pickle.dumps(data)), image)
        times.timed("hash, tar", lambda data: (hashlib.sha256(data), io.BytesIO().write(data)), image.data)
        times.timed("fingerprint, tokens", lambda text: (fingerprint(text), estimate_tokens(text)), text)
    seconds = {**times.seconds, "sum": sum(times.seconds.values())}
    return Table(
        title="CPU ms a page of the job's parts, in one process.",
        head=list(seconds),
        rows=[[f"{1000 * value / len(pages):.2f}" for value in seconds.values()]],
    )


def job(source: Source, out: Path, runner: Runner, units_per_shard: int) -> int:
    """Run the whole job. Returns the number of units."""
    shutil.rmtree(out, ignore_errors=True)
    return run_job(source, out, JobSettings(units_per_shard=units_per_shard), runner).units


def local_job(source: Source, out: Path, workers: int, units_per_shard: int) -> int:
    """Run the whole job in threads, until its children have ended: CPU seconds of live children are not known."""
    with LocalRunner(workers) as runner:
        return job(source, out, runner, units_per_shard)


def best(call: Callable[[], object], repeats: int) -> Spent:
    """Time the fastest of several runs."""
    return min(spent(call) for _ in range(repeats))


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Time the bare loop, the job and its parts."""
    with work_folder() as work:
        source = PdfSource(paths=[str(path) for path in inputs_of(arguments, work / "pdf", draw_documents)])
        pages, out, shard_size = renderable(source), work / "out", arguments.units_per_shard
        bare(pages, source)  # fills the page cache and the caches of fonts
        loop = best(lambda: bare(pages, source), arguments.repeats)
        loop_rate = len(pages) / loop.wall
        rows = [("bare loop, 1 process", f"{loop_rate:.1f}", f"{1000 * loop.cpu / len(pages):.1f}", "1")]
        loops = best(lambda: bare_twice(pages, source), arguments.repeats)
        rate, cpu_ms = 2 * len(pages) / loops.wall, f"{500 * loops.cpu / len(pages):.1f}"
        rows.append(("bare loop, 2 processes", f"{rate:.1f}", cpu_ms, _ratio(rate, 2, loop_rate)))
        units = local_job(source, out, 1, shard_size)
        for workers in (1, 2):
            run = best(lambda workers=workers: local_job(source, out, workers, shard_size), arguments.repeats)  # type: ignore[misc]
            rate, cpu_ms = units / run.wall, f"{1000 * run.cpu / units:.1f}"
            rows.append((f"job, {workers} worker(s)", f"{rate:.1f}", cpu_ms, _ratio(rate, workers, loop_rate)))
        if arguments.ray:
            from datagen.job.ray_runner import RayRunner  # noqa: PLC0415  # Ray takes a second to import

            for workers in (1, 2):
                with RayRunner(workers=workers) as runner:
                    run = best(lambda runner=runner: job(source, out, runner, shard_size), arguments.repeats)  # type: ignore[misc]
                rate = units / run.wall
                rows.append((f"job on Ray, {workers} worker(s)", f"{rate:.1f}", "-", f"{rate / loop_rate:.2f}"))
        megabytes = sum(record.tar_bytes for record in ShardSet(out).records) / 1e6
        head = ("way", "pages/s", "CPU ms/page", "of the bare loop")
        yield Table(title=f"{len(pages)} pages, {megabytes:.0f} MB of tars.", head=head, rows=rows)
        yield part_times(pages, source)


def _ratio(rate: float, workers: int, loop_rate: float) -> str:
    each = f" ({rate / workers / loop_rate:.2f} a worker)" if workers > 1 else ""
    return f"{rate / loop_rate:.2f}{each}"


if __name__ == "__main__":
    main_of("benchmarks.pdf_throughput")
