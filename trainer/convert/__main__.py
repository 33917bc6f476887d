"""Convert released checkpoints to this project's format, or a model in this format back to a release's names.

    python -m trainer.convert weights/Vary-toy models/vary_toy               # for `init: models/vary_toy`
    python -m trainer.convert weights/sam_vit_b_01ec64.pth models/sam        # a part, for `weights: models/sam`
    python -m trainer.convert weights/opt-125m models/opt --positions 4096   # positions interpolated
    python -m trainer.convert models/vary_toy back --to release              # equal bytes in every tensor

SRC is recognised by its tensor names as the released Vary-toy, Vary (7B), Vary-tiny or Vary-tiny-600k, the original
SAM, or a Hugging Face folder of CLIP, OPT, Qwen 1.5 or 2, or Qwen's first version. Of pickled files only tensors are
read and no code is run.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from trainer.convert.exporter import Release
from trainer.convert.importer import Import
from varyforge.commands import program
from varyforge.console import say, show_table, warn
from varyforge.errors import UserError, command


def import_released(
    source: Path, folder: Path, *, positions: int | None, tokenizer: Path | None, dry_run: bool = False
) -> None:
    """Print the modules of a released checkpoint and write the checkpoint to `folder` in this project's format."""
    release = Import(source, positions=positions, tokenizer_folder=tokenizer)
    columns = ("module", "loaded", "missing", "unexpected", "ignored", "random")
    rows = [(r.module, r.loaded, r.missing, r.unexpected, r.ignored, r.random) for r in release.reports]
    show_table(f"{source}: {release.kind.title}, tensors", columns, rows)
    if release.mapped.ignored:
        say(f"ignored buffers, which the model computes itself: {', '.join(sorted(release.mapped.ignored))}")
    release.check()
    if release.kind.language is not None and release.tokenizer is None:
        warn(f"{source}: has no tokenizer beside it; name a folder with one by --tokenizer")
    if dry_run:
        return
    release.write(folder)
    size = sum(math.prod(shape) for shape in release.mapped.shapes.values())
    dtypes = {release.source.dtypes[piece.name] for pieces in release.mapped.pieces.values() for piece in pieces}
    say(f"{folder}: {len(release.mapped.shapes)} tensors, {size:,} numbers, {', '.join(sorted(dtypes))}")


def write_released(model: Path, folder: Path) -> None:
    """Write a model in this project's format under the names of its release."""
    release = Release(model)
    for line in release.warnings:
        warn(line)
    file = release.write(folder)
    say(f"{file}: {release.kind.title}, {len(release.mapped.pieces)} tensors")
    if not (folder / "config.json").is_file():
        say(f"{folder}: the release's code also reads config.json and a tokenizer there; copy both from the release")


@command
def main() -> int:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(
        prog=program("trainer.convert"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = "file or folder of weights; with --to, a model of this project"
    parser.add_argument("source", type=Path, metavar="SRC", help=what)
    parser.add_argument("folder", type=Path, metavar="DST", help="folder to write, which must not exist")
    parser.add_argument("--to", choices=["release"], help="convert back to the names of the release")
    parser.add_argument("--positions", type=int, metavar="N", help="interpolate OPT's position embeddings to N")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="folder of the tokenizer, if not SRC")
    parser.add_argument("--dry-run", action="store_true", help="print the modules of SRC and write nothing")
    arguments = parser.parse_args()
    if arguments.to is not None:
        if arguments.positions is not None or arguments.tokenizer is not None or arguments.dry_run:
            raise UserError("--positions, --tokenizer and --dry-run are for importing, not for --to release")
        write_released(arguments.source, arguments.folder)
    else:
        options = {"positions": arguments.positions, "tokenizer": arguments.tokenizer, "dry_run": arguments.dry_run}
        import_released(arguments.source, arguments.folder, **options)
    return 0


if __name__ == "__main__":
    main()
