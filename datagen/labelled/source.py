"""The source of pages with labels of the user's own: a text or JSON file of the same name beside each page."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from typing_extensions import override

from datagen.guard.guard import guard_version
from datagen.image_source import exchange
from datagen.inputs.listing import list_files
from datagen.labelled.label_file import ENDINGS, MAX_BYTES, canonical, decoded, fields_of, pages_of
from datagen.scan.pages import ENDINGS as PAGES
from datagen.scan.pages import PageSource
from datagen.source import Unit
from varyforge.external.conversations import digest
from varyforge.language import language_of
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import Prompt, choose
from varyforge.sample import Task, make_key
from varyforge.storage import folder_at

_TASKS: Mapping[str, Task] = {".txt": "ocr", ".md": "markdown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelGates:
    """The filters on labels, in characters of the label of a page."""

    min_chars: int = 1
    max_chars: int = 20_000  # more than any model's context holds

    def __post_init__(self) -> None:
        if not 1 <= self.min_chars <= self.max_chars:
            raise ValueError("needs 1 <= min_chars <= max_chars")


class _Exchange(NamedTuple):
    """A question about a page, and its answer."""

    task: Task
    prompt: Prompt
    answer: str
    language: str
    origin: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSource(PageSource):
    """Pages with own labels: text is the answer of an OCR sample, JSON is an answer or gives a question per key."""

    ask: Literal["all", "keys"] = "all"  # JSON: for the whole of it, or for the value of each key
    gates: LabelGates = field(default_factory=LabelGates)

    name = "labelled"
    locations = ("paths", "images", "guard")
    prompt_lists = ("ocr", "markdown", "fields", "field")
    measures = ("chars",)

    def __post_init__(self) -> None:
        PageSource.__post_init__(self)
        if self.ask not in ("all", "keys"):
            raise ValueError(f"ask is {self.ask!r}, expected one of 'all', 'keys'")

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        return {**self.pdf.versions, **guard_version(self.guard)}

    @override
    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        chars = measures["chars"]
        if chars < self.gates.min_chars:
            return Rejected(gate="min_chars", value=chars, threshold=self.gates.min_chars)
        if chars > self.gates.max_chars:
            return Rejected(gate="max_chars", value=chars, threshold=self.gates.max_chars)
        return None

    @override
    def inputs(self) -> Iterator[str]:
        """Yield all pages, and the labels that have no page beside them."""
        files = list(list_files(self.paths, *PAGES, *ENDINGS))
        named = {posixpath.splitext(path)[0] for path in files if path.lower().endswith(PAGES)}
        return (path for path in files if path.lower().endswith(PAGES) or posixpath.splitext(path)[0] not in named)

    @override
    def companion_files(self, path: str) -> Sequence[str]:
        """Return the labels beside a page; one is expected."""
        folder, name = posixpath.split(path)
        stem, beside = posixpath.splitext(name)[0], folder_at(folder)
        names = (stem + ending for each in ENDINGS for ending in (each, each.upper()))
        return [posixpath.join(folder, name) for name in names if beside.size(name) is not None]

    @override
    def units(self, path: str, file: str) -> Iterator[Unit] | Failed:
        if path.lower().endswith(ENDINGS):
            return Failed(reason="missing_image", detail=f"no page ({', '.join(PAGES)}) of this name beside the label")
        labels = self.companion_files(path)
        if not labels:
            return Failed(reason="missing_label", detail=f"no label ({', '.join(ENDINGS)}) of this name beside it")
        if len(labels) > 1:
            names = ", ".join(map(posixpath.basename, labels))
            return Failed(reason="wrong_form", detail=f"more than one label: {names}; keep one")
        folder, name = posixpath.split(labels[0])
        with folder_at(folder).open(name) as label:
            text = decoded(label.read(MAX_BYTES + 1))
        pages = self.pages(path, file)
        return pages if isinstance(pages, Failed) else self._labelled(pages, posixpath.splitext(name)[1].lower(), text)

    def _labelled(self, pages: Sequence[Unit], ending: str, text: str) -> Iterator[Unit]:
        """Yield each page with its part of the label, or one rejected unit where these cannot be matched."""
        parts = [canonical(text)] if ending == ".json" else pages_of(text, len(pages))
        if len(parts) != len(pages):
            detail = f"a label of {len(parts)} pages for {len(pages)} pages"
            if ending != ".json":
                detail += "; write a form feed between the pages of the text"
            refused = Rejected(gate="pages", value=len(parts), threshold=len(pages), detail=detail)
            document = pages[0].document
            yield Unit(id=document, document=document, content=pages[0].content, verdict=refused)
            return
        for page, part in zip(pages, parts, strict=True):
            payload = {**page.payload, "ending": ending, "label": part}
            yield replace(page, content=f"{page.content}#{digest(ending, part)[:24]}", payload=payload)

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        label = unit.payload["label"]
        measures = {"chars": float(len(label))}
        if refused := self.judge(measures, ""):
            return replace(refused, measures=measures)
        page = self.page(unit, files)
        if not isinstance(page, tuple):
            return page
        notes: Counter[str] = Counter()
        exchanges = self._exchanges(unit, label, notes)
        if not exchanges:
            detail = "every value is empty or null"
            return Rejected(gate="questions", value=0, threshold=1, detail=detail, measures=measures)
        samples = tuple(
            exchange(
                key=make_key(self.name, unit.content, number),
                task=one.task,
                question=one.prompt.text,
                answer=one.answer,
                image=page[0].image,
                source=self.name,
                origin={
                    "document": unit.document,
                    "page": unit.payload["page"],
                    "language": one.language,
                    "prompt": one.prompt.name,
                    **one.origin,
                },
            )
            for number, one in enumerate(exchanges)
        )
        return Written(
            samples=samples, notes=+(notes + page[0].changes), language=exchanges[0].language, measures=measures
        )

    def _exchanges(self, unit: Unit, label: str, notes: Counter[str]) -> list[_Exchange]:
        language = language_of(label)
        task = _TASKS.get(unit.payload["ending"])
        if task:
            prompt = choose(task, language or self.language, make_key(self.name, unit.content, 0))
            return [_Exchange(task, prompt, label, language, {})]
        if self.ask == "all":
            prompt = choose("fields", language or self.language, make_key(self.name, unit.content, 0))
            return [_Exchange("instruct", prompt, label, language, {})]
        fields = fields_of(label)
        answered = [(key, value) for key, value in fields if key.strip() and value]
        notes["unanswered_questions"] += len(fields) - len(answered)
        exchanges = []
        for number, (key, value) in enumerate(answered):
            prompt = choose("field", language or self.language, make_key(self.name, unit.content, number), field=key)
            origin = {"question": key, "answers": json.dumps([value], ensure_ascii=False)}
            exchanges.append(_Exchange("vqa", prompt, value, language, origin))
        return exchanges
