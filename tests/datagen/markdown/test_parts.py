"""Parts of the Markdown source: project folders, LaTeX's numbers, pandoc's errors, the compiler's complaints."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datagen.markdown import pandoc, project, typeset
from datagen.markdown.blocks import Display, Front, Heading, Paragraph, Piece, Table, block_texts
from datagen.markdown.formulas.translate import Formula
from datagen.markdown.latex import flatten
from datagen.markdown.page_templates import Running, all_templates
from datagen.markdown.pandoc import ConvertError, Tree, bare
from datagen.markdown.project import Archive, Folder, ProjectError, read_file
from datagen.markdown.tree import build, words
from datagen.markdown.typeset import TypesetError
from tests.datagen.made_papers import latex, write_project

# --- project


def test_the_text_files_of_a_folder(tmp_path: Path) -> None:
    write_project(tmp_path, {"main.tex": "", "parts/B.TEX": "", "refs.bib": "", "notes.md": "", "figure.png": ""})
    (tmp_path / "parts" / "loop").symlink_to(tmp_path, target_is_directory=True)
    names = [str(Path(path).relative_to(tmp_path)) for path in Folder(tmp_path).texts()]
    assert names == ["main.tex", "parts/B.TEX", "refs.bib"]
    assert Folder(tmp_path / "gone").texts() == []


def test_a_folder_of_too_much_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path, {f"{number}.tex": "" for number in range(4)})
    monkeypatch.setattr(project, "_LISTED", 3)
    assert Folder(tmp_path).texts() == []


def test_names_are_looked_up_beside_the_main_file_and_then_at_the_top() -> None:
    archive = Archive({"p/a.tex": b"beside", "a.tex": b"top", "b.tex": b"only at the top"}, folder="p")
    assert (archive.read("a.tex"), archive.read("b.tex"), archive.read("c.tex")) == ("beside", "only at the top", None)
    assert archive.names() == ["a.tex", "b.tex", "p/a.tex"]
    with pytest.raises(ProjectError) as error:
        archive.read("../../a.tex")
    assert error.value.reason == "outside"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("\ufeffétude".encode(), "étude"), ("中文排版".encode("gb18030"), "中文排版"),
        (b"caf\xe9 cr\xe8me", "café crème"),
        (b"a\r\nb\rc", "a\nb\nc"), (b"", ""),
    ],
)  # fmt: skip
def test_encodings_of_files(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "a.md").write_bytes(data)
    assert read_file(tmp_path / "a.md") == text


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "_FILE_BYTES", 10)
    (tmp_path / "a.md").write_bytes(b"x" * 11)
    with pytest.raises(ProjectError) as error:
        read_file(tmp_path / "a.md")
    assert error.value.reason == "too_large"


# --- LaTeX


@pytest.mark.parametrize(
    ("cited", "text"),
    [
        (r"\cite{a}", "{[1]}"), (r"\citep[p.~3]{b}", "{[2, p.~3]}"), (r"\cite[see][ch. 1]{a,b}", "{[see 1, 2, ch. 1]}"),
        (r"\Citet*{gone}", "{[?]}"), (r"\verb|\cite{a}|", r"\verb|\cite{a}|"), (r"% \cite{a}", r"% \cite{a}"),
    ],
)  # fmt: skip
def test_citations_have_the_numbers_of_the_bibliography(tmp_path: Path, cited: str, text: str) -> None:
    items = r"\begin{thebibliography}{9}\bibitem{a} A. \bibitem[B(2)]{b} B.\end{thebibliography}"
    root = write_project(tmp_path, {"main.tex": latex(f"{cited}\n{items}")})
    flat = flatten(Folder(tmp_path), root.name)
    assert f"\n{text}\n" in flat.text
    assert "\\begin{references}" in flat.text and flat.bibliography == ""


def test_a_document_that_grows_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datagen.markdown.latex._CHARS", 400)
    write_project(tmp_path, {"main.tex": latex(r"\input{a}" * 9), "a.tex": "x" * 99})
    with pytest.raises(ProjectError) as error:
        flatten(Folder(tmp_path), "main.tex")
    assert error.value.reason == "too_large"


# --- pandoc


@pytest.mark.parametrize(
    ("tex", "formula"),
    [
        ("a % note\n b", "a b"), (r"5\% \label{x}", r"5\%"), (r"x \tag*{$\star$} \nonumber", "x"),
        (r"\begin{equation*}x\end{equation*}", "x"),
        (r"\begin{gather}a\\b\end{gather}", r"\begin{gathered} a\\b\end{gathered}"),
    ],
)  # fmt: skip
def test_a_formula_between_dollars(tex: str, formula: str) -> None:
    assert bare(tex).replace(" \\end", "\\end") == formula


@pytest.mark.parametrize(("status", "reason"), [(91, "macro_loop"), (251, "memory"), (64, "converter")])
def test_pandocs_exit_status_is_a_reason(status: int, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=status, stderr=b"[INFO] noise\nError at line 3\n  near x\n", stdout=b"")
    monkeypatch.setattr(pandoc.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ConvertError, match=r"pandoc: Error at line 3$") as error:
        pandoc.read("x", "latex", seconds=1)
    assert error.value.reason == reason


def test_a_broken_bibliography_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {"blocks": [], "meta": {}}

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        bad = "--citeproc" in command
        return SimpleNamespace(returncode=64 * bad, stderr=b"bad entry", stdout=json.dumps(empty).encode())

    monkeypatch.setattr(pandoc.subprocess, "run", run)
    assert pandoc.read("x", "latex", bibliography="@book{", seconds=1).notes == {"unreadable_bibliographies": 1}
    assert pandoc.read("x", "latex", seconds=1).notes == {}


# --- tree


def text(*strings: str) -> list[dict[str, Any]]:
    return [{"t": "Str", "c": string} for string in strings]


def tree_of(*blocks: dict[str, Any], **meta: Any) -> Tree:
    return Tree(meta=meta, blocks=list(blocks), notes={"skipped_commands": 2})


def test_sections_have_numbers_down_to_the_third_level() -> None:
    heads = [{"t": "Header", "c": [level, ["", [], []], text("A")]} for level in (1, 2, 2, 1, 3, 4)]
    document = build(tree_of(*heads), numbered=True, language="en")
    assert [" ".join(block_texts(block)) for block in document.blocks] == [
        "1 A",
        "1.1 A",
        "1.2 A",
        "2 A",
        "2.0.1 A",
        "A",
    ]
    plain = build(tree_of(*heads), numbered=False, language="en").blocks
    assert [" ".join(block_texts(block)) for block in plain] == ["A"] * 6


def test_a_title_moves_the_headings_down() -> None:
    title = {"t": "MetaInlines", "c": text("Title")}
    head = {"t": "Header", "c": [1, ["", [], []], text("A")]}
    document = build(tree_of(head, title=title), numbered=False, language="en")
    front, heading = document.blocks
    assert isinstance(front, Front) and isinstance(heading, Heading)
    assert (document.title, heading.level, document.notes) == ("Title", 2, Counter(skipped_commands=2))


def test_a_display_formula_cuts_its_paragraph() -> None:
    formula = {"t": "Math", "c": [{"t": "DisplayMath"}, "x"]}
    (before, display, after) = build(
        tree_of({"t": "Para", "c": [*text("a"), formula, {"t": "Space"}, *text("b")]}), numbered=False, language="en"
    ).blocks
    assert isinstance(before, Paragraph) and isinstance(display, Display) and isinstance(after, Paragraph)
    assert (display.formula.text, after.pieces[0].space) == ("x", False)


def test_what_has_no_text_is_counted() -> None:
    image = {"t": "Image", "c": [["", [], []], [], ["x.png", ""]]}
    raw = {"t": "RawInline", "c": ["tex", "x"]}
    blocks = [{"t": "Para", "c": [image, raw]}, {"t": "RawBlock", "c": ["tex", "x"]}]
    document = build(tree_of(*blocks), numbered=False, language="en")
    assert document.blocks == ()
    assert document.notes == {"images": 1, "raw_inlines": 1, "raw_blocks": 1, "skipped_commands": 2}


def test_complex_tables_are_left_out() -> None:
    def table(kind: str) -> dict[str, Any]:
        cell = [["", [], []], {"t": "AlignDefault"}, 1, 1, [{"t": kind, "c": text("x")}]]
        row = [["", [], []], [cell]]
        columns = [[{"t": "AlignRight"}, {"t": "ColWidthDefault"}]]
        head, foot = [["", [], []], []], [["", [], []], []]
        return {"t": "Table", "c": [["", [], []], [None, []], columns, head, [[["", [], []], 0, [], [row]]], foot]}

    (simple,) = build(tree_of(table("Plain")), numbered=False, language="en").blocks
    assert isinstance(simple, Table) and simple.body[0].cells[0].align == "right"
    assert build(tree_of(table("BlockQuote")), numbered=False, language="en").notes["complex_tables"] == 1


def test_all_words_tell_the_language() -> None:
    assert words(tree_of({"t": "Para", "c": text("a", "b")}, title={"t": "MetaInlines", "c": text("T")})) == "T a b"


# --- the compiler


def test_nothing_to_typeset_is_an_error() -> None:
    broken = Display(formula=Piece(id=0, kind="math", text="x", formula=Formula(fault="not_read")))
    with pytest.raises(TypesetError, match="nothing that can be typeset"):
        typeset.typeset([broken], all_templates()[0], Running())


def test_a_font_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typeset.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = typeset._cjk_folder()
    assert [file.name for file in folder.iterdir()] == ["cjk.ttf"]
    uid = typeset.os.getuid()
    monkeypatch.setattr(typeset.os, "getuid", lambda: uid + 1)
    folder.rename(str(folder).replace(f"-{uid}-", f"-{uid + 1}-"))
    with pytest.raises(TypesetError, match="belongs to another user"):
        typeset._cjk_folder()
