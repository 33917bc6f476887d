"""`python -m datagen.examples --out examples/`."""

from __future__ import annotations

import argparse
from pathlib import Path

from datagen.examples.chats import write_chats
from datagen.examples.documents import write_documents
from datagen.examples.shapes import write_detection
from varyforge.commands import program
from varyforge.console import say
from varyforge.errors import command

parser = argparse.ArgumentParser(
    prog=program("datagen.examples"),
    description="Writes sample inputs: pdf/*.pdf, detection/instances.json with images/, chat/alpaca.json.",
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="""example:
  python -m datagen.examples --out examples/
  python -m datagen.pdf examples/pdf --out shards/pdf""",
)
parser.add_argument("--out", required=True, type=Path, help="folder; files of the same names are replaced")
parser.add_argument("--documents", type=int, default=40, help="PDFs (%(default)s)")
parser.add_argument("--images", type=int, default=60, help="images with boxes (%(default)s)")
parser.add_argument("--chats", type=int, default=120, help="instructions with answers (%(default)s)")
parser.add_argument("--seed", type=int, default=0, help="another seed gives other content (%(default)s)")


@command
def main() -> None:
    """Parse the command line and write the files."""
    arguments = parser.parse_args()
    documents = write_documents(arguments.out / "pdf", documents=arguments.documents, seed=arguments.seed)
    say(f"{len(documents)} documents: {arguments.out / 'pdf'}")
    detection = write_detection(arguments.out / "detection", images=arguments.images, seed=arguments.seed)
    say(f"{arguments.images} images: {detection}")
    say(f"{arguments.chats} chats: {write_chats(arguments.out / 'chat', chats=arguments.chats, seed=arguments.seed)}")


if __name__ == "__main__":
    main()
