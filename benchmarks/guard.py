"""Whether the guard knows images again, and only those; and what it costs.

    PYTHONPATH=. python benchmarks/guard.py FOLDER … --charts 300 --show pairs/

Pictures: images and PDF pages of the folders, charts drawn here. Every second one is guarded. Then each guarded one is
asked about as it is and in a dozen disguises, and the others as they are. Prints recall by disguise, the pairs taken
for the same picture (side by side in --show: pages of one form may differ in a number only), CPU time, memory.
"""

from __future__ import annotations

import argparse
import io
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from matplotlib.figure import Figure

from datagen.guard.benchmark_sets import SUFFIXES, BenchmarkImage, folder_images
from datagen.guard.guard import Guard, build_guard, write_guard
from datagen.guard.image_similarity import Fingerprint, fingerprint_of
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.page import PdfError
from varyforge.console import say, show_table
from varyforge.images import read_image

Picture = PIL.Image.Image
WORDS = (
    "energy income trade harbour rainfall export price index wheat copper students doctors rail solar wind coal".split()
)
MEMORY = """
import sys, PIL.Image
from datagen.guard.guard import Guard
def held(): return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")][0]
picture = PIL.Image.open(sys.argv[2]).convert("RGB")
before = held()
guard = Guard.read(sys.argv[1])
for _ in range(100): guard.find((), picture)
print((held() - before) / 1024)
"""


def main() -> None:
    """Gathers pictures, guards every second, asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--charts", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of the charts and disguises")
    parser.add_argument("--pages-per-pdf", type=int, default=10_000)
    parser.add_argument("--show", type=Path, help="folder for pictures of pairs taken for the same")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 12_000, 100_000], help="guards to time")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        sides: dict[str, list[Path]] = {"guarded": [], "other": []}
        for number, (name, picture) in enumerate(pictures(asked)):
            side = ("guarded", "other")[number % 2]
            sides[side].append(Path(temp) / side / name)
            sides[side][-1].parent.mkdir(parents=True, exist_ok=True)
            picture.save(sides[side][-1], compress_level=1)
        guard_file = Path(temp) / "guard.arrow"
        report = build_guard(folder_images("guarded", Path(temp) / "guarded"), guard_file)
        say(f"{report.by_appearance['guarded']} guarded, {len(report.without_fingerprint)} nearly of one colour")
        guard = Guard.read(str(guard_file))
        blank = {line.split(": ")[1] for line in report.without_fingerprint}
        guarded = [file for file in sides["guarded"] if "/".join(file.parts[-2:]) not in blank]
        show_recall(guard, guarded, asked.seed)
        show_wrong(guard, sides["other"], Path(temp) / "guarded", asked.show)
        for size in asked.sizes:
            show_cost(size, guarded, sides["other"], Path(temp) / "large.arrow")


def pictures(asked: argparse.Namespace) -> Iterator[tuple[str, Picture]]:
    """(kind/name.png, RGB picture) of all that was given, and the charts."""
    for folder in asked.folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in SUFFIXES:
                shown = PIL.Image.open(io.BytesIO(read_image(file.read_bytes()).data))
                shown.thumbnail((1024, 1024))
                yield f"photo/{file.parent.name}_{file.stem}.png", shown
            elif file.suffix.lower() == ".pdf":
                for number, picture in pages(file, asked.pages_per_pdf):
                    yield f"page/{file.stem}_{number:04d}.png", picture
    for number in range(asked.charts):
        yield f"chart/{number:05d}.png", chart(random.Random(f"{asked.seed} {number}"))


def pages(file: Path, most: int) -> Iterator[tuple[int, Picture]]:
    """Pages spread over a PDF, short side 1024 pixels."""
    try:
        with open_document(str(file)) as document:
            for number in range(0, len(document), max(1, len(document) // most)):
                yield number, document.page(number, short_side_px=1024, long_side_px=4096).picture.convert("RGB")
    except PdfError as error:
        say(f"{file.name}: {error}")


def chart(draw: random.Random) -> Picture:
    """A bar, line, pie or scatter chart with matplotlib's own looks, in which charts are most alike."""
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


def jpeg(picture: Picture, quality: int) -> Picture:
    """Encoded and decoded again."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return PIL.Image.open(out).convert("RGB")


def resized(picture: Picture, factor: float) -> Picture:
    """Smaller (or larger), both ways."""
    return picture.resize((max(1, round(picture.width * factor)), max(1, round(picture.height * factor))))


def cropped(picture: Picture, shares: tuple[float, float, float, float]) -> Picture:
    """Without shares of width and height at left, top, right, bottom."""
    width, height = picture.size
    left, top, right, bottom = shares
    return picture.crop(
        (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
    )


def letterboxed(picture: Picture, share: float, colour: str) -> Picture:
    """With bars above and below, each that share of the height."""
    bar = round(picture.height * share)
    made = PIL.Image.new("RGB", (picture.width, picture.height + 2 * bar), colour)
    made.paste(picture, (0, bar))
    return made


def any_crop(picture: Picture, draw: random.Random) -> Picture:
    """Up to 5 % off each side."""
    return cropped(picture, (draw.random() / 20, draw.random() / 20, draw.random() / 20, draw.random() / 20))


def toned(picture: Picture, factor: float) -> Picture:
    """Brighter (or darker), with more (or less) contrast."""
    return PIL.ImageEnhance.Contrast(PIL.ImageEnhance.Brightness(picture).enhance(factor)).enhance(factor)


DISGUISES: dict[str, Callable[[Picture, random.Random], Picture]] = {
    "as it is": lambda picture, draw: picture,
    "half the size": lambda picture, draw: resized(picture, 0.5),
    "a quarter of the size": lambda picture, draw: resized(picture, 0.25),
    "JPEG of quality 30": lambda picture, draw: jpeg(picture, 30),
    "grey": lambda picture, draw: picture.convert("L").convert("RGB"),
    "brightness and contrast ± 10 %": lambda picture, draw: toned(picture, draw.choice([0.9, 1.1])),
    "brightness and contrast ± 20 %": lambda picture, draw: toned(picture, draw.choice([0.8, 1.2])),
    "cropped, 0 to 5 % a side": any_crop,
    "cropped, 5 % at each side": lambda picture, draw: cropped(picture, (0.05, 0.05, 0.05, 0.05)),
    "cropped, 5 % at two sides": lambda picture, draw: cropped(picture, (0, 0, 0.05, 0.05)),
    "cropped, 8 % at two sides": lambda picture, draw: cropped(picture, (0.08, 0.08, 0, 0)),
    "black bars, 5 % each": lambda picture, draw: letterboxed(picture, 0.05, "black"),
    "white bars, 5 % each": lambda picture, draw: letterboxed(picture, 0.05, "white"),
    "cropped, grey, a third, JPEG 30": lambda picture, draw: jpeg(
        resized(any_crop(picture, draw).convert("L").convert("RGB"), 1 / 3), 30
    ),
}


def show_recall(guard: Guard, files: list[Path], seed: int) -> None:
    """Recall of each disguise, for each kind of picture."""
    found: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for file in files:
        picture, kind = PIL.Image.open(file).convert("RGB"), file.parent.name
        for name, disguise in DISGUISES.items():
            match = guard.find((), disguise(picture, random.Random(f"{seed} {file.name} {name}")))
            found[name, kind].append(match is not None)
    kinds = sorted({file.parent.name for file in files})
    counts = [f"{kind} ({sum(file.parent.name == kind for file in files)})" for kind in kinds]
    rows = [(name, *(f"{np.mean(found[name, kind]):.3f}" for kind in kinds)) for name in DISGUISES]
    show_table("found again", ("", *counts), rows)


def show_wrong(guard: Guard, files: list[Path], guarded: Path, show: Path | None) -> None:
    """Pairs of different pictures taken for the same."""
    asked: dict[str, int] = defaultdict(int)
    taken: dict[str, int] = defaultdict(int)
    for file in files:
        picture = PIL.Image.open(file).convert("RGB")
        match = guard.find((), picture)
        asked[file.parent.name] += 1
        if match:
            taken[file.parent.name] += 1
            say(f"{match.similarity:.3f}  {file.parent.name}/{file.stem}  {match.name}")
            if show:
                show.mkdir(parents=True, exist_ok=True)
                beside(picture, PIL.Image.open(guarded / match.name)).save(
                    show / f"{match.similarity:.3f}-{file.stem}.png"
                )
    rows = [(kind, n, taken[kind], f"{taken[kind] / n / len(guard):.1e}") for kind, n in asked.items()]
    show_table("not guarded", ("", "asked about", "taken for guarded", "of the pairs"), rows)


def beside(left: Picture, right: Picture) -> Picture:
    """Both, 400 pixels wide each."""
    made = PIL.Image.new("RGB", (820, 600), "grey")
    for place, picture in ((0, left), (420, right)):
        small = picture.convert("RGB")
        small.thumbnail((400, 600))
        made.paste(small, (place, 0))
    return made


def show_cost(size: int, guarded: list[Path], others: list[Path], out: Path) -> None:
    """Microseconds a picture and private memory with a guard of so many images, made by mixing two of ours each."""
    draw = np.random.default_rng(size)
    thumbnails = [fingerprint_of(PIL.Image.open(file).convert("RGB")) for file in guarded]
    looks: list[Fingerprint | str] = []
    for _ in range(size):
        one, other = (thumbnails[place] for place in draw.integers(len(thumbnails), size=2))
        mixed = (one.thumbnail / 2 + other.thumbnail[::-1, ::-1] / 2).astype(np.uint8)
        looks.append(fingerprint_of(PIL.Image.fromarray(mixed)))
    write_guard([BenchmarkImage(benchmark="mixed", name=str(n)) for n in range(size)], looks, out)
    guard = Guard.read(str(out))
    say(f"{size:,} guarded: file of {out.stat().st_size / 1e6:.0f} MB")
    for kind in sorted({file.parent.name for file in others}):
        shown = [PIL.Image.open(file).convert("RGB") for file in others if file.parent.name == kind][:100]
        shown = [picture.resize((640, 480)) if kind == "photo" else picture for picture in shown]
        rounds = {"look": fingerprint_of, "find": lambda picture: guard.find((), picture), "decode": decoded(shown)}
        taken = {name: min(timed(call, shown) for _ in range(5)) for name, call in rounds.items()}
        say(
            f"  {kind} ({len(shown)}): {taken['find']:.0f} µs a picture, of which its look {taken['look']:.0f}; "
            f"decoding it as JPEG {taken['decode']:.0f}"
        )
    code = subprocess.run(
        [sys.executable, "-c", MEMORY, str(out), str(others[0])], capture_output=True, text=True, check=True
    )
    say(f"  private memory of a process that asks: {float(code.stdout):.1f} MiB")


def decoded(shown: list[Picture]) -> Callable[[Picture], Picture]:
    """Decodes a picture's JPEG of quality 90, whole."""
    files = {}
    for picture in shown:
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=90)
        files[id(picture)] = out.getvalue()

    def decode(picture: Picture) -> Picture:
        again = PIL.Image.open(io.BytesIO(files[id(picture)]))
        again.load()
        return again

    return decode


def timed(call: Callable[[Picture], object], shown: list[Picture]) -> float:
    """Microseconds of CPU a picture."""
    began = time.process_time()
    for picture in shown:
        call(picture)
    return (time.process_time() - began) / len(shown) * 1e6


if __name__ == "__main__":
    main()
