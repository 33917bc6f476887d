"""Measure typeset Markdown and LaTeX pages per second, and the share of each step.

    python -m benchmarks.markdown_pages [FILE.tex FILE.md FOLDER …]

Without inputs it writes papers of about twelve pages with formulas, tables, code and footnotes. One process makes all
documents, one after the other; times are wall clock, as pandoc is a process of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.clocks import PartTimes
from datagen.markdown import render, typeset
from datagen.markdown import source as markdown
from datagen.pdf.backends import mupdf
from varyforge.outcome import Failed, Written

TINY = {"papers": 1, "sections": 2}
STEPS: list[tuple[str, Any, str]] = [  # step, owner of the function, its name
    ("pandoc", render, "read"),
    ("blocks", render, "build"),
    ("blocks", render, "fit"),
    ("check of formulas", typeset._Attempt, "with_right_formulas"),
    ("Typst: pages", typeset, "_pdf"),
    ("Typst: positions of marks", typeset, "_marks"),
    ("Markdown", render, "divide"),
    ("Markdown", render, "to_markdown"),
    ("audit", render, "_what_is_wrong"),
    ("audit", render, "_agreement"),
    ("rendering", mupdf.MuDocument, "page"),
    ("JPEG", markdown, "encode_jpeg"),
]
_WORDS = (
    "the yield of a reactor depends on pressure and shows that simple laws hold well in a wide range of cases".split()
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("inputs", nargs="*", help="LaTeX and Markdown files, or folders of them")
    parser.add_argument("--papers", type=int, default=12, help="to write where no inputs are named (%(default)s)")
    parser.add_argument("--sections", type=int, default=16, help="of such a paper (%(default)s)")


def paper(number: int, sections: int) -> str:
    """Write a LaTeX document; each number gives another one."""
    body = []
    for section in range(sections):
        text = " ".join(_WORDS[(n * (number + 3) + section + n // 7) % len(_WORDS)] for n in range(220))
        rows = r"\\".join(f"{n} & {n * number} & $x_{{{n}}}$" for n in range(8))
        body.append(
            rf"\section{{Part {section}}} {text}\footnote{{Note {section}: {text[:120]}.}} with $a_{{{section}}} + b$."
            rf"\begin{{equation}}\sum_{{k=0}}^{{{section}}} k^2 = \frac{{n(n+{number})}}{{2}}\end{{equation}} {text}"
            rf"\begin{{tabular}}{{lrr}}A & B & C\\\hline {rows}\end{{tabular}}"
            + "\n\\begin{verbatim}\n"
            + "\n".join(f"call({n}, {number})" for n in range(8))
            + "\n\\end{verbatim}\n"
        )
    return "\\documentclass{article}\n\\begin{document}\n" + "\n".join(body) + "\n\\end{document}\n"


def timing(times: PartTimes, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its time added to a step."""

    def run(*arguments: Any, **keywords: Any) -> Any:
        return times.timed(step, call, *arguments, **keywords)

    return run


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Make all documents in this process."""
    source, times = markdown.MarkdownSource(paths=arguments.inputs), PartTimes(time.perf_counter)
    with work_folder() as folder, ExitStack() as patches:
        paths = list(source.inputs())
        for number in range(0 if paths else arguments.papers):
            path = Path(folder) / f"{number}.tex"
            path.write_text(paper(number, arguments.sections))
            paths.append(str(path))
        for step, owner, name in STEPS:
            patches.enter_context(mock.patch.object(owner, name, timing(times, step, getattr(owner, name))))
        cuts = [source.units(path, path) for path in paths]
        units = [unit for cut in cuts if not isinstance(cut, Failed) for unit in cut]
        started, pages = time.perf_counter(), 0
        for unit in units:
            outcome = source.make(unit, unit.files)
            pages += len(outcome.samples) if isinstance(outcome, Written) else 0
        wall = time.perf_counter() - started
    yield f"{len(units)} documents, {pages} pages in {wall:.1f} s: {pages / wall:.1f} pages/s in one process."
    steps = sorted(times.seconds.items(), key=lambda item: -item[1])
    rest = wall - sum(times.seconds.values())
    yield Table(
        head=("step", "share", "ms/page"),
        rows=[
            (step, f"{seconds / wall:.1%}", f"{seconds / max(pages, 1) * 1e3:.1f}")
            for step, seconds in [*steps, ("the rest", rest)]
        ],
    )


if __name__ == "__main__":
    main_of("benchmarks.markdown_pages")
