"""The command line `python -m datagen.chat`."""

from __future__ import annotations

from datagen.chat.source import ChatSource
from datagen.cli import job_command, job_parser

parser = job_parser(
    "datagen.chat",
    "Turns chats (ShareGPT, Baize, Alpaca, OpenAI messages) into text conversations.",
    ChatSource,
    examples="""
  python -m datagen.chat ShareGPT_V3_unfiltered_cleaned_split.json --out shards/sharegpt
  python -m datagen.chat alpaca_en.json alpaca_zh.json --out shards/alpaca licence=cc-by-nc-4.0
  python -m datagen.chat ultrachat/data/ --out shards/ultrachat splits=[train]
  python -m datagen.chat chats/ --out shards/chat --limit 1000""",
)
parser.add_argument(
    "paths", nargs="+", help="files of JSON, JSON Lines or Parquet, or their folders, then key=value settings"
)
main = job_command(parser, ChatSource)

if __name__ == "__main__":
    main()
