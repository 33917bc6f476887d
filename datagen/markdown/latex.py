r"""LaTeX projects → one text for pandoc, with \input, \include, .bbl and numbered citations resolved."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from datagen.markdown.project import Project, ProjectError

_DEEPEST = 16  # levels of files that input files
_CHARS = 16 << 20  # of a document

_SKIPPED = r"""
    (?P<verbatim>\\begin\s*\{(?P<kind>verbatim\*?|Verbatim|lstlisting|minted|comment)\}.*?(?:\\end\s*\{(?P=kind)\}|\Z))
  | (?P<verb>\\(?:verb|lstinline)\*?(?P<mark>[^\w\s{*])[^\n]*?(?:(?P=mark)|$))
  | (?P<false>\\iffalse\b.*?(?:\\fi\b|\Z))
  | (?P<escaped>\\[\\%])
  | (?P<comment>%[^\n]*)
"""


def _scanner(pattern: str) -> re.Pattern[str]:
    """Return a verbose pattern that also matches, and so passes over, what TeX does not read as commands."""
    return re.compile(_SKIPPED + pattern, re.VERBOSE | re.DOTALL | re.MULTILINE)


_INPUT = _scanner(r"""
  | (?P<end>\\endinput\b.*)
  | \\(?P<import>import|subimport)\s*\{(?P<folder>[^{}]*)\}\s*\{(?P<part>[^{}]*)\}
  | \\(?:input|include|subfile)\b\s*(?:\{(?P<file>[^{}]*)\} | (?P<word>[^\s{}\\%]+))
  | \\(?:usepackage|RequirePackage)\s*(?:\[[^\]]*\])?\s*\{(?P<packages>[^{}]*)\}
  | \\(?P<body>begin\s*\{document\})
""")
_CITE = _scanner(r"""
  | \\(?!citestyle)[cC]ite[A-Za-z]*\*?\s*(?P<one>\[[^\]]*\])?\s*(?P<two>\[[^\]]*\])?\s*\{(?P<keys>[^{}]*)\}
  | \\bibitem\s*(?:\[(?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\])?\s*\{(?P<item>[^{}]*)\}
  | \\begin\s*\{thebibliography\}\s*(?:\{[^{}]*\})?(?P<begin>)
  | \\end\s*\{thebibliography\}(?P<finish>)
""")
_BIBLIOGRAPHY = _scanner(r"""
  | \\(?P<command>bibliography|addbibresource|addglobalbib)\s*(?:\[[^\]]*\])?\s*\{(?P<files>[^{}]*)\}
  | \\(?P<print>printbibliography)\b\s*(?:\[[^\]]*\])?
""")
_PARTIAL_RULE = _scanner(r"| (?P<rule>\\c(?:line|midrule)\s*(?:\[[^\]]*\])?\s*(?:\([^()]*\))?\s*\{[\d\#\s-]*\})")
_BIBITEM = re.compile(r"\\bibitem\s*(?:\[(?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\])?\s*\{([^{}]*)\}")
_CLASS = re.compile(r"^[^%\n]*\\document(?:class|style)\s*(?:\[[^\]]*\])?\s*\{\s*(\w[^{}]*?)\s*\}", re.MULTILINE)
_FILE_NAME = re.compile(r"[\w./][\w .,+=~@/-]*")
_PART_CLASSES = ("subfiles", "standalone")  # parts of a document
_BODY = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.DOTALL)
_DEFINITION = re.compile(
    r"\\(?:(?:re|provide)?newcommand|providecommand|DeclareMathOperator|newtheorem|def)\*?\s*(?:\{\\?\w+\}|\\[A-Za-z]+)"
    r"(?:\s*\[[^\]]*\])*(?:#\d)*\s*\{"
)
_TITLE = re.compile(r"\\(?:title|author|date)\s*(?:\[[^\]]*\])?\s*\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flat:
    """A document in one piece."""

    text: str
    bibliography: str = ""  # BibTeX entries, for a document without a bibliography of its own
    notes: Mapping[str, int] = field(default_factory=dict)


def is_root(text: str) -> bool:
    r"""Whether a file is a main file: it has a \documentclass that is not one for parts of documents."""
    match = _CLASS.search(text)
    return match is not None and match[1] not in _PART_CLASSES


def flatten(project: Project, root: str) -> Flat:
    r"""Return the document whose main file is `root`.

    A file that the project lacks is counted before \begin{document}, where it is TeX's own with macros, and is an error
    after it. Citations of a \bibitem become its number in brackets, as LaTeX prints them without a style.

    Raises:
        ProjectError: `missing_file`, `input_loop`, `outside`, `too_large`.
    """
    flattener = _Flattener(project)
    text = flattener.file(root, "", ())
    stem = root.rpartition(".")[0]
    text, bibliography = _with_bibliography(text, stem, project, flattener.notes)
    if "\\bibitem" in text:
        text, bibliography = _numbered(text), ""
    text = _PARTIAL_RULE.sub(lambda match: "" if match["rule"] else match[0], text)  # pandoc reads "2-3" as a cell
    return Flat(text=text, bibliography=bibliography, notes=dict(flattener.notes))


class _Flattener:
    """A walk through the files of one document."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._in_body = False
        self._chars = 0
        self.notes: Counter[str] = Counter()

    def file(self, name: str, base: str, above: tuple[str, ...]) -> str:
        """Return the text of a file and of its inputs. `base` is the folder of `import`, `above` the files above."""
        if name in above or len(above) > _DEEPEST:
            raise ProjectError("input_loop", " inputs ".join([*above[-3:], name]))
        text = self._project.read(name)
        if text is None:
            raise ProjectError("missing_file", name)
        self._chars += len(text)
        if self._chars > _CHARS:
            raise ProjectError("too_large", f"more than {_CHARS} characters of text")
        if above:
            body = _BODY.search(text)  # of a part that compiles by itself
            text = _with_end(body[1] if body else text)
        return _INPUT.sub(lambda match: self._resolved(match, base, (*above, name)), text)

    def _resolved(self, match: re.Match[str], base: str, above: tuple[str, ...]) -> str:
        if match["end"]:
            return ""
        if match["body"]:
            self._in_body = True
        elif match["packages"]:
            return match[0] + "".join(map(self._macros, match["packages"].split(",")))
        elif match["import"]:
            inside = posixpath.join(base if match["import"] == "subimport" else "", match["folder"].strip())
            return self._input(match["part"], inside, above)
        elif match["file"] is not None or match["word"]:
            name = (match["file"] or match["word"] or "").strip().strip('"')
            if _FILE_NAME.fullmatch(name):  # else a manual explains the command
                return self._input(name, base, above)
        return match[0]

    def _input(self, part: str, base: str, above: tuple[str, ...]) -> str:
        path = posixpath.join(base, part.strip())
        for name in (path, f"{path}.tex"):
            if self._project.read(name) is not None:
                return self.file(posixpath.normpath(name), base, above)
        if self._in_body:
            raise ProjectError("missing_file", f"{path} (input by {above[-1]})")
        self.notes["missing_macro_files"] += 1
        return ""

    def _macros(self, package: str) -> str:
        """Return the macros that a package of the project defines. The rest of a package is for TeX alone."""
        name = package.strip()
        text = self._project.read(f"{name}.sty") if name and ".." not in name and not name.startswith("/") else None
        return "\n" + "\n".join(_definitions(text)) + "\n" if text else ""


def _with_end(text: str) -> str:
    """Return a file's text with its end as TeX reads it: the last line ends, with or without a comment."""
    ended = re.sub(r"(?<!\\)%[^\n]*\Z", "", text.rstrip()).rstrip()
    return ended + ("\n\n" if re.search(r"\n[ \t]*\n[ \t]*\Z", text) else " ")


def with_plain_preamble(text: str) -> str:
    """Return the document with title, authors and simple macros as its whole preamble."""
    body = re.search(r"\\begin\s*\{document\}", text)
    if body is None:
        return text
    above = text[: body.start()]
    return "\n".join([*_commands(_TITLE, above), *_definitions(above), text[body.start() :]])


def _definitions(text: str) -> list[str]:
    """Return the definitions of macros, without internal ones, which have an @."""
    return [command for command in _commands(_DEFINITION, text) if "@" not in command]


def _commands(kind: re.Pattern[str], text: str) -> list[str]:
    """Return the commands that match a pattern, which ends with the brace of the last argument, with that argument."""
    text = re.sub(r"(?<!\\)%[^\n]*", "", text)
    commands = []
    for start in kind.finditer(text):
        depth = 0
        for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start.end() - 1):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                commands.append(text[start.start() : brace.end()])
                break
    return commands


def _with_bibliography(text: str, stem: str, project: Project, notes: Counter[str]) -> tuple[str, str]:
    """Return the text with its .bbl in place, and the BibTeX entries of a text without .bbl."""
    printed = project.read(f"{stem}.bbl")
    if printed is not None and "\\bibitem" not in printed:
        printed = None  # of biblatex, which stores data there
    entries: list[str] = []

    def resolved(match: re.Match[str]) -> str:
        nonlocal printed
        if not (match["command"] or match["print"]):
            return match[0]
        if printed is not None:
            once, printed = printed, ""
            return once if match["command"] == "bibliography" or match["print"] else ""
        for name in (match["files"] or "").split(","):
            bib = project.read(f"{name.strip().removesuffix('.bib')}.bib")
            notes["missing_bibliographies"] += bib is None
            entries.append(bib or "")
        return ""

    text = _BIBLIOGRAPHY.sub(resolved, text)
    notes += Counter()  # drops zeros
    return text, "\n".join(filter(None, entries))


def _numbered(text: str) -> str:
    """Return the text with LaTeX's numbers in bibliography and citations."""
    numbers: dict[str, int] = {}
    for key in _BIBITEM.findall(text):
        numbers.setdefault(key.strip(), len(numbers) + 1)

    def cited(match: re.Match[str]) -> str:
        keys = [str(numbers.get(key.strip(), "?")) for key in match["keys"].split(",")]
        before, after = (match["one"], match["two"]) if match["two"] else (None, match["one"])
        note = f", {after[1:-1]}" if after and after[1:-1].strip() else ""
        return f"{{[{before[1:-1] + ' ' if before and before[1:-1].strip() else ''}{', '.join(keys)}{note}]}}"

    def resolved(match: re.Match[str]) -> str:
        if match["keys"] is not None:
            return cited(match)
        if match["item"] is not None:
            return f"\n\n{{[{numbers[match['item'].strip()]}]}} "
        edge = "begin" if match["begin"] is not None else "end" if match["finish"] is not None else ""
        return f"\n\n\\{edge}{{references}}\n\n" if edge else match[0]

    return _CITE.sub(resolved, text)
