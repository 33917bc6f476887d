"""How fast documents become Markdown pages, and where the time goes.

python benchmarks/markdown_pages.py [FILE.tex FILE.md …]

Without files it makes some: papers of about twelve pages with formulas, tables, code and footnotes.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datagen.markdown import pandoc, typeset
from datagen.markdown import render as sheets
from datagen.markdown import source as markdown
from datagen.pdf.backends import mupdf as pages
from varyforge.errors import command
from varyforge.outcome import Failed, Written

_PAPERS = 12
_SECTIONS = 16
_WORDS = (
    "the yield of a reactor depends on pressure and shows that simple laws hold well in a wide range of cases".split()
)

_seconds: Counter[str] = Counter()


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its time added up under a name."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            _seconds[name] += time.perf_counter() - start

    return run


def paper(number: int) -> str:
    """A LaTeX document; each is another one."""
    sections = []
    for section in range(_SECTIONS):
        text = " ".join(_WORDS[(n * (number + 3) + section + n // 7) % len(_WORDS)] for n in range(220))
        rows = r"\\".join(f"{n} & {n * number} & $x_{{{n}}}$" for n in range(8))
        sections.append(
            rf"\section{{Part {section}}} {text}\footnote{{Note {section}: {text[:120]}.}} with $a_{{{section}}} + b$."
            rf"\begin{{equation}}\sum_{{k=0}}^{{{section}}} k^2 = \frac{{n(n+{number})}}{{2}}\end{{equation}} {text}"
            rf"\begin{{tabular}}{{lrr}}A & B & C\\\hline {rows}\end{{tabular}}"
            + "\n\\begin{verbatim}\n"
            + "\n".join(f"call({n}, {number})" for n in range(8))
            + "\n\\end{verbatim}\n"
        )
    return "\\documentclass{article}\n\\begin{document}\n" + "\n".join(sections) + "\n\\end{document}\n"


@command
def main() -> None:
    """Prints pages per second and the share of each step."""
    source = markdown.MarkdownSource(paths=sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        paths = list(source.inputs())
        for number in range(0 if paths else _PAPERS):
            path = Path(folder) / f"{number}.tex"
            path.write_text(paper(number))
            paths.append(str(path))
        run(source, paths)


def run(source: markdown.MarkdownSource, paths: list[str]) -> None:
    """Makes all documents in this process."""
    sheets.read = timed("pandoc", pandoc.read)
    sheets.build, sheets.fit = timed("blocks", sheets.build), timed("blocks", sheets.fit)
    typeset._pdf = timed("typst: pages", typeset._pdf)
    typeset._marks = timed("typst: places of marks", typeset._marks)
    sheets.divide, sheets.to_markdown = timed("Markdown", sheets.divide), timed("Markdown", sheets.to_markdown)
    sheets._what_is_wrong = timed("audit", sheets._what_is_wrong)
    sheets._agreement = timed("audit", sheets._agreement)
    pages.MuDocument.page = timed("rendering", pages.MuDocument.page)  # type: ignore[method-assign]
    markdown.encode_jpeg = timed("JPEG", markdown.encode_jpeg)
    found = [source.units(path, path) for path in paths]
    units = [unit for cut in found if not isinstance(cut, Failed) for unit in cut]
    start, made_pages = time.perf_counter(), 0
    for unit in units:
        made = source.make(unit, unit.files)
        made_pages += len(made.samples) if isinstance(made, Written) else 0
    whole = time.perf_counter() - start
    print(
        f"{len(units)} documents, {made_pages} pages in {whole:.1f} s: {made_pages / whole:.1f} pages/s in one process"
    )
    for name, seconds in [*_seconds.most_common(), ("the rest", whole - _seconds.total())]:
        print(f"  {name:24} {seconds / whole:6.1%}  {seconds / max(made_pages, 1) * 1e3:6.1f} ms a page")


if __name__ == "__main__":
    main()
