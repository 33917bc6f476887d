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

_MODULES = {
    "boxes": ("Box", "LabelledBox", "format_boxes", "parse_boxes"),
    "errors": ("UserError",),
    "sample": ("Image", "Sample", "Turn"),
    "shards": ("ShardSet", "open_set"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [  # noqa: PLE0604  # ruff does not see that the values are text
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: pyarrow and numpy take half a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"varyforge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
