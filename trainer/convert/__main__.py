"""Brings released checkpoints into this project's form, and models of this form back under a release's names.

    python -m trainer.convert weights/Vary-toy models/vary_toy               # evaluate it, or `init: models/vary_toy`
    python -m trainer.convert weights/sam_vit_b_01ec64.pth models/sam        # a part: `weights: models/sam`
    python -m trainer.convert weights/opt-125m models/opt --positions 4096   # positions interpolated
    python -m trainer.convert models/vary_toy back --to release              # equal bytes in every tensor

The kind of SRC is told by the names of its tensors: the released Vary-toy, Vary (7B), Vary-tiny and Vary-tiny-600k, the
original SAM, and Hugging Face folders of CLIP, OPT and Qwen 1.5 or 2 (Qwen's first version too). Pickled files are read
as tensors only; nothing in them is run.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from trainer.convert.exporter import Release
from trainer.convert.importer import Import
from varyforge.console import say, show_table, warn
from varyforge.errors import UserError, command


def import_released(
    source: Path, folder: Path, *, positions: int | None, tokenizer: Path | None, dry_run: bool = False
) -> None:
    """Shows what was found in a released checkpoint and writes it to `folder` in our form."""
    found = Import(source, positions=positions, tokenizer_folder=tokenizer)
    columns = ("module", "loaded", "missing", "unexpected", "ignored", "random")
    rows = [(r.module, r.loaded, r.missing, r.unexpected, r.ignored, r.random) for r in found.reports]
    show_table(f"{source}: {found.kind.title}, tensors", columns, rows)
    if found.mapped.ignored:
        say(f"ignored buffers, which the model computes itself: {', '.join(sorted(found.mapped.ignored))}")
    found.check()
    if found.kind.language is not None and found.tokenizer is None:
        warn(f"{source}: has no tokenizer beside it; name a folder that has one with --tokenizer")
    if dry_run:
        return
    found.write(folder)
    size = sum(math.prod(shape) for shape in found.mapped.shapes.values())
    say(f"{folder}: {len(found.mapped.shapes)} tensors, {size:,} numbers, {', '.join(found.dtypes)}")


def write_released(model: Path, folder: Path) -> None:
    """Writes a model of ours under the names of its release."""
    found = Release(model)
    for line in found.warnings:
        warn(line)
    file = found.write(folder)
    say(f"{file}: {found.kind.title}, {len(found.mapped.pieces)} tensors")
    if not (folder / "config.json").is_file():
        say(f"{folder}: the release's code also wants its config.json and tokenizer there; copy them from the release")


@command
def main() -> int:
    """Parses the command line and converts."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SRC", help="a file or a folder of weights; with --to, our model")
    parser.add_argument("folder", type=Path, metavar="DST", help="folder to write; must not exist")
    parser.add_argument("--to", choices=["release"], help="back to the names of the release")
    parser.add_argument("--positions", type=int, metavar="N", help="interpolate OPT's table of positions to N")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="take the tokenizer from there, not from SRC")
    parser.add_argument("--dry-run", action="store_true", help="show what SRC has and write nothing")
    given = parser.parse_args()
    if given.to is not None:
        if given.positions is not None or given.tokenizer is not None or given.dry_run:
            raise UserError("--positions, --tokenizer and --dry-run are for importing, not for --to release")
        write_released(given.source, given.folder)
    else:
        options = {"positions": given.positions, "tokenizer": given.tokenizer, "dry_run": given.dry_run}
        import_released(given.source, given.folder, **options)
    return 0


if __name__ == "__main__":
    main()
