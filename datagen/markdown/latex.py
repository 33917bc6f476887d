r"""LaTeX projects → one text that pandoc can read by itself: \input, \include, .bbl and numbered citations resolved."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from datagen.markdown.project import Project, ProjectError

_DEEPEST = 16  # files that input files
_CHARS = 16 << 20  # of a whole document

_SKIPPED = r"""
    (?P<verbatim>\\begin\s*\{(?P<kind>verbatim\*?|Verbatim|lstlisting|minted|comment)\}.*?(?:\\end\s*\{(?P=kind)\}|\Z))
  | (?P<verb>\\(?:verb|lstinline)\*?(?P<mark>[^\w\s{*])[^\n]*?(?:(?P=mark)|$))
  | (?P<false>\\iffalse\b.*?(?:\\fi\b|\Z))
  | (?P<escaped>\\[\\%])
  | (?P<comment>%[^\n]*)
"""
_INPUT = re.compile(
    _SKIPPED
    + r"""
  | (?P<end>\\endinput\b.*)
  | \\(?P<import>import|subimport)\s*\{(?P<folder>[^{}]*)\}\s*\{(?P<part>[^{}]*)\}
  | \\(?:input|include|subfile)\b\s*(?:\{(?P<file>[^{}]*)\} | (?P<word>[^\s{}\\%]+))
  | \\(?:usepackage|RequirePackage)\s*(?:\[[^\]]*\])?\s*\{(?P<packages>[^{}]*)\}
  | \\(?P<body>begin\s*\{document\})
""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_CITE = re.compile(
    _SKIPPED
    + r"""
  | \\(?!citestyle)[cC]ite[A-Za-z]*\*?\s*(?P<one>\[[^\]]*\])?\s*(?P<two>\[[^\]]*\])?\s*\{(?P<keys>[^{}]*)\}
  | \\bibitem\s*(?:\[(?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\])?\s*\{(?P<item>[^{}]*)\}
  | \\begin\s*\{thebibliography\}\s*(?:\{[^{}]*\})?(?P<begin>)
  | \\end\s*\{thebibliography\}(?P<finish>)
""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_BIBLIOGRAPHY = re.compile(
    _SKIPPED
    + r"""
  | \\(?P<command>bibliography|addbibresource|addglobalbib)\s*(?:\[[^\]]*\])?\s*\{(?P<files>[^{}]*)\}
  | \\(?P<print>printbibliography)\b\s*(?:\[[^\]]*\])?
""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_PARTIAL_RULE = re.compile(
    _SKIPPED + r"| (?P<rule>\\c(?:line|midrule)\s*(?:\[[^\]]*\])?\s*(?:\([^()]*\))?\s*\{[\d\#\s-]*\})",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_BIBITEM = re.compile(r"\\bibitem\s*(?:\[(?:[^\[\]{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\])?\s*\{([^{}]*)\}")
_CLASS = re.compile(r"^[^%\n]*\\document(?:class|style)\s*(?:\[[^\]]*\])?\s*\{\s*(\w[^{}]*?)\s*\}", re.MULTILINE)
_FILE_NAME = re.compile(r"[\w./][\w .,+=~@/-]*")
_PART_CLASSES = ("subfiles", "standalone")  # documents of their own only in name
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
    bibliography: str = ""  # BibTeX entries, where the document has no bibliography of its own
    notes: Mapping[str, int] = field(default_factory=dict)


def is_root(text: str) -> bool:
    r"""Whether a file is the main file of a document: it has a \documentclass, and not one for parts of documents."""
    found = _CLASS.search(text)
    return found is not None and found[1] not in _PART_CLASSES


def flatten(project: Project, root: str) -> Flat:
    r"""The document whose main file is `root`.

    A file that is input before \begin{document} and not in the project is counted: it is TeX's own, with macros. Later
    it is missing. Citations of a \bibitem become its number in brackets, as LaTeX prints them without a style.

    Raises:
        ProjectError: `missing_file`, `input_loop`, `outside`, `too_large`.
    """
    flattener = _Flattener(project)
    text = flattener.file(root, "", ())
    stem = root.rpartition(".")[0]
    text, bibliography = _with_bibliography(text, stem, project, flattener.notes)
    if "\\bibitem" in text:
        text, bibliography = _numbered(text), ""
    text = _PARTIAL_RULE.sub(lambda found: "" if found["rule"] else found[0], text)  # pandoc takes "2-3" for a cell
    return Flat(text=text, bibliography=bibliography, notes=dict(flattener.notes))


class _Flattener:
    """One walk through a document's files."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._in_body = False
        self._chars = 0
        self.notes: Counter[str] = Counter()

    def file(self, name: str, base: str, above: tuple[str, ...]) -> str:
        """The text of a file with what it inputs. `base` is the folder that `import` set, `above` who inputs it."""
        if name in above or len(above) > _DEEPEST:
            raise ProjectError("input_loop", " inputs ".join([*above[-3:], name]))
        text = self._project.read(name)
        if text is None:
            raise ProjectError("missing_file", name)
        self._chars += len(text)
        if self._chars > _CHARS:
            raise ProjectError("too_large", f"more than {_CHARS} characters of text")
        if above:
            body = _BODY.search(text)  # of a part that can stand alone
            text = _with_end(body[1] if body else text)
        return _INPUT.sub(lambda found: self._resolved(found, base, (*above, name)), text)

    def _resolved(self, found: re.Match[str], base: str, above: tuple[str, ...]) -> str:
        if found["end"]:
            return ""
        if found["body"]:
            self._in_body = True
        elif found["packages"]:
            return found[0] + "".join(map(self._macros, found["packages"].split(",")))
        elif found["import"]:
            inside = posixpath.join(base if found["import"] == "subimport" else "", found["folder"].strip())
            return self._input(found["part"], inside, above)
        elif found["file"] is not None or found["word"]:
            wanted = (found["file"] or found["word"] or "").strip().strip('"')
            if _FILE_NAME.fullmatch(wanted):  # else a manual speaks about it
                return self._input(wanted, base, above)
        return found[0]

    def _input(self, wanted: str, base: str, above: tuple[str, ...]) -> str:
        place = posixpath.join(base, wanted.strip())
        for name in (place, f"{place}.tex"):
            if self._project.read(name) is not None:
                return self.file(posixpath.normpath(name), base, above)
        if self._in_body:
            raise ProjectError("missing_file", f"{place} (input by {above[-1]})")
        self.notes["missing_macro_files"] += 1
        return ""

    def _macros(self, package: str) -> str:
        """The macros that a package of the project's own defines; the rest of it is for TeX alone."""
        name = package.strip()
        text = self._project.read(f"{name}.sty") if name and ".." not in name and not name.startswith("/") else None
        return "\n" + "\n".join(_definitions(text)) + "\n" if text else ""


def _with_end(text: str) -> str:
    """A file's text as TeX goes on after it: its last line ends there, comment or not, and a blank one is kept."""
    ended = re.sub(r"(?<!\\)%[^\n]*\Z", "", text.rstrip()).rstrip()
    return ended + ("\n\n" if re.search(r"\n[ \t]*\n[ \t]*\Z", text) else " ")


def with_plain_preamble(text: str) -> str:
    """The document with nothing before its body but title, authors and simple macros: the rest is for TeX alone."""
    body = re.search(r"\\begin\s*\{document\}", text)
    if body is None:
        return text
    above = text[: body.start()]
    return "\n".join([*_commands(_TITLE, above), *_definitions(above), text[body.start() :]])


def _definitions(text: str) -> list[str]:
    """Definitions of macros; internal ones, with an @ in them, are left out."""
    return [found for found in _commands(_DEFINITION, text) if "@" not in found]


def _commands(kind: re.Pattern[str], text: str) -> list[str]:
    """Commands that a pattern, which ends with their last argument's brace, finds: with that whole argument."""
    text = re.sub(r"(?<!\\)%[^\n]*", "", text)
    found = []
    for start in kind.finditer(text):
        depth = 0
        for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start.end() - 1):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if depth == 0:
                found.append(text[start.start() : brace.end()])
                break
    return found


def _with_bibliography(text: str, stem: str, project: Project, notes: Counter[str]) -> tuple[str, str]:
    """The text with its .bbl in place, or else the BibTeX entries that it cites from."""
    printed = project.read(f"{stem}.bbl")
    if printed is not None and "\\bibitem" not in printed:
        printed = None  # of biblatex, which keeps its data there
    entries: list[str] = []

    def resolved(found: re.Match[str]) -> str:
        nonlocal printed
        if not (found["command"] or found["print"]):
            return found[0]
        if printed is not None:
            once, printed = printed, ""
            return once if found["command"] == "bibliography" or found["print"] else ""
        for name in (found["files"] or "").split(","):
            bib = project.read(f"{name.strip().removesuffix('.bib')}.bib")
            notes["missing_bibliographies"] += bib is None
            entries.append(bib or "")
        return ""

    text = _BIBLIOGRAPHY.sub(resolved, text)
    notes += Counter()  # drops zeros
    return text, "\n".join(filter(None, entries))


def _numbered(text: str) -> str:
    """Bibliography and citations with the numbers that LaTeX gives them."""
    numbers: dict[str, int] = {}
    for key in _BIBITEM.findall(text):
        numbers.setdefault(key.strip(), len(numbers) + 1)

    def cited(found: re.Match[str]) -> str:
        keys = [str(numbers.get(key.strip(), "?")) for key in found["keys"].split(",")]
        before, after = (found["one"], found["two"]) if found["two"] else (None, found["one"])
        note = f", {after[1:-1]}" if after and after[1:-1].strip() else ""
        return f"{{[{before[1:-1] + ' ' if before and before[1:-1].strip() else ''}{', '.join(keys)}{note}]}}"

    rules: Mapping[str, Callable[[re.Match[str]], str]] = {
        "keys": cited,
        "item": lambda found: f"\n\n{{[{numbers[found['item'].strip()]}]}} ",
        "begin": lambda _: "\n\n\\begin{references}\n\n",
        "finish": lambda _: "\n\n\\end{references}\n\n",
    }

    def resolved(found: re.Match[str]) -> str:
        rule = next((rule for name, rule in rules.items() if found[name] is not None), None)
        return rule(found) if rule else found[0]

    return _CITE.sub(resolved, text)
