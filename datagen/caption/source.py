"""The source of caption samples from published images with captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from typing_extensions import override

from datagen.caption.coco import read_coco
from datagen.caption.llava import read_llava
from datagen.caption.record import CaptionRecord
from datagen.caption.tables import ENDINGS, Columns, read_table
from datagen.caption.tars import read_tar
from datagen.guard.guard import guard_version
from datagen.image_source import ImageSource, exchange
from datagen.inputs.embedded import Located, block_of
from datagen.inputs.listing import name_of
from datagen.inputs.record import failed_record, image_key
from datagen.inputs.record_files import check_splits, list_record_files
from datagen.source import Unit
from varyforge.errors import UserError, WrongFormat
from varyforge.external.captions import POLICY_VERSION, clean
from varyforge.external.conversations import digest
from varyforge.images import Picture
from varyforge.language import language_of
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import choose
from varyforge.sample import Image, Sample, make_key
from varyforge.storage import piece_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionGates:
    """The filters on images with captions. An image with several captions is judged by the worst caption."""

    min_chars: int = 3
    max_chars: int = 1000
    min_side_px: int = 64
    max_aspect: float = 8.0  # long side ÷ short side; a longer banner would be tiny in a square view

    def __post_init__(self) -> None:
        if not (1 <= self.min_chars <= self.max_chars and self.max_aspect >= 1):
            raise ValueError("needs 1 <= min_chars <= max_chars and max_aspect of 1 or more")


_GATES = {  # the measure of each gate, in the order of judgement
    "min_chars": "shortest_chars",
    "max_chars": "longest_chars",
    "min_side_px": "short_side_px",
    "max_aspect": "aspect",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSource(ImageSource):
    """Published images with captions, one sample per caption (Vary-toy, arXiv 2401.12503, Table 1)."""

    paths: list[str]  # files in the format `form`, or folders or URLs of them
    form: Literal["tars", "llava", "coco", "table"] = "tars"
    caption_key: str = ""  # tars: caption's key in KEY.json, such as top_caption; "": caption in KEY.txt
    image_column: str = "image"  # table
    caption_column: str = ""  # table; "": caption, or else text
    splits: list[str] = field(default_factory=lambda: ["train"])  # of Parquet files that name one
    captions_per_image: int = 0  # take the first so many; 0: all
    gates: CaptionGates = field(default_factory=CaptionGates)

    name = "caption"
    locations = ("paths", "images", "guard")
    prompt_lists = ("caption",)
    measures = tuple(_GATES.values())

    def __post_init__(self) -> None:
        ImageSource.__post_init__(self)
        if self.form not in FORMATS:
            raise ValueError(f"form is {self.form!r}, expected one of {', '.join(FORMATS)}")
        check_splits(self.splits)
        if self.captions_per_image < 0:
            raise ValueError("needs captions_per_image of 0 (all) or more")

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        return {"caption policy": str(POLICY_VERSION), **guard_version(self.guard)}

    @override
    def judge(self, measures: Mapping[str, float], language: str) -> Rejected | None:
        for gate, name in _GATES.items():
            value, threshold = measures[name], getattr(self.gates, gate)
            if value < threshold if gate.startswith("min_") else value > threshold:
                return Rejected(gate=gate, value=value, threshold=threshold)
        return None

    @override
    def inputs(self) -> Iterator[str]:
        if self.form == "tars" and self.images:
            raise UserError("tars contain their images; leave out --images")
        if self.form == "coco" and not self.images:
            raise UserError("--coco needs the folder of the images; give --images FOLDER")
        if self.images:
            self.check_folder()
        return list_record_files(self.paths, self.splits, FORMATS[self.form].endings)

    @override
    def document(self, path: str) -> str:
        return name_of(path, self.paths)

    @override
    def units(self, path: str, file: str) -> Iterable[Unit] | Failed:
        try:
            records = FORMATS[self.form].read(self, file)
        except ValueError as error:
            return Failed(reason="wrong_form", detail=" ".join(str(error).split())[:200])
        return (self._unit(path, record) for record in records)

    def _unit(self, path: str, record: CaptionRecord) -> Unit:
        name = f"{self.document(path)}/{record.name}"
        document = record.document or name
        if record.failure:
            return Unit(id=name, document=document, content=name, verdict=record.failure)
        if record.piece:
            image = record.content or f"{name}#{record.piece[1]}"
            located = Located((piece_of(path, *record.piece),), {})
        else:
            image = image_key(record.image)
            try:
                located = self.locate(path, [record.image])
            except WrongFormat as error:
                return failed_record(name, error)
        return Unit(
            id=name,
            document=document,
            content=f"{image}#{digest(*record.captions)[:24]}",
            files=located.files,
            payload={"captions": record.captions, "origin": record.origin, "notes": record.notes, **located.payload},
            block=block_of(self.document(path), [record.image]),
        )

    @override
    def make(self, unit: Unit, files: Sequence[str]) -> Outcome:
        """Check the image and clean its captions. Each caption becomes the answer of one sample."""
        about = unit.payload
        picture = self.read(unit, files)
        if not isinstance(picture, Picture):
            return picture
        if not about["captions"]:
            return Failed(reason="missing_caption", detail="nothing is said about this image")
        captions, notes = clean(about["captions"])
        if notes["missing_captions"] and not captions:
            return Failed(
                reason="missing_caption", detail=f"the caption is {about['captions'][0]!r:.40}, a missing value"
            )
        lengths = [len(caption) for caption in captions] or [0]
        sides = sorted(picture.seen)
        measures = {
            "shortest_chars": float(min(lengths)),
            "longest_chars": float(max(lengths)),
            "short_side_px": float(sides[0]),
            "aspect": sides[1] / sides[0],
        }
        if refused := self.judge(measures, ""):
            return replace(refused, measures=measures)
        used = captions[: self.captions_per_image or None]
        notes.update(picture.changes)
        notes.update(about["notes"])
        notes["captions_beyond_the_first"] += len(captions) - len(used)
        samples = tuple(self._sample(unit, number, caption, picture.image) for number, caption in enumerate(used))
        language = str(samples[0].origin["language"])
        return Written(samples=samples, notes=+notes, language=language, measures=measures)

    def _sample(self, unit: Unit, number: int, caption: str, image: Image) -> Sample:
        key = make_key(self.name, unit.content, number)
        prompt = choose("caption", self.language, key)
        return exchange(
            key=key,
            task="caption",
            question=prompt.text,
            answer=caption,
            image=image,
            source=self.name,
            origin={
                "document": unit.document,
                **unit.payload["origin"],
                "language": language_of(caption),
                "prompt": prompt.name,
            },
        )


class _Format(NamedTuple):
    """A format in which captions are published."""

    endings: tuple[str, ...]  # file name endings
    read: Callable[[CaptionSource, str], Iterable[CaptionRecord]]  # ValueError: the file has another format
    help: str


FORMATS = {  # by the value of `CaptionSource.form`
    "tars": _Format((".tar",), lambda source, file: read_tar(file, source.caption_key), "img2dataset's tars"),
    "llava": _Format(
        (".json", ".parquet"), lambda source, file: read_llava(file), "LLaVA's blip_laion_cc_sbu_558k.json"
    ),
    "coco": _Format((".json",), lambda source, file: read_coco(file), "COCO's captions_train2017.json"),
    "table": _Format(
        ENDINGS,
        lambda source, file: read_table(file, Columns(source.image_column, source.caption_column)),
        f"tables of images, or their file names, and captions ({', '.join(ENDINGS)}) or folders of them",
    ),
}
FORMAT_OPTIONS = ("llava", "coco", "table")  # tars are positional arguments
