"""The source of referring samples: "Detect an object: the left woman." → its box, and the reverse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

from typing_extensions import override

from datagen.image_source import BoxedImageSource, exchange
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.listing import list_files, name_of, within
from datagen.inputs.plain_pickle import load_plain_pickle
from datagen.referring.references import Reference, read_lines, read_refcoco
from datagen.source import Unit
from varyforge.boxes import Box, Convention, clipped_box, format_box, ordered
from varyforge.errors import UserError
from varyforge.external.conversations import digest
from varyforge.images import Picture
from varyforge.language import language_of
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import Image, Sample, make_key
from varyforge.storage import folder_at

MAX_PHRASE_CHARS = 500  # a longer text hardly names one object
_INSTANCES = "instances.json"
_STOPS = ".。!！?？,，、;；:："  # prompts end with their own


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferringSource(BoxedImageSource):
    """RefCOCO, RefCOCO+ and RefCOCOg, and own data as JSON Lines.

    An object is a unit, and each of its phrases is a sample (two with `reverse=also`). A prompt is in the language of
    its phrase, or in `language` if the phrase's language is unknown.
    """

    refs: list[str] = field(default_factory=list)  # published folders with refs(….p) and instances.json
    jsonl: list[str] = field(default_factory=list)  # files, or folders of *.jsonl files
    split_by: list[str] = field(default_factory=list)  # choice if a folder has several refs: "unc", "google", "umd"
    splits: list[str] = field(default_factory=lambda: ["train"])  # splits of the data set to take
    convention: Literal[Convention, ""] = ""  # meaning of the numbers of a bbox in JSON Lines
    reverse: Literal["none", "also", "only"] = "none"  # box → phrase

    name = "referring"
    locations = ("refs", "jsonl", "images", "guard")
    prompt_lists = ("referring_phrase", "referring_box")

    def __post_init__(self) -> None:
        BoxedImageSource.__post_init__(self)
        if self.jsonl and not self.convention:
            known = ", ".join(get_args(Convention))
            raise ValueError(f"--jsonl needs convention=…, the meaning of the four numbers of a bbox: one of {known}")

    @override
    def inputs(self) -> Iterator[str]:
        """Yield the input files. instances.json is an input without units, so that a change is noticed."""
        if not self.refs and not self.jsonl:
            raise UserError("nothing to read; give --refs or --jsonl")
        self.check_folder()
        for folder in self.refs:
            yield within(folder, self._refs_file(folder))
            yield within(folder, _INSTANCES)
        yield from list_files(self.jsonl, ".jsonl")

    def _refs_file(self, folder: str) -> str:
        content = folder_at(folder)
        names = [name for name in content.names(".p") if name.startswith("refs(")]
        if not names or _INSTANCES not in content.names(".json"):
            raise UserError(f"{folder}: no folder with refs(….p) and {_INSTANCES} (--refs)")
        allowed = [f"refs({name}).p" for name in self.split_by]
        chosen = [name for name in names if name in allowed or not allowed]
        if len(chosen) != 1:
            tag = names[0].removeprefix("refs(").removesuffix(").p")
            raise UserError(f"{folder} has {', '.join(names)}: choose one with split_by, such as split_by=[{tag}]")
        return chosen[0]

    @override
    def document(self, path: str) -> str:
        return "/".join(path.split("/")[-2:]) if self._is_published(path) else name_of(path, self.jsonl)

    def _is_published(self, path: str) -> bool:
        """Return whether an input is one of RefCOCO's two files rather than JSON Lines."""
        prefixes = [within(folder, start) for folder in self.refs for start in ("refs(", _INSTANCES)]
        return path.startswith(tuple(prefixes))

    @override
    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        """Return one unit per object of RefCOCO or per line."""
        if not self._is_published(path):
            return self._units_of_lines(path, file)
        folder, _, name = path.rpartition("/")
        if name == _INSTANCES:
            return []
        try:
            read = read_refcoco(load_plain_pickle(file), folder_at(folder).read(_INSTANCES))
        except ValueError as error:
            return Failed(reason="wrong_form", detail=str(error))
        return (self._unit(f"{self.document(path)}#{number:06d}", reference) for number, reference in read)

    def _units_of_lines(self, path: str, file: str) -> Iterator[Unit]:
        with Path(file).open("rb") as lines:
            read = read_lines(lines, self.convention)  # type: ignore[arg-type]  # checked to be set
            yield from (self._unit(f"{self.document(path)}#{number:06d}", reference) for number, reference in read)

    def _unit(self, name: str, reference: Reference | Failed) -> Unit:
        if isinstance(reference, Failed):
            return Unit(id=name, document=name, content=name, verdict=reference)
        phrases, notes = _distinct(reference.phrases)
        verdict = None
        if reference.split and reference.split not in self.splits:
            verdict = Rejected(gate="split", value=0, threshold=1, detail=f"split {reference.split!r}")
        elif not phrases:
            detail = ", ".join(f"{name}: {count}" for name, count in notes.items())
            verdict = Rejected(gate="phrases", value=0, threshold=1, detail=detail)
        document = document_of_image(reference.image)
        content = digest(document, reference.box, reference.convention, reference.size, sorted(phrases))
        return Unit(
            id=name,
            document=document,
            content=f"{verdict.gate} {name}" if verdict else content,  # a rejected unit makes no other unit a duplicate
            files=(self.location_of(reference.image),),
            payload=asdict(reference) | {"phrases": phrases, "notes": notes},
            verdict=verdict,
        )

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Check the image and pair each phrase with the box."""
        about = unit.payload
        picture = self.read(unit, files)
        if not isinstance(picture, Picture):
            return picture
        drawn_on = self.drawn_on(picture, about["size"])
        if isinstance(drawn_on, Failed):
            return drawn_on
        (width, height), orientation = drawn_on
        box, clipped = clipped_box(about["box"], about["convention"], width=width, height=height)
        if box is None:
            numbers = ", ".join(f"{number:g}" for number in about["box"])
            detail = f"{about['convention']} {numbers} in {width}x{height} px is less than a bin wide or high"
            return Rejected(gate="box", value=0, threshold=1, detail=detail)
        swapped = ordered(about["box"], about["convention"]) != tuple(about["box"])
        box = box.upright(orientation)
        ways = {"none": (False,), "also": (False, True), "only": (True,)}[self.reverse]
        samples = [self._sample(unit, picture.image, phrase, box, way) for phrase in about["phrases"] for way in ways]
        notes = (
            Counter(about["notes"]) + picture.changes + Counter(clipped_boxes=int(clipped), swapped_boxes=int(swapped))
        )
        return Written(samples=tuple(samples), notes=notes, language=str(samples[0].origin["language"]))

    def _sample(self, unit: Unit, image: Image, phrase: str, box: Box, reverse: bool) -> Sample:
        language, written = language_of(phrase) or self.language, format_box(box)
        key = make_key(self.name, unit.content, phrase, "reverse" if reverse else "")
        prompt = (
            choose("referring_box", language, key, box=written)
            if reverse
            else choose("referring_phrase", language, key, phrase=phrase)
        )
        split = {"published_split": unit.payload["split"]} if unit.payload["split"] else {}
        return exchange(
            key=key,
            task="referring",
            question=prompt.text,
            answer=phrase if reverse else written,
            image=image,
            source=self.name,
            origin={
                **unit.payload["origin"],
                **split,
                "document": unit.document,
                "language": language,
                "prompt": prompt.name,
                "boxes": 1,
            },
        )


def _distinct(phrases: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """Return usable phrases in order, each once, and counts of dropped phrases by reason."""
    distinct: dict[str, None] = {}
    notes: Counter[str] = Counter()
    for phrase in phrases:
        clean = clean_phrase(phrase)
        if not clean:
            notes["empty_phrases"] += 1
        elif len(clean) > MAX_PHRASE_CHARS:
            notes["long_phrases"] += 1
        elif clean in distinct:
            notes["repeated_phrases"] += 1
        else:
            distinct[clean] = None
    return list(distinct), dict(notes)


def clean_phrase(text: str) -> str:
    """Return a phrase that fits into a sentence, on one line and without punctuation at its end."""
    return " ".join(text.split()).rstrip(_STOPS + " ")
