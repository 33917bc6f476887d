"""The command line `python -m datagen.referring`."""

from __future__ import annotations

from datagen.cli import job_command, job_parser
from datagen.referring.source import ReferringSource

parser = job_parser(
    "datagen.referring",
    "Turns referring expressions into conversations: phrase → box, and box → phrase.",
    ReferringSource,
    examples="""
  python -m datagen.referring --refs refcoco refcoco+ --images train2014/ --out shards/refcoco split_by=[unc]
  python -m datagen.referring --jsonl own.jsonl --images photos/ --out shards/own convention=xyxy_px reverse=also""",
)
parser.add_argument("--refs", nargs="+", default=[], help="published folders with refs(….p) and instances.json")
parser.add_argument("--jsonl", nargs="+", default=[], help="files or folders; {image, phrase, bbox} per line")
parser.add_argument("--images", required=True, help="folder of the images")
parser.add_argument("settings", nargs="*", help="key=value")
main = job_command(parser, ReferringSource)

if __name__ == "__main__":
    main()
