"""The contract between the packages, and what a program needs of it: open a shard set, iterate samples, parse boxes.

from varyforge import open_set
for sample in open_set("shards/pdf").samples(split="train"):
    print(sample.key, sample.answer)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from varyforge.boxes import Box, LabelledBox, format_boxes, parse_boxes
    from varyforge.errors import UserError
    from varyforge.sample import Image, Sample, Turn
    from varyforge.shards import ShardSet, open_set

__all__ = [
    "Box",
    "Image",
    "LabelledBox",
    "Sample",
    "ShardSet",
    "Turn",
    "UserError",
    "format_boxes",
    "open_set",
    "parse_boxes",
]
_MODULES = {  # of the names that are not in `boxes`
    **dict.fromkeys(("Image", "Sample", "Turn"), "sample"),
    **dict.fromkeys(("ShardSet", "open_set"), "shards"),
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: pyarrow and numpy take half a second."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"varyforge.{_MODULES.get(name, 'boxes')}"), name)


def __dir__() -> list[str]:
    return __all__
