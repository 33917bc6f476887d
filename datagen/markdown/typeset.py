"""Blocks → a PDF by the Typst compiler, and the pages that every mark is on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import typst

from datagen.markdown.blocks import Block, Front, Piece, drop_blocks, pieces_of
from datagen.markdown.formulas.check import DrawnFormula, fault
from datagen.markdown.formulas.translate import Formula
from datagen.markdown.page_templates import CODE_EM, Running, Template
from datagen.markdown.project import DocumentError
from datagen.markdown.to_typst import TypstWriter, formulas_of
from datagen.pdf.backends.mupdf import cjk_font, drawn_glyphs
from varyforge.files import atomic_file
from varyforge.processes import detail_line

# A page of the sheet on which each formula is drawn alone. The page's own rules for header and columns do not hold.
_SHEET = "#set page(width: auto, height: auto, margin: 20pt, columns: 1, header: none, footer: none)"
_TRIES = 8  # a try leaves out everything that the try before reported
_MARKS = "(query(<m>).map(mark => (mark.value, mark.location().page())), query(<wide>).map(mark => mark.value))"
_PLACE = re.compile(r"┌─ .*?main\.typ:(\d+):\d+")
_NO_GLYPH = re.compile(r'the text `"(.*?)"` could not be displayed')


class TypesetError(DocumentError):
    """A document of which nothing can be typeset."""

    def __init__(self, detail: str) -> None:
        super().__init__("typesetting", detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typeset:
    """A typeset document."""

    pdf: bytes
    blocks: tuple[Block, ...]  # the blocks on the pages
    pages: Mapping[int, frozenset[int]]  # id of a piece, row or rule → pages, from 1
    count: int  # number of pages
    running: Running
    notes: Mapping[str, int]  # blocks left out, by reason


def typeset(blocks: Sequence[Block], template: Template, running: Running) -> Typeset:
    """Compile a document. A paragraph that cannot be set is left out and counted.

    The causes: a formula that cannot be read or that is drawn with other symbols, a character that no font has, and a
    formula so wide that it would shrink below 0.6. A header that cannot be set is left out too.

    Raises:
        TypesetError: nothing is left, or the compiler reports another error.
    """
    with tempfile.TemporaryDirectory(prefix="varyforge-") as folder:
        attempt = _Attempt(Path(folder), template, running)
        left = attempt.with_right_formulas(blocks)
        for _ in range(_TRIES):
            if not left:
                raise TypesetError("nothing that can be typeset")
            result = attempt.compile(left)
            if isinstance(result, Typeset):
                return result
            left = result
        raise TypesetError("more complaints than are worth mending")


class _Attempt:
    """The state over all tries for one document: the template, and the counts of what was left out."""

    def __init__(self, folder: Path, template: Template, running: Running) -> None:
        self._main = folder / "main.typ"
        self._template, self._running = template, running
        self._prelude = _prelude().splitlines()
        self._notes: Counter[str] = Counter()

    def without(self, blocks: Sequence[Block], bad: Callable[[Piece], bool], reason: str) -> tuple[Block, ...]:
        """Return the blocks without a bad piece, and count the bad pieces."""
        count = sum(map(bad, pieces_of(blocks)))
        if count:
            self._notes[reason] += count
        return drop_blocks(blocks, bad) if count else tuple(blocks)

    def with_right_formulas(self, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Return the blocks without formulas that cannot be read or that are drawn as another formula."""
        faults = {key: formula.fault for key, formula in _formulas(blocks).items()}
        right = [key for key, reason in faults.items() if not reason]
        faults |= dict(zip(right, self._drawn_faults(right), strict=True))
        left = tuple(blocks)
        for reason in sorted({*faults.values()} - {""}):
            bad = {key for key, why in faults.items() if why == reason}
            left = self.without(left, lambda piece: (piece.text, piece.formula) in bad, f"formulas_{reason}")  # noqa: B023  # used at once
        return left

    def _drawn_faults(self, keys: Sequence[tuple[str, Formula]]) -> list[str]:
        """Return for each (LaTeX, formula) the reason why it is drawn wrongly, "" for none, from a sheet of all."""
        if not keys:
            return []
        compiler = self._compiler([_SHEET, *(f"#page[{formula.typst}]" for _, formula in keys)])
        try:
            pages = [DrawnFormula(*page) for page in drawn_glyphs(_sheet_pdf(compiler))]
        except typst.TypstError:
            half = len(keys) // 2
            return [*self._drawn_faults(keys[:half]), *self._drawn_faults(keys[half:])] if half else ["not_typeset"]
        if len(pages) != len(keys):
            raise TypesetError(f"{len(pages)} pages for {len(keys)} formulas")
        return [fault(tex, formula, drawn) for (tex, formula), drawn in zip(keys, pages, strict=True)]

    def compile(self, blocks: tuple[Block, ...]) -> Typeset | tuple[Block, ...]:
        """Run the compiler once. Return the document, or the blocks without those that the compiler reports.

        Raises:
            TypesetError: it reports an error, and no block.
        """
        formulas = formulas_of(blocks)
        writer = TypstWriter(self._template, formulas)
        source = [f"#let {name} = {text}" for text, name in formulas.items()] + [writer.line(block) for block in blocks]
        try:
            compiler = self._compiler(source, titled=isinstance(blocks[0], Front))
            pdf = _pdf(compiler)
            marks, wide = _marks(compiler)
        except typst.TypstError as error:
            return self._mended(blocks, str(error.diagnostic))
        if wide:
            return self.without(blocks, lambda piece: piece.id in wide, "wide_formulas")
        pages: defaultdict[int, set[int]] = defaultdict(set)
        for number, page in marks:
            pages[number].add(page)
        return Typeset(
            pdf=pdf,
            blocks=blocks,
            pages={number: frozenset(on) for number, on in pages.items()},
            count=max(page for _, page in marks),
            running=self._running,
            notes=dict(self._notes),
        )

    def _mended(self, blocks: tuple[Block, ...], diagnostic: str) -> tuple[Block, ...]:
        missing = {char for text in _NO_GLYPH.findall(diagnostic) for char in _unescaped(text)}
        left = self.without(
            blocks,
            lambda piece: bool(missing & {*piece.text, *(piece.formula.glyphs if piece.formula else "")}),
            "blocks_without_glyphs",
        )
        if missing & set("".join(self._running.header)):
            self._running = Running(footer=self._running.footer)
        elif len(left) == len(blocks) and left == blocks:
            left = self._without_lines(blocks, diagnostic)
        return left

    def _without_lines(self, blocks: tuple[Block, ...], diagnostic: str) -> tuple[Block, ...]:
        """Return the blocks without the lines that the compiler reports. A line is a block or a formula."""
        formulas = list(formulas_of(blocks))
        lines = set(self._lines(diagnostic))
        bad = {formulas[number] for number in lines if number < len(formulas)}
        left = tuple(block for number, block in enumerate(blocks, len(formulas)) if number not in lines)
        left = drop_blocks(left, lambda piece: piece.formula is not None and piece.formula.typst in bad)
        if left == blocks:
            raise TypesetError(detail_line(diagnostic))
        self._notes["blocks_not_typeset"] += 1
        return left

    def _lines(self, diagnostic: str) -> list[int]:
        """Return the lines of the source, from 0, that a diagnostic names."""
        lines = (int(line) - 1 - len(self._prelude) for line in _PLACE.findall(diagnostic))
        return [line for line in lines if line >= 0]

    def _compiler(self, source: Sequence[str], *, titled: bool = False) -> typst.Compiler:
        self._main.write_text("\n".join([*self._prelude, *source]), encoding="utf-8")
        settings = asdict(self._template) | {
            "header": list(self._running.header) or None,
            "code_size": CODE_EM,
            "titled": titled,  # whether the heading of level 1 is a title
        }
        return typst.Compiler(
            str(self._main),
            root=str(self._main.parent),
            font_paths=_fonts(),
            sys_inputs={"template": json.dumps(settings)},
        )


def _formulas(blocks: Sequence[Block]) -> dict[tuple[str, Formula], Formula]:
    """Return the formulas of the document by their LaTeX and translation, each once."""
    return {(piece.text, piece.formula): piece.formula for piece in pieces_of(blocks) if piece.formula}


def _unescaped(text: str) -> str:
    """Return a string without the escapes of Typst's diagnostics."""
    return re.sub(r"\\u\{([0-9a-f]+)\}", lambda match: chr(int(match[1], 16)), text)


def _pdf(compiler: typst.Compiler) -> bytes:
    """Return a PDF/A, because this form refuses characters that no font has, where a plain PDF prints a box."""
    pdf = compiler.compile(format="pdf", pdf_standards="a-2b", pdf_tags=False)
    assert isinstance(pdf, bytes)
    return pdf


def _sheet_pdf(compiler: typst.Compiler) -> bytes:
    """Return a plain PDF, which shows a missing glyph as a box."""
    pdf = compiler.compile(format="pdf", pdf_tags=False)
    assert isinstance(pdf, bytes)
    return pdf


def _marks(compiler: typst.Compiler) -> tuple[list[tuple[int, int]], list[int]]:
    """Return (id, page) of every mark, and the ids of formulas that are too wide."""
    marks, wide = json.loads(compiler.eval(_MARKS))
    return marks, wide


def _prelude() -> str:
    return (files("datagen.markdown") / "data" / "template.typ").read_text(encoding="utf-8")


@cache
def _fonts() -> typst.Fonts:
    """Return Typst's fonts, matplotlib's (DejaVu, STIX) and MuPDF's for Chinese. They are the same on every machine."""
    package = find_spec("matplotlib")
    assert package is not None and package.origin is not None  # required by the package
    latin = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"
    return typst.Fonts(include_system_fonts=False, font_paths=[str(latin), str(_cjk_folder())])


def _cjk_folder() -> Path:
    """Return a folder of this user with the Chinese font, because the compiler reads named fonts from files only.

    Raises:
        TypesetError: the folder belongs to another user.
    """
    data = cjk_font()
    folder = Path(tempfile.gettempdir()) / f"varyforge-fonts-{os.getuid()}-{hashlib.sha256(data).hexdigest()[:16]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise TypesetError(f"{folder} belongs to another user")
    file = folder / "cjk.ttf"
    if not file.is_file():
        from fontTools.ttLib import TTFont  # noqa: PLC0415  # needed once per machine; matplotlib brings it

        font = TTFont(io.BytesIO(data), recalcTimestamp=False)
        for number, name in ((4, "Droid Sans Fallback"), (6, "DroidSansFallback")):  # full and PostScript name
            font["name"].setName(name, number, 3, 1, 0x409)
        with atomic_file(file) as out:
            font.save(out)
    return folder
