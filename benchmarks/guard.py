"""Measure whether the guard recognises benchmark images, and only those, and what that costs.

    python -m benchmarks.guard FOLDER … --charts 300 --show pairs/

Pictures are the images and PDF pages of the inputs, and charts that are drawn here. Every second one is guarded. Each
guarded picture is looked up as it is and in a dozen disguises, the other pictures as they are. The report has recall by
disguise, the pairs that the guard takes for one picture, CPU time and memory. `--show` writes these pairs side by side:
pages of one form may differ in a number only. The guards for timing hold pictures of the guarded half laid over one
another in pairs, so that more of them are similar than with photographs.
"""

from __future__ import annotations

import argparse
import io
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from matplotlib.figure import Figure

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.inputs import add_inputs, draw_photographs, files_in, inputs_of
from datagen.guard.benchmark_sets import SUFFIXES, BenchmarkImage, folder_images
from datagen.guard.guard import Guard, build_guard, write_guard
from datagen.guard.image_similarity import Fingerprint, fingerprint_of
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import PdfError
from varyforge.console import say
from varyforge.images import ImagePolicy, read_picture

Picture = PIL.Image.Image
WORDS = (
    "energy income trade harbour rainfall export price index wheat copper students doctors rail solar wind coal".split()
)
MEMORY = """
import sys, PIL.Image
from datagen.guard.guard import Guard
def private(): return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")][0]
picture = PIL.Image.open(sys.argv[2]).convert("RGB")
before = private()
guard = Guard.read(sys.argv[1])
for _ in range(100): guard.find((), picture)
print((private() - before) / 1024)
"""
TINY = {"charts": 4, "sizes": [20], "pages_per_pdf": 1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    add_inputs(parser, "images and PDF files")
    parser.add_argument("--charts", type=int, default=300, help="to draw (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the charts and disguises (%(default)s)")
    parser.add_argument("--pages-per-pdf", type=int, default=10_000, help="at most (%(default)s)")
    parser.add_argument("--show", type=Path, help="folder for pictures of the pairs that the guard confuses")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 12_000, 100_000], help="of guards to time")


@dataclass(frozen=True)
class Halves:
    """Files of the pictures; a file's folder is named by its kind."""

    guarded: list[Path]
    others: list[Path]


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Collect pictures, guard every second, look all up."""
    with work_folder() as work:
        inputs = inputs_of(arguments, work / "inputs", draw_photographs)
        halves = write_pictures(work, pictures(inputs, arguments))
        guard_file = work / "guard.arrow"
        report = build_guard(folder_images("guarded", work / "guarded"), guard_file)
        guard = Guard.read(str(guard_file))
        blank = {line.split(": ")[1] for line in report.without_fingerprint}
        guarded = [file for file in halves.guarded if "/".join(file.parts[-2:]) not in blank]
        yield (
            f"{report.by_appearance['guarded']} pictures are guarded; {len(report.without_fingerprint)} are nearly of "
            "one colour and have no appearance to compare."
        )
        yield recall(guard, guarded, arguments.seed)
        yield confusions(guard, halves.others, work / "guarded", arguments.show)
        yield Table(
            title="CPU microseconds a picture, in a guard of so many images; memory of a process that looks up.",
            head=("guarded", "file MB", "private MiB", "kind", "lookup µs", "of it appearance µs", "decoding JPEG µs"),
            rows=[
                row
                for size in arguments.sizes
                for row in costs(size, Halves(guarded, halves.others), work / "large.arrow")
            ],
        )


def write_pictures(work: Path, named: Iterator[tuple[str, Picture]]) -> Halves:
    """Write pictures by turns into two folders."""
    halves = Halves([], [])
    for number, (name, picture) in enumerate(named):
        half, files = (("guarded", halves.guarded), ("other", halves.others))[number % 2]
        files.append(work / half / name)
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        picture.save(files[-1], compress_level=1)
    return halves


def pictures(inputs: list[Path], arguments: argparse.Namespace) -> Iterator[tuple[str, Picture]]:
    """Yield (kind/name.png, RGB picture) of all inputs, then of the charts."""
    for file in files_in(inputs, *SUFFIXES, ".pdf"):
        if file.suffix.lower() != ".pdf":
            picture = read_picture(file.read_bytes(), ImagePolicy()).pixels.convert("RGB")
            picture.thumbnail((1024, 1024))
            yield f"photo/{file.parent.name}_{file.stem}.png", picture
            continue
        for number, page in pages(file, arguments.pages_per_pdf):
            yield f"page/{file.stem}_{number:04d}.png", page
    for number in range(arguments.charts):
        yield f"chart/{number:05d}.png", chart(random.Random(f"{arguments.seed} {number}"))


def pages(file: Path, most: int) -> Iterator[tuple[int, Picture]]:
    """Yield pages spread over a PDF, short side 1024 pixels."""
    try:
        with open_document(str(file)) as document:
            for number in range(0, len(document), max(1, len(document) // most)):
                yield number, document.page(number, short_side_px=1024, long_side_px=4096).picture.convert("RGB")
    except PdfError as error:
        say(f"{file.name}: {error}")


def chart(draw: random.Random) -> Picture:
    """Draw a bar, line, pie or scatter chart with matplotlib's defaults, with which charts are most alike."""
    figure = Figure(figsize=(draw.choice([6, 8]), draw.choice([4, 5, 6])), dpi=draw.choice([80, 100]))
    axes = figure.subplots()
    kind, names = draw.choice(["bar", "barh", "line", "pie", "scatter"]), draw.sample(WORDS, draw.randint(3, 9))
    if kind == "pie":
        axes.pie([draw.random() + 0.1 for _ in names], labels=names, startangle=draw.choice([0, 90]))
    elif kind == "scatter":
        axes.scatter([draw.random() for _ in range(40)], [draw.random() for _ in range(40)])
    elif kind == "line":
        for name in names[:4]:
            axes.plot(range(10), [draw.random() * 10 for _ in range(10)], label=name)
        axes.legend()
    else:
        getattr(axes, kind)(names, [draw.random() * draw.choice([1, 10, 100]) for _ in names])
    axes.set_title(" ".join(draw.sample(WORDS, 3)).capitalize())
    out = io.BytesIO()
    figure.savefig(out)
    return PIL.Image.open(out).convert("RGB")


# --- disguises


def jpeg(picture: Picture, quality: int) -> bytes:
    """Encode as JPEG."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def decoded(data: bytes) -> Picture:
    """Decode an image whole."""
    return PIL.Image.open(io.BytesIO(data)).convert("RGB")


def resized(picture: Picture, factor: float) -> Picture:
    """Resize both sides by a factor."""
    return picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))


def cropped(picture: Picture, shares: tuple[float, float, float, float]) -> Picture:
    """Cut off shares of width and height at left, top, right and bottom."""
    width, height = picture.size
    left, top, right, bottom = shares
    return picture.crop(
        (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
    )


def letterboxed(picture: Picture, share: float, colour: str) -> Picture:
    """Add bars above and below, each that share of the height."""
    bar = round(picture.height * share)
    canvas = PIL.Image.new("RGB", (picture.width, picture.height + 2 * bar), colour)
    canvas.paste(picture, (0, bar))
    return canvas


def any_crop(picture: Picture, draw: random.Random) -> Picture:
    """Cut up to 5 % off each side."""
    return cropped(picture, (draw.random() / 20, draw.random() / 20, draw.random() / 20, draw.random() / 20))


def toned(picture: Picture, factor: float) -> Picture:
    """Multiply brightness and contrast by a factor."""
    return PIL.ImageEnhance.Contrast(PIL.ImageEnhance.Brightness(picture).enhance(factor)).enhance(factor)


DISGUISES: dict[str, Callable[[Picture, random.Random], Picture]] = {
    "as it is": lambda picture, draw: picture,
    "half the size": lambda picture, draw: resized(picture, 0.5),
    "a quarter of the size": lambda picture, draw: resized(picture, 0.25),
    "JPEG of quality 30": lambda picture, draw: decoded(jpeg(picture, 30)),
    "grey": lambda picture, draw: picture.convert("L").convert("RGB"),
    "brightness and contrast ± 10 %": lambda picture, draw: toned(picture, draw.choice([0.9, 1.1])),
    "brightness and contrast ± 20 %": lambda picture, draw: toned(picture, draw.choice([0.8, 1.2])),
    "cropped, 0 to 5 % a side": any_crop,
    "cropped, 5 % at each side": lambda picture, draw: cropped(picture, (0.05, 0.05, 0.05, 0.05)),
    "cropped, 5 % at two sides": lambda picture, draw: cropped(picture, (0, 0, 0.05, 0.05)),
    "cropped, 8 % at two sides": lambda picture, draw: cropped(picture, (0.08, 0.08, 0, 0)),
    "black bars, 5 % each": lambda picture, draw: letterboxed(picture, 0.05, "black"),
    "white bars, 5 % each": lambda picture, draw: letterboxed(picture, 0.05, "white"),
    "cropped, grey, a third, JPEG 30": lambda picture, draw: decoded(
        jpeg(resized(any_crop(picture, draw).convert("L").convert("RGB"), 1 / 3), 30)
    ),
}


# --- the figures


def recall(guard: Guard, files: list[Path], seed: int) -> Table:
    """Look up guarded pictures in each disguise. Returns the recall by kind of picture."""
    matched: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for file in files:
        picture, kind = PIL.Image.open(file).convert("RGB"), file.parent.name
        for name, disguise in DISGUISES.items():
            match = guard.find((), disguise(picture, random.Random(f"{seed} {file.name} {name}")))
            matched[name, kind].append(match is not None)
    counts = Counter(file.parent.name for file in files)
    return Table(
        title="Recall: share of guarded pictures that the guard recognises.",
        head=("disguise", *(f"{kind} ({counts[kind]})" for kind in sorted(counts))),
        rows=[(name, *(f"{np.mean(matched[name, kind]):.3f}" for kind in sorted(counts))) for name in DISGUISES],
    )


def confusions(guard: Guard, files: list[Path], guarded: Path, pairs: Path | None) -> Table:
    """Look up pictures that are not guarded; those that match one are written side by side into `pairs`."""
    matches: Counter[str] = Counter()
    for file in files:
        picture = PIL.Image.open(file).convert("RGB")
        match = guard.find((), picture)
        if match is None:
            continue
        matches[file.parent.name] += 1
        say(f"{match.similarity:.3f}  {file.parent.name}/{file.stem}  {match.name}")
        if pairs:
            pairs.mkdir(parents=True, exist_ok=True)
            pair = side_by_side(picture, PIL.Image.open(guarded / match.name))
            pair.save(pairs / f"{match.similarity:.3f}-{file.stem}.png")
    return Table(
        title="Pictures that are not guarded.",
        head=("kind", "looked up", "taken for a guarded one", "of the pairs"),
        rows=[
            (kind, str(count), str(matches[kind]), f"{matches[kind] / count / len(guard):.1e}")
            for kind, count in Counter(file.parent.name for file in files).items()
        ],
    )


def side_by_side(left: Picture, right: Picture) -> Picture:
    """Put two pictures on one canvas, 400 pixels wide each."""
    canvas = PIL.Image.new("RGB", (820, 600), "grey")
    for x, picture in ((0, left), (420, right)):
        small = picture.convert("RGB")
        small.thumbnail((400, 600))
        canvas.paste(small, (x, 0))
    return canvas


def costs(size: int, halves: Halves, out: Path) -> Iterator[tuple[str, ...]]:
    """Yield rows of time and memory with a guard of `size` images, each mixed from two guarded ones."""
    draw = np.random.default_rng(size)
    thumbnails = [fingerprint_of(PIL.Image.open(file).convert("RGB")).thumbnail for file in halves.guarded]
    looks: list[Fingerprint | str] = []
    for _ in range(size):
        one, other = (thumbnails[row] for row in draw.integers(len(thumbnails), size=2))
        looks.append(fingerprint_of(PIL.Image.fromarray((one / 2 + other[::-1, ::-1] / 2).astype(np.uint8))))
    write_guard([BenchmarkImage(benchmark="mixed", name=str(n)) for n in range(size)], looks, out)
    guard = Guard.read(str(out))
    words = [sys.executable, "-c", MEMORY, str(out), str(halves.others[0])]
    memory = float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    for kind in sorted({file.parent.name for file in halves.others}):
        several = [PIL.Image.open(file).convert("RGB") for file in halves.others if file.parent.name == kind][:100]
        several = [picture.resize((640, 480)) if kind == "photo" else picture for picture in several]
        files = {id(picture): jpeg(picture, 90) for picture in several}
        calls: list[Callable[[Picture], object]] = [
            lambda picture: guard.find((), picture),
            fingerprint_of,
            lambda picture, files=files: decoded(files[id(picture)]),  # type: ignore[misc]
        ]
        times = (min(microseconds(call, several) for _ in range(5)) for call in calls)
        cells = f"{size:,}", f"{out.stat().st_size / 1e6:.0f}", f"{memory:.1f}", f"{kind} ({len(several)})"
        yield *cells, *(f"{time_us:,.0f}" for time_us in times)


def microseconds(call: Callable[[Picture], object], several: list[Picture]) -> float:
    """Return CPU microseconds a picture."""
    began = time.process_time()
    for picture in several:
        call(picture)
    return (time.process_time() - began) / len(several) * 1e6


if __name__ == "__main__":
    main_of("benchmarks.guard")
