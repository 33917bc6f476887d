"""Is the viewer quick on a million rows? Writes a made-up set of that size and asks a real viewer for pages of it.

    python -m benchmarks.viewer --out /tmp/million        a few minutes and 0.5 GB the first time; then it is kept

Tables, manifest and plan files are as large as a job's; the rows of a shard all point to the one page in its tar. The
viewer is `python -m pipelines.view`, asked over HTTP by nobody else; its memory is what the kernel says of the process.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import PIL.Image
import PIL.ImageDraw

from benchmarks.plan_scale import PAGES, MadeUp
from datagen.job.isolate import Limits
from datagen.job.job import plan_job
from datagen.job.ledger import LedgerRow
from datagen.job.monitor import Monitor
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.job.workspace import Workspace
from datagen.pdf.source import PdfSource
from varyforge.images import encode_jpeg
from varyforge.sample import Sample, Turn, make_key
from varyforge.shards import JOB, MANIFEST, IndexRow, ShardRecord, open_shard
from varyforge.storage import Folder, folder_at, write
from varyforge.tables import schema_of, write_table

DOCUMENTS = 50  # in a shard; of each the last page is rejected
RARE = ("sw", "platypus")  # a language and a word that one shard has, four fifths of the way
_WORDS = "the network reads a page from its top left corner and says what stands on it line by line".split()


def write_million(folder: Folder, shards: int) -> None:
    """The set, but for its plan files: 950 samples and 50 rejected pages in a shard."""
    dice = np.random.default_rng(0)
    paths = list(MadeUp(documents=shards * DOCUMENTS).inputs())
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
    """A page of 3,000 letters. The picture is small on disk: a thousand are written."""
    text = "\n".join(" ".join(dice.choice(_WORDS, 12)) for _ in range(50)) + f"\n{word}"
    picture = PIL.Image.new("L", (1024, 1448), 255)
    PIL.ImageDraw.Draw(picture).multiline_text((60, 60), text, fill=0, font_size=18, spacing=8)
    image = encode_jpeg(picture.convert("RGB"), 90)
    turns = (Turn(role="user", text="<image>\nRead the page."), Turn(role="assistant", text=text))
    return Sample(key=make_key(name), task="ocr", turns=turns, images=(image,), source="pdf")


def write_plan(folder: Folder, shards: int) -> None:
    """The plan files that a job of this size leaves: where a rejected page's input lies is looked up in them."""
    settings, runner = JobSettings(units_per_shard=1000, limits=Limits()), LocalRunner(2)
    with Monitor(runner) as monitor:
        plan_job(MadeUp(documents=shards * DOCUMENTS), Workspace(folder), settings, runner, monitor)


@contextmanager
def served(place: Path) -> Iterator[tuple[str, int]]:
    """A viewer of the set: its address and process."""
    command = [sys.executable, "-m", "pipelines.view", str(place), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield process.stderr.readline().split()[0], process.pid
        finally:
            process.terminate()


def ask(url: str, query: str) -> tuple[float, str]:
    """Seconds to an answer, and the answer."""
    started = time.perf_counter()
    with urlopen(url + query) as answer:
        body = answer.read().decode(errors="replace")
    return time.perf_counter() - started, body


def searched_up_to(page: str) -> int:
    """The row that a search came to when its time was over; 0 where it was not."""
    found = re.search(r"searched up to row ([\d,]+)", page)
    return int(found[1].replace(",", "")) if found else 0


def measure(url: str) -> None:
    """Asks for pages and says how long each took."""
    queries = {
        "first page": "",
        "second request of it": "",
        "language=zh": "?language=zh",
        "measure from 0.9 to 0.91": "?measure=glyphs_on_ink&low=0.9&high=0.91",
        "rejected": "?outcome=rejected",
        "at 50 %": "?go=50",
        "common words": "?text=line",
    }
    for what, query in queries.items():
        seconds, page = ask(url, query)
        cards = page.count("<article")
        print(f"{what}: {seconds:.2f} s, {cards} rows", flush=True)
        if "go" in query:
            image = re.search(r'src="(image\?[^"]+)"', page)
            print(f"  a picture on it: {ask(url, html.unescape(image[1]))[0]:.3f} s")
    _, page = ask(url, "?outcome=rejected&go=50")
    for preview in re.findall(r'src="(preview\?[^"]+)"', page)[:3]:
        print(f"a rejected page's picture: {ask(url, html.unescape(preview))[0]:.2f} s (its file is missing)")
    search("rare language", url, f"?language={RARE[0]}")
    search("rare word", url, f"?text={RARE[1]}")


def search(what: str, url: str, query: str) -> None:
    """Asks, and goes on with the search where its time was over, until it has found something."""
    total, asked, first = 0.0, 0, ""
    while True:
        seconds, page = ask(url, query)
        total, asked = total + seconds, asked + 1
        first = first or f"{seconds:.2f} s to the first answer, {searched_up_to(page):,} rows searched"
        if "<article" in page or not searched_up_to(page):
            break
        query = html.unescape(re.findall(r'<a rel="next" href="([^"]+)"', page)[0])
    print(f"{what}: {first}; found after {asked} answers, {total:.1f} s", flush=True)


def main() -> None:
    """Parses the command line and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the set; one that is there is used again")
    parser.add_argument("--shards", type=int, default=1053, help="of 950 samples each (%(default)s)")
    arguments = parser.parse_args()
    folder = folder_at(arguments.out)
    if folder.size(JOB) is None:
        started = time.monotonic()
        write_plan(folder, arguments.shards)
        write_million(folder, arguments.shards)
        print(f"written in {time.monotonic() - started:.0f} s", flush=True)
    with served(arguments.out) as (url, process):
        measure(url)
        status = Path(f"/proc/{process}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        print(f"peak memory of the viewer: {int(peak[1]) / 1024:.0f} MiB")


if __name__ == "__main__":  # by its real name, which the child processes can import
    from benchmarks.viewer import main as _main

    _main()
