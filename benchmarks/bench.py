"""Run a benchmark as a command, and record its report in benchmarks/README.md.

A benchmark is a module with `options(parser)`, which adds its own options, and `measure(arguments)`, which yields
tables and lines of text. `TINY` holds other defaults of these options. With them (`--tiny`) the benchmark runs at sizes
at which the figures mean nothing, and records nothing.

    python -m benchmarks.packing --steps 50
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

from varyforge.console import result, say
from varyforge.errors import UserError, command
from varyforge.files import write_text

README = Path(__file__).with_name("README.md")
WIDTH = 100  # columns of the README's text


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of figures.

    Args:
        title: one line above the table; "" for none.
        head: names of the columns, with units.
        rows: cells as text.
    """

    title: str = ""
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table as Markdown, with the title as a paragraph above."""
        rule = "|" + "---|" * len(self.head)
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.head, *self.rows)]
        return "\n".join([*([_wrapped(self.title), ""] if self.title else []), lines[0], rule, *lines[1:]])


class Miss(str):
    """A line that names a missed aim. The report has it in bold, and the command ends with status 1."""


class Benchmark(Protocol):
    """The interface of a module of this package that can be run.

    A module with several sections in the README lists them in `CASES` and has an argument `case`.
    """

    __doc__: str | None
    TINY: Mapping[str, Any]  # defaults of its options with --tiny

    def options(self, parser: argparse.ArgumentParser) -> None:
        """Add the benchmark's own options."""

    def measure(self, arguments: argparse.Namespace) -> Iterable[Table | str]:
        """Yield tables and lines, in the order of the report."""
        ...


def load(name: str) -> Benchmark:
    """Import a benchmark under its real name, so that child processes can import the classes that travel to them."""
    return cast(Benchmark, importlib.import_module(f"benchmarks.{name}"))


def parse(name: str, words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line of a benchmark; with `--tiny` its smallest sizes are the defaults."""
    benchmark = load(name)
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=benchmark.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tiny", action="store_true", help="run at the smallest sizes, only to see that it runs")
    parser.add_argument("--no-record", action="store_true", help="leave benchmarks/README.md as it is")
    benchmark.options(parser)
    if parser.parse_args(words).tiny:
        parser.set_defaults(**benchmark.TINY)
    return parser.parse_args(words)


def run(name: str, words: Sequence[str] | None = None) -> int:
    """Run a benchmark by its name, print its report and record it.

    Args:
        name: of the module, for example "packing".
        words: the command line; None for the program's own.

    Returns:
        0, or 1 where the report has a `Miss`.
    """
    words = sys.argv[1:] if words is None else words
    arguments = parse(name, words)
    above, missed = circumstances(), False
    pieces: list[str] = []
    for piece in load(name).measure(arguments):
        if arguments.tiny and isinstance(piece, Miss):
            continue
        pieces.append(piece.markdown() if isinstance(piece, Table) else _wrapped(piece))
        missed = missed or isinstance(piece, Miss)
        result(pieces[-1] + "\n")
    if not (arguments.tiny or arguments.no_record):
        line = shlex.join(["python", "-m", f"benchmarks.{name}", *map(_without_folders, words)])
        record(section_of(name, arguments), "\n\n".join([f"`{line}`", _wrapped(above), *pieces]))
        say(f"{README}: recorded; read the words around the section again")
    return int(missed)


def _wrapped(text: str) -> str:
    """Wrap a paragraph at the README's width; a missed aim is set in bold."""
    text = f"**Missed:** {text}" if isinstance(text, Miss) else text
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _without_folders(word: str) -> str:
    """Cut an absolute path to its last part: where files lie on a machine is nobody else's concern."""
    return Path(word).name if Path(word).is_absolute() else word


def section_of(name: str, arguments: argparse.Namespace) -> str:
    """Return the name of the README's section: the benchmark's, with its case where it has several."""
    case = getattr(arguments, "case", None)
    return f"{name} {case}" if case else name


def circumstances() -> str:
    """Describe in one line when, from which commit, on which machine and beside which load a benchmark runs."""
    load_average, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    libraries = "".join(f", {name} {version(name)}" for name in _installed("torch"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {commit()}; {cores} CPU cores ({processor()}), load {load_average:.1f} "
        f"before; Python {platform.python_version()}{libraries}"
    )


def commit() -> str:
    """Return "commit …", with "-dirty" where a tracked file other than the README differs from it."""
    if shutil.which("git") is None or not (sha := _git("rev-parse", "--short", "HEAD")):
        return "no commit"
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", f":(exclude){README.name}")
    return f"commit {sha}{'-dirty' if changes else ''}"


def _git(*words: str) -> str:
    words = ("git", "-C", str(README.parent), *words)
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def _installed(*names: str) -> Iterator[str]:
    return (name for name in names if importlib.util.find_spec(name))


def processor() -> str:
    """Return the processor's name as Linux states it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def record(section: str, text: str, readme: Path = README) -> None:
    """Replace the text between the marks of a section in the README.

    Raises:
        UserError: the README has no such marks.
    """
    begin, end = marks(section)
    before, begun, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise UserError(f"{readme}: no marks {begin} … {end}; write them where the report belongs")
    write_text(readme, f"{before}{begin}\n\n{text}\n\n{end}{after}")


def marks(section: str) -> tuple[str, str]:
    """Return the comments between which the README holds a section's report."""
    return f"<!-- {section}: begin -->", f"<!-- {section}: end -->"


@contextmanager
def work_folder(named: Path | None = None) -> Iterator[Path]:
    """Context manager: the folder named, which stays, or a temporary one."""
    if named is not None:
        named.mkdir(parents=True, exist_ok=True)
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="varyforge-") as folder:
        yield Path(folder)


def main_of(name: str) -> None:
    """Run the benchmark as a program: the last line of each module. `name` is "benchmarks.NAME"."""
    sys.exit(command(lambda: run(name.rpartition(".")[2]))())
