"""The table of sources, and the way back from a shard set to its source."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from datagen.job.isolate import Child, Limits
from datagen.job.scan import find_unit
from datagen.source import Source, UnitView
from varyforge.config import load
from varyforge.errors import UserError
from varyforge.outcome import Failed
from varyforge.shards import read_job
from varyforge.storage import Fetcher, folder_at

SOURCES = {
    "pdf": "datagen.pdf.source.PdfSource",
    "scan": "datagen.scan.source.ScanSource",
    "labelled": "datagen.labelled.source.LabelledSource",
    "markdown": "datagen.markdown.source.MarkdownSource",
    "detection": "datagen.detection.source.DetectionSource",
    "referring": "datagen.referring.source.ReferringSource",
    "caption": "datagen.caption.source.CaptionSource",
    "chat": "datagen.chat.source.ChatSource",
    "vqa": "datagen.vqa.source.VqaSource",
    "chart": "datagen.chart.source.ChartSource",
}
"""Name in job.json → class, which is imported when needed, since each source has libraries of its own."""


def source_of(job: dict[str, Any]) -> Source:
    """Return the source of a shard set, with its settings, from the set's job.json.

    Raises:
        UserError: this version has no such source, or none with these settings.
    """
    name = str(job["source"])
    if name not in SOURCES:
        raise UserError(f"no source {name!r}; there are {', '.join(SOURCES)}")
    module, _, kind = SOURCES[name].rpartition(".")
    schema = getattr(import_module(module), kind)
    return cast(Source, load(schema, None, inputs=job["config"]["settings"] | job["inputs"]))


def view_of(location: str, unit_id: str) -> UnitView | str:
    """Make picture and text of a unit of the set at `location` that gave no sample, from its input.

    Returns:
        A view with a picture, or the reason for none as one line.

    Raises:
        UserError: job.json is missing or broken, or names no source of this version.
    """
    folder = folder_at(location)
    unit = find_unit(folder, unit_id)
    if unit is None:
        return "the unit is in no plan file"
    if not unit.files and not unit.payload:
        return "the unit has no file"
    source = source_of(read_job(folder))
    try:
        with Fetcher() as copies, Child(source, Limits()) as child:
            view = child.view(unit, copies.local_paths(unit.files))
    except OSError as error:
        return f"its file cannot be read: {error}"
    if isinstance(view, Failed):
        return f"{view.reason}: {view.detail}"
    return view if view.picture else "nothing to see in a unit of this kind"
