"""The table of sources, and how to get one back from what it made."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from datagen.job.isolate import Child, Limits
from datagen.job.scan import find_unit
from datagen.source import Source
from varyforge.config import load
from varyforge.errors import UserError
from varyforge.outcome import Failed
from varyforge.sample import Image
from varyforge.shards import read_job
from varyforge.storage import Copies, folder_at

SOURCES = {
    "pdf": "datagen.pdf.source.PdfSource",
    "markdown": "datagen.markdown.source.MarkdownSource",
    "detection": "datagen.detection.source.DetectionSource",
    "referring": "datagen.referring.source.ReferringSource",
    "caption": "datagen.caption.source.CaptionSource",
    "chat": "datagen.chat.source.ChatSource",
    "vqa": "datagen.vqa.source.VqaSource",
    "chart": "datagen.chart.source.ChartSource",
}
"""By the name that shard sets carry; imported when needed, since each has libraries of its own."""


def source_of(job: dict[str, Any]) -> Source:
    """The source that a shard set was made from, with its settings, from its job.json.

    Raises:
        UserError: this version has no such source, or not with these settings.
    """
    name = str(job["source"])
    if name not in SOURCES:
        raise UserError(f"no source {name!r}; there are {', '.join(SOURCES)}")
    module, _, kind = SOURCES[name].rpartition(".")
    schema = getattr(import_module(module), kind)
    return cast(Source, load(schema, None, inputs=job["config"]["settings"] | job["inputs"]))


def picture_of(place: str, unit_id: str) -> bytes | str:
    """What a person sees of a unit from which nothing was written, made from its input again.

    Returns:
        An encoded image, or in one line why there is none.

    Raises:
        UserError: there is no shard set.
    """
    folder = folder_at(place)
    unit = find_unit(folder, unit_id)
    if unit is None:
        return "the unit is in no plan file"
    if not unit.files and not unit.payload:
        return "the unit has no file"
    source = source_of(read_job(folder))
    try:
        with Copies() as copies, Child(source, Limits()) as child:
            picture = child.picture(unit, copies.of(unit.files))
    except OSError as error:
        return f"its file cannot be read: {error}"
    if isinstance(picture, Failed):
        return f"{picture.reason}: {picture.detail}"
    return picture.data if isinstance(picture, Image) else "nothing to see in a unit of this kind"
