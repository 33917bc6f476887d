"""Measure the viewer's answers on a set of a million rows.

    python -m benchmarks.viewer                     # writes 0.5 GB first, which takes a few minutes
    python -m benchmarks.viewer --out million/      # a set that is there is used again

The set's content is random. Tables, manifest and plan files are as large as a job's; all rows of a shard point to the
one page in its tar. The viewer is `python -m pipelines.view` in a process of its own, asked over HTTP, one request
after the other; files are in the system's cache. The rare language and the rare word are in one shard, four fifths of
the way. A search answers when its time is over, and the benchmark asks it to go on. The rejected pages' files do not
exist: with one, rendering adds its time.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import PIL.Image
import PIL.ImageDraw

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.plan_scale import PAGES, Imaginary
from datagen.job.isolate import Limits
from datagen.job.job import plan_job
from datagen.job.ledger import LedgerRow
from datagen.job.monitor import Monitor
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.job.workspace import Workspace
from datagen.pdf.source import PdfSource
from varyforge.console import say
from varyforge.images import encode_jpeg
from varyforge.sample import Sample, Turn, make_key
from varyforge.shards import JOB, MANIFEST, IndexRow, ShardRecord, open_shard
from varyforge.storage import Folder, folder_at, write
from varyforge.tables import schema_of, write_table

DOCUMENTS = 50  # in a shard; the last page of each is rejected
RARE = ("sw", "platypus")  # a language and a word of one shard, four fifths of the way
_WORDS = "the network reads a page from its top left corner and says what stands on it line by line".split()
TINY = {"shards": 2}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--out", type=Path, help="folder for the set, which stays (default: a temporary one)")
    parser.add_argument("--shards", type=int, default=1053, help="of 950 samples each (%(default)s)")


def write_million(folder: Folder, shards: int) -> None:
    """Write the set without its plan files: 950 samples and 50 rejected pages in a shard."""
    dice = np.random.default_rng(0)
    paths = list(Imaginary(documents=shards * DOCUMENTS).inputs())
    records = []
    for number in range(shards):
        name, rare = f"pdf-{number:012b}", number == shards * 4 // 5
        mine = paths[number * DOCUMENTS : (number + 1) * DOCUMENTS]
        records.append(_write_shard(folder, name, mine, dice, *(RARE if rare else ("en", "page"))))
    write(folder, MANIFEST, "".join(json.dumps(asdict(record)) + "\n" for record in records).encode())
    job = {"source": "pdf", "config": {"settings": {}}, "inputs": {"paths": ["archive"]}}
    write(folder, JOB, json.dumps(job).encode())


def _write_shard(
    folder: Folder, name: str, documents: list[str], dice: np.random.Generator, language: str, word: str
) -> ShardRecord:
    measures = PdfSource.measures
    with open_shard(folder, f"{name}.tar") as shard:
        offset, size = shard.add(_page(name, word, dice))
        tar_bytes, tar_sha256 = shard.close()
    index, ledger = [], []
    same = {"task": "ocr", "shard": f"{name}.tar", "offset": offset, "size": size, "twins": "", "images": 1}
    blank = {"content": "", "shard": f"{name}.tar", "gate": "", "value": 0.0, "threshold": 0.0, "reason": ""}
    blank |= {"detail": "", "notes": "{}"}
    for document in documents:
        split = "validation" if dice.random() < 0.05 else "train"
        for number, values in enumerate(dice.random((PAGES, len(measures))).round(4).tolist()):
            about = {"unit": f"{document}#{number:04d}", "document": document}
            about |= {"language": ("zh" if number % 4 == 0 else language), **dict(zip(measures, values, strict=True))}
            last = number == PAGES - 1
            ledger.append(about | blank | {"outcome": "rejected" if last else "written", "samples": int(not last)})
            if last:
                ledger[-1] |= {"gate": "min_glyphs_on_ink", "value": 0.3, "threshold": 0.95}
                continue
            row = about | same | {"key": make_key(name, about["unit"]), "group": document, "split": split}
            row |= {"tokens": int(values[0] * 2000), "answer_chars": 3000, "fingerprint": dice.bytes(64)}
            index.append(row)
    return ShardRecord(
        name=name,
        units=len(ledger),
        samples=len(index),
        written=len(index),
        rejected=len(ledger) - len(index),
        failed=0,
        tar_bytes=tar_bytes,
        tar_sha256=tar_sha256,
        index_sha256=write_table(folder, f"index/{name}.parquet", index, schema_of(IndexRow, measures)),
        ledger_sha256=write_table(folder, f"ledger/{name}.parquet", ledger, schema_of(LedgerRow, measures)),
        config_sha256="",
        units_sha256="",
    )


def _page(name: str, word: str, dice: np.random.Generator) -> Sample:
    """Draw a page of 3,000 letters, in a picture that is small on disk."""
    text = "\n".join(" ".join(dice.choice(_WORDS, 12)) for _ in range(50)) + f"\n{word}"
    picture = PIL.Image.new("L", (1024, 1448), 255)
    PIL.ImageDraw.Draw(picture).multiline_text((60, 60), text, fill=0, font_size=18, spacing=8)
    image = encode_jpeg(picture.convert("RGB"), 90)
    turns = (Turn(role="user", text="<image>\nRead the page."), Turn(role="assistant", text=text))
    return Sample(key=make_key(name), task="ocr", turns=turns, images=(image,), source="pdf")


def write_plan(folder: Folder, shards: int) -> None:
    """Write the plan files of such a job, in which the viewer looks up a rejected page's input."""
    settings, runner = JobSettings(units_per_shard=1000, limits=Limits()), LocalRunner(2)
    with Monitor(runner) as monitor:
        plan_job(Imaginary(documents=shards * DOCUMENTS), Workspace(folder), folder, settings, runner, monitor)


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    """Context manager: a viewer of the set, its address and process id."""
    words = [sys.executable, "-m", "pipelines.view", str(folder), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().split()[0], process.pid
        finally:
            process.terminate()


def get(url: str, query: str) -> tuple[float, str]:
    """Return the seconds until an answer, and the answer."""
    started = time.perf_counter()
    with urlopen(url + query) as answer:
        body = answer.read().decode(errors="replace")
    return time.perf_counter() - started, body


def searched_up_to(page: str) -> int:
    """Return the row at which a search stopped when its time was over; 0 for a search that came to its end."""
    stopped = re.search(r"searched up to row ([\d,]+)", page)
    return int(stopped[1].replace(",", "")) if stopped else 0


def links(page: str, pattern: str) -> list[str]:
    """List the links of a page by a regular expression with one group."""
    return [html.unescape(link) for link in re.findall(pattern, page)]


QUERIES = {
    "first page": "",
    "first page again": "",
    "language=zh": "?language=zh",
    "measure from 0.9 to 0.91": "?measure=glyphs_on_ink&low=0.9&high=0.91",
    "rejected": "?outcome=rejected",
    "at 50 %": "?go=50",
    "common words": "?text=line",
}


def requests(url: str) -> Iterator[Sequence[str]]:
    """Yield a row for each request: its name, seconds, and what the answer holds."""
    for name, query in QUERIES.items():
        seconds, page = get(url, query)
        yield name, f"{seconds:.2f}", f"{page.count('<article')} rows"
        for image in links(page, r'src="(image\?[^"]+)"')[: "go" in query]:
            yield "a picture on it", f"{get(url, image)[0]:.3f}", "-"
    _, page = get(url, "?outcome=rejected&go=50")
    for preview in links(page, r'src="(preview\?[^"]+)"')[:3]:
        yield "a rejected page's picture", f"{get(url, preview)[0]:.2f}", "its file is missing"
    yield search("rare language", url, f"?language={RARE[0]}")
    yield search("rare word", url, f"?text={RARE[1]}")


def search(name: str, url: str, query: str) -> Sequence[str]:
    """Search, and go on where the search's time was over, until an answer has a row."""
    total, answers, first = 0.0, 0, ""
    while True:
        seconds, page = get(url, query)
        total, answers = total + seconds, answers + 1
        first = first or f"first answer after {seconds:.2f} s, {searched_up_to(page):,} rows searched"
        if "<article" in page or not searched_up_to(page):
            return name, f"{total:.1f}", f"{answers} answers; {first}"
        (query,) = links(page, r'<a rel="next" href="([^"]+)"')


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Write the set where there is none, then send requests to a viewer of it."""
    with work_folder(arguments.out) as path:
        folder = folder_at(path)
        if folder.size(JOB) is None:
            started = time.monotonic()
            write_plan(folder, arguments.shards)
            write_million(folder, arguments.shards)
            say(f"set written in {time.monotonic() - started:.0f} s")
        with served(path) as (url, process):
            rows = list(requests(url))
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert peak is not None
    yield f"{arguments.shards:,} shards of 1,000 rows. Peak memory of the viewer: {int(peak[1]) / 1024:.0f} MiB."
    yield Table(head=("request", "s", "answer"), rows=rows)


if __name__ == "__main__":
    main_of("benchmarks.viewer")
