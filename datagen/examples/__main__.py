"""`python -m datagen.examples --out examples/`."""

from __future__ import annotations

import argparse
from pathlib import Path

from datagen.examples import write_chats, write_detection, write_documents
from varyforge.console import say
from varyforge.errors import command


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m datagen.examples",
        description="Writes sample inputs: pdf/*.pdf, detection/instances.json with images/, chat/alpaca.json.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""example:
  python -m datagen.examples --out examples/
  python -m datagen.pdf examples/pdf --out shards/pdf""",
    )
    made.add_argument("--out", required=True, type=Path, help="folder; files of the same names are replaced")
    made.add_argument("--documents", type=int, default=40, help="PDFs (%(default)s)")
    made.add_argument("--images", type=int, default=60, help="images with boxes (%(default)s)")
    made.add_argument("--chats", type=int, default=120, help="instructions with answers (%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="another seed, other content (%(default)s)")
    return made


@command
def main() -> None:
    """Parses the command line and writes the files."""
    given = parser().parse_args()
    documents = write_documents(given.out / "pdf", documents=given.documents, seed=given.seed)
    say(f"{len(documents)} documents: {given.out / 'pdf'}")
    say(f"{given.images} images: {write_detection(given.out / 'detection', images=given.images, seed=given.seed)}")
    say(f"{given.chats} chats: {write_chats(given.out / 'chat', chats=given.chats, seed=given.seed)}")


if __name__ == "__main__":
    main()
