from __future__ import annotations

import gzip
import lzma
import tarfile
from pathlib import Path

import pytest

from datagen.markdown.latex import flatten, is_root, with_plain_preamble
from datagen.markdown.project import Folder, ProjectError, open_archive
from tests.datagen.made_papers import latex, pack, write_project


def flat(folder: Path, files: dict[str, str]) -> str:
    root = write_project(folder, files)
    return flatten(Folder(folder), root.name).text


def reason(folder: Path, files: dict[str, str]) -> tuple[str, str]:
    with pytest.raises(ProjectError) as error:
        flat(folder, files)
    return error.value.reason, str(error.value)


def test_three_files_become_one(tmp_path: Path) -> None:
    files = {
        "main.tex": latex(r"\input{a} middle \include{parts/b}\input c end"),
        "a.tex": "from a",
        "parts/b.tex": r"from b with \input{parts/deep.txt}",
        "parts/deep.txt": "deep",
        "c.tex": "from c \\endinput never seen",
    }
    text = " ".join(flat(tmp_path, files).split())
    assert "from a middle from b with deep from c end" in text


def test_a_file_ends_a_line_and_no_paragraph(tmp_path: Path) -> None:
    files = {"main.tex": latex("\\input{a}\nmiddle \\input{b}end"), "a.tex": "one % note", "b.tex": "two\n\n\n"}
    assert "one \nmiddle two\n\nend" in flat(tmp_path, files)


def test_what_is_said_about_files_is_no_input(tmp_path: Path) -> None:
    body = r"""
% \input{gone}
100\% \input{there} \verb|\input{gone}| \iffalse \input{gone} \fi
\begin{verbatim}
\input{gone}
\end{verbatim}
\begin{comment} \input{gone} \end{comment}"""
    assert "found" in flat(tmp_path, {"main.tex": latex(body), "there.tex": "found"})


def test_what_is_never_closed_is_read_once(tmp_path: Path) -> None:
    """Else each of 100,000 openings would be followed to the end of the text."""
    for opening in (r"\begin{verbatim}", r"\iffalse "):
        body = opening * 100_000 + r"\input{gone}"
        assert body in flat(tmp_path, {"main.tex": latex(body)})


def test_parts_that_can_stand_alone_give_their_body(tmp_path: Path) -> None:
    part = "\\documentclass[main]{subfiles}\n\\begin{document}\nThe part.\n\\end{document}"
    text = flat(tmp_path, {"main.tex": latex(r"\subfile{part} \import{sub/}{x}"), "part.tex": part, "sub/x.tex": "X"})
    assert text.count("documentclass") == 1
    assert "The part." in text and "X " in text
    assert is_root(latex("x")) and not is_root(part)
    assert not is_root("% \\documentclass{article}\ntext")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert reason(tmp_path / "a", {"main.tex": latex(r"\input{gone}")}) == ("missing_file", "gone (input by main.tex)")
    loop = {"main.tex": latex(r"\input{a}"), "a.tex": r"\input{b}", "b.tex": r"\input{a}"}
    assert reason(tmp_path / "b", loop) == ("input_loop", "main.tex inputs a.tex inputs b.tex inputs a.tex")
    assert reason(tmp_path / "c", {"main.tex": latex(r"\input{/etc/passwd}")})[0] == "outside"
    assert reason(tmp_path / "d", {"main.tex": latex(r"\input{../secret}")})[0] == "outside"


def test_a_link_out_of_the_project_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.tex").write_text("secret")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "link.tex").symlink_to(tmp_path / "secret.tex")
    assert reason(tmp_path / "project", {"main.tex": latex(r"\input{link}")})[0] == "outside"


def test_files_of_macros(tmp_path: Path) -> None:
    style = "\\newcommand{\\R}{\\mathbb{R}} % real\n\\def\\in@ner{x}\\newcommand\\pair[2]{(#1,{#2})}\n\\catcode`\\@=11"
    preamble = "\\usepackage{mine,theirs}\n\\input{glyphtounicode}\n"
    root = write_project(tmp_path, {"main.tex": latex("text", preamble), "mine.sty": style})
    made = flatten(Folder(tmp_path), root.name)
    assert "\\newcommand{\\R}{\\mathbb{R}}" in made.text and "\\newcommand\\pair[2]{(#1,{#2})}" in made.text
    assert "in@ner" not in made.text and "catcode" not in made.text
    assert made.notes == {"missing_macro_files": 1}


def test_bibliographies(tmp_path: Path) -> None:
    items = "\\begin{thebibliography}{9}\\bibitem[Knuth(1984)]{k} Knuth. \\bibitem{l} Lamport.\\end{thebibliography}"
    body = r"As \cite{l,k}, \citep[see][p.~3]{k}, \cite{gone} and \verb|\cite{k}|. \bibliography{refs}"
    text = flat(tmp_path / "a", {"main.tex": latex(body), "main.bbl": items})
    assert r"As {[2, 1]}, {[see 1, p.~3]}, {[?]} and \verb|\cite{k}|." in text
    assert "{[1]}  Knuth." in text and "{[2]}  Lamport." in text and "bibliography" not in text
    root = write_project(tmp_path / "b", {"main.tex": latex(body), "refs.bib": "@book{k, title={T}}"})
    made = flatten(Folder(tmp_path / "b"), root.name)
    assert made.bibliography == "@book{k, title={T}}"
    assert r"\cite{l,k}" in made.text
    root = write_project(tmp_path / "c", {"main.tex": latex(body)})
    assert flatten(Folder(tmp_path / "c"), root.name).notes == {"missing_bibliographies": 1}


def test_old_encodings(tmp_path: Path) -> None:
    (tmp_path / "latin.tex").write_bytes(latex("caf\xe9").encode("latin-1"))
    (tmp_path / "gbk.tex").write_bytes(latex("中文", "\\usepackage[GBK]{CJK}").encode("gb18030"))
    (tmp_path / "plain.tex").write_bytes(latex("中文，没有宏包").encode("gbk"))
    (tmp_path / "names.tex").write_bytes(latex("G\xf6del, na\xefve, \xc4\xd6 and the word ctex").encode("latin-1"))
    (tmp_path / "mac.tex").write_bytes(latex("% comment\rtext").replace("\n", "\r").encode())
    assert "café" in flatten(Folder(tmp_path), "latin.tex").text
    assert "中文" in flatten(Folder(tmp_path), "gbk.tex").text
    assert "中文，没有宏包" in flatten(Folder(tmp_path), "plain.tex").text
    assert "Gödel, naïve, ÄÖ and" in flatten(Folder(tmp_path), "names.tex").text
    assert "% comment\ntext\n" in flatten(Folder(tmp_path), "mac.tex").text


def test_a_plain_preamble_keeps_title_and_macros() -> None:
    preamble = "\\title[short]{A {nested} title}\n\\makeatletter\\def\\x#1 #2\\relax{#1}\n\\newcommand{\\y}{\\{z}\n"
    plain = with_plain_preamble(latex("\\def\\inner{stays}", preamble))
    assert plain.startswith("\\title[short]{A {nested} title}\n")
    assert "makeatletter" not in plain and "\\relax" not in plain and "\\def\\inner{stays}" in plain


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, link
    return about


@pytest.mark.parametrize(
    "hostile",
    [
        member("/etc/cron.d/x.tex"),
        member("../../x.tex"),
        member("a/../../x.tex"),
        member("x.tex", tarfile.SYMTYPE, "/etc/passwd"),
        member("x.tex", tarfile.LNKTYPE, "main.tex"),
        member("x", tarfile.CHRTYPE),
        member("x", tarfile.FIFOTYPE),
    ],
)
def test_hostile_members_refuse_the_archive(tmp_path: Path, hostile: tarfile.TarInfo) -> None:
    packed = pack(tmp_path / "paper.tar.gz", [hostile], {"main.tex": latex("text")})
    with pytest.raises(ProjectError) as error:
        open_archive(packed)
    assert error.value.reason == "unsafe_archive"


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(
        tmp_path / "paper.tar.gz", [], {"./main.tex": latex(r"\input{sub/a}"), "sub/a.tex": "A", "p.png": "x"}
    )
    project = open_archive(packed)
    assert project.names() == ["main.tex", "sub/a.tex"]
    assert "\nA \n" in flatten(project, "main.tex").text
    (tmp_path / "2401.00001.gz").write_bytes(gzip.compress(latex("alone").encode()))
    assert open_archive(tmp_path / "2401.00001.gz").names() == ["2401.00001.tex"]
    monkeypatch.setattr("datagen.markdown.project._ARCHIVE_BYTES", 1 << 20)
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bytes(2 << 20)))
    (tmp_path / "cut.tar.gz").write_bytes(packed.read_bytes()[:-20])
    (tmp_path / "prose.tar.gz").write_text("no gzip")
    for name, reason in (("bomb", "too_large"), ("cut", "unreadable"), ("prose", "unreadable")):
        with pytest.raises(ProjectError) as error:
            open_archive(tmp_path / f"{name}.tar.gz")
        assert error.value.reason == reason
    tar = gzip.decompress(packed.read_bytes())
    (tmp_path / "half.tar.gz").write_bytes(gzip.compress(tar[:2000]))
    with pytest.raises(ProjectError, match="a broken tar file") as error:
        open_archive(tmp_path / "half.tar.gz")
    assert error.value.reason == "unreadable"
    (tmp_path / "twice.tar.gz").write_bytes(gzip.compress(lzma.compress(tar)))
    assert open_archive(tmp_path / "twice.tar.gz").names() == ["twice.tar.tex"]  # not unpacked again
    monkeypatch.setattr("datagen.markdown.project._MEMBERS", 2)
    with pytest.raises(ProjectError, match="more than 2 members"):
        open_archive(packed)
