"""The source of LaTeX projects and Markdown files: each document becomes typeset pages with their Markdown."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from datagen.image_source import exchange
from datagen.inputs.listing import list_files, name_of
from datagen.markdown.latex import Flat, flatten, is_root
from datagen.markdown.project import Archive, DocumentError, Folder, Project, ProjectError, open_archive, read_file
from datagen.source import SourceSettings, Unit
from varyforge.files import sha256_file
from varyforge.images import check_jpeg_quality, encode_jpeg
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import Sample, Scalar, make_key
from varyforge.storage import is_url

if TYPE_CHECKING:
    from datagen.markdown.render import RenderedPage

POLICY_VERSION = 3
"""Raised when the rules for pages and Markdown change. Templates have a digest of their own."""

_MARKDOWN = (".md", ".markdown")
_ARCHIVES = (".tar.gz", ".tgz", ".gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkdownSource(SourceSettings):
    """A source of documents that are typeset anew. A sample is a page's picture and, as the answer, its Markdown.

    A unit is a document, with a sample per page.
    """

    paths: list[str]  # such files, or folders and URLs searched for *.tex, *.tar.gz, *.tgz, *.gz, *.md, *.markdown
    short_side_px: int = 1024  # the model sees 1024 x 1024
    jpeg_quality: int = 90
    max_pages: int = 100  # of a document; further pages are counted
    converter_s: float = 30.0  # wall clock for pandoc; must be below the unit's deadline

    name = "markdown"
    prompt_lists = ("markdown",)
    measures = ("pages", "agreement")

    def __post_init__(self) -> None:
        SourceSettings.__post_init__(self)
        check_jpeg_quality(self.jpeg_quality)
        if self.short_side_px < 1:
            raise ValueError(f"short_side_px is 1 or more, not {self.short_side_px}")
        if self.max_pages < 1 or not self.converter_s > 0:
            raise ValueError("needs max_pages of 1 or more and converter_s above 0")

    @property
    @override
    def versions(self) -> dict[str, str]:
        from importlib.metadata import version  # noqa: PLC0415  # children import this module and need no versions

        from datagen.markdown.page_templates import digest  # noqa: PLC0415

        packages = ("pypandoc_binary", "typst", "pymupdf", "matplotlib")  # the last for its fonts
        return {
            "markdown policy": str(POLICY_VERSION),
            "templates": digest(),
            **{name: version(name) for name in packages},
        }

    @override
    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        if measures["pages"] < 1:
            return Rejected(gate="pages", value=measures["pages"], threshold=1, detail="no page passed the audit")
        return None

    @override
    def inputs(self) -> Iterator[str]:
        """List all *.tex; a file that is not a main file gives no unit."""
        return list_files(self.paths, ".tex", *_ARCHIVES, *_MARKDOWN)

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.paths)

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        """Return the text files of the project that a LaTeX file belongs to."""
        is_local_tex = path.lower().endswith(".tex") and not is_url(path)
        return [other for other in Folder(Path(path).parent).texts() if other != path] if is_local_tex else ()

    @override
    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        """Return one unit per document: a Markdown file, a main file of LaTeX, or each main file of an archive."""
        name = self.document(path)
        if path.lower().endswith(_MARKDOWN):
            content = sha256_file(Path(file))
            return [Unit(id=name, document=name, content=content, files=(path,), payload={"form": "markdown"})]
        try:
            project, roots = _project(path, file)
            flats = [(root, flatten(_around(project, root), root)) for root in roots]
        except ProjectError as error:
            return Failed(reason=error.reason, detail=str(error))
        return [
            Unit(
                id=name if len(flats) == 1 else f"{name}#{root}",
                document=name,
                content=hashlib.sha256(f"{flat.text}\x1f{flat.bibliography}".encode()).hexdigest(),
                files=(path,),
                payload={"form": "latex", "root": root},
            )
            for root, flat in flats
        ]

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Typeset a document and return its pages as samples."""
        from datagen.markdown import render  # noqa: PLC0415  # only children load the compiler and the PDF library

        try:
            document = render.make(
                _flat(unit, files[0]),
                unit.payload["form"],
                content=unit.content,
                max_pages=self.max_pages,
                short_side_px=self.short_side_px,
                converter_s=self.converter_s,
            )
        except DocumentError as error:
            return Failed(reason=error.reason, detail=str(error))
        except RecursionError:
            return Failed(reason="too_deep", detail="lists, quotes or brackets are nested too deeply")
        language, measures = document.language, document.measures
        rejected = self.judge(measures, language)
        if rejected:
            return replace(rejected, language=language, measures=measures)
        samples = tuple(self._sample(unit, page, document.template) for page in document.pages)
        return Written(samples=samples, notes=document.notes, language=language, measures=measures)

    def _sample(self, unit: Unit, page: RenderedPage, template: str) -> Sample:
        key = make_key(self.name, unit.content, page.number)
        prompt = choose("markdown", page.language, key)
        origin: dict[str, Scalar] = {"document": unit.document, "page": page.number, "template": template}
        return exchange(
            key=key,
            task="markdown",
            question=prompt.text,
            answer=page.markdown,
            image=encode_jpeg(page.picture, self.jpeg_quality),
            source=self.name,
            origin=origin | {"language": page.language, "prompt": prompt.name},
        )


def _project(path: str, file: str) -> tuple[Project, list[str]]:
    """Return the project that an input belongs to, and the names of its main files."""
    if path.lower().endswith(".tex"):
        folder, name = Folder(Path(file).parent), Path(file).name
        return folder, [name] if is_root(folder.read(name) or "") else []
    archive = open_archive(Path(file))
    texts = (name for name in archive.names() if name.lower().endswith((".tex", ".ltx")))
    roots = [name for name in texts if is_root(archive.read(name) or "")]
    if not roots:
        raise ProjectError("not_latex", "no file with a \\documentclass")
    return archive, roots


def _flat(unit: Unit, file: str) -> Flat:
    if unit.payload["form"] == "markdown":
        return Flat(text=read_file(Path(file)))
    project, _ = _project(unit.files[0], file)
    return flatten(_around(project, unit.payload["root"]), unit.payload["root"])


def _around(project: Project, root: str) -> Project:
    """Return the project as its main file sees it: names are relative to the main file's folder."""
    return replace(project, folder=posixpath.dirname(root)) if isinstance(project, Archive) else project
