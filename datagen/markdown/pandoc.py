"""Pandoc as an external program with a deadline and a memory cap: LaTeX or Markdown → pandoc's syntax tree (JSON)."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

from datagen.markdown.project import DocumentError

_FORMATS = {
    "latex": "latex",
    "markdown": "gfm+yaml_metadata_block+footnotes-emoji",  # GitHub's: formulas, tables, task lists
}
_HEAP_MB = 1024
_LABEL = re.compile(r"\\(?:label|tag\*?)\s*\{(?:[^{}]|\{[^{}]*\})*\}|\\(?:nonumber|notag)\b")
_COMMENT = re.compile(r"(\\.)|%[^\n]*(?:\n[ \t]*)?", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(begin|end) ?\{(align|flalign|eqnarray|gather|multline|alignat)\*?\} ?")
_INNER = {"gather": "gathered", "multline": "gathered", "alignat": "alignedat"}  # the forms of amsmath between dollars
_REASONS = {91: "macro_loop", 251: "memory"}  # pandoc's exit statuses; 251 is "heap exhausted"


class ConvertError(DocumentError):
    """A document without a result of pandoc."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A document as pandoc reads it (https://hackage.haskell.org/package/pandoc-types)."""

    meta: Mapping[str, Any]
    blocks: list[Any]
    notes: Mapping[str, int]


def read(text: str, format: Literal["latex", "markdown"], *, bibliography: str = "", seconds: float) -> Tree:
    """Run pandoc on a document for at most `seconds` of wall clock. The bibliography is BibTeX entries.

    Raises:
        ConvertError: `macro_loop`, `memory`, `timeout`, or `converter` for a document that pandoc cannot read.
    """
    if not bibliography:
        return _read(text, format, [], seconds)
    with tempfile.NamedTemporaryFile(suffix=".bib") as file:
        file.write(bibliography.encode(errors="replace"))
        file.flush()
        try:
            return _read(text, format, ["--citeproc", f"--bibliography={file.name}"], seconds)
        except ConvertError as error:
            if error.reason != "converter":
                raise
    tree = _read(text, format, [], seconds)  # perhaps the bibliography is at fault; BibTeX accepts more
    return replace(tree, notes={**tree.notes, "unreadable_bibliographies": 1})


def bare(tex: str) -> str:
    r"""Return a formula for use between dollars, on one line, without comments, labels and numbers.

    An `equation` loses its environment; an `align` becomes an `aligned`.
    """
    code = _COMMENT.sub(lambda match: match[1] or "", tex)  # on one line a comment would hide the rest
    plain = re.sub(r"\s+", " ", _LABEL.sub("", code)).strip()
    plain = _ENVIRONMENT.sub(
        lambda match: f"\\{match[1]}{{{_INNER.get(match[2], 'aligned')}}}" + " " * (match[2] != "alignat"), plain
    ).strip()
    return re.sub(r"\\(?:begin|end) ?\{(?:equation|displaymath)\*?\}", "", plain).strip()


def _read(text: str, format: str, options: list[str], seconds: float) -> Tree:
    command = [_program(), "--sandbox", f"--from={_FORMATS[format]}", "--to=json", "--verbose", *options]
    with as_file(files("datagen.markdown") / "data") as folder:
        command += [f"--data-dir={folder}", "+RTS", f"-M{_HEAP_MB}m", "-RTS"]  # without a user's own defaults
        try:
            done = subprocess.run(
                command, input=text.encode(errors="replace"), capture_output=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise ConvertError("timeout", f"pandoc: no result after {seconds:g} s") from None
    complaints = done.stderr.decode(errors="replace")
    if done.returncode:
        lines = [line for line in complaints.splitlines() if line.strip() and not line.startswith(("[", " "))]
        reason = _REASONS.get(done.returncode, "converter")
        raise ConvertError(reason, f"pandoc: {' '.join(lines)[:200]}" if lines else f"status {done.returncode}")
    tree = json.loads(done.stdout)
    skipped = set(re.findall(r"^\[INFO\] Skipped '(.*?)'? at ", complaints, re.MULTILINE))
    return Tree(
        meta=tree["meta"],
        blocks=tree["blocks"],
        notes=Counter(
            "skipped_pictures" if "tikzpicture" in what or "pspicture" in what else "skipped_commands"
            for what in skipped
            if what.startswith("\\")
        ),
    )


@cache
def _program() -> str:
    import pypandoc  # noqa: PLC0415  # its wheel brings the program

    return str(Path(pypandoc.get_pandoc_path()))
