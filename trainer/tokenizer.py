"""Train a byte-level BPE tokenizer on the text of shards, for runs without a pre-trained language model.

python -m trainer.tokenizer shards/pdf shards/chat --out runs/mine/tokenizer --vocabulary 4000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from varyforge.commands import program
from varyforge.console import say
from varyforge.errors import UserError, command
from varyforge.escape import unescape
from varyforge.shards import ShardSet

_SPECIAL = ("<pad>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")  # tokens of the chat templates


def texts(shards: Sequence[ShardSet]) -> Iterator[str]:
    """Yield all turns of all training samples."""
    for shard_set in shards:
        for row in shard_set.table(["shard", "offset", "size", "split"]).to_pylist():
            if row["split"] == "train":
                sample = shard_set.read(row["shard"], row["offset"], row["size"])
                yield from (unescape(turn.text) for turn in sample.turns)


def train_tokenizer(shards: Sequence[ShardSet], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer of at most `vocabulary` entries. It reproduces any text exactly, because it works on bytes.

    BOS and EOS are `</s>`, as in OPT, and ChatML's tokens exist too. So it fits Vary's templates and `chatml`.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(_SPECIAL)
    if vocabulary < smallest:
        raise UserError(f"--vocabulary {vocabulary}: a byte-level tokenizer has at least {smallest} entries")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(_SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(shards), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", model_max_length=1 << 20
    )


@command
def main() -> int:
    """Parse the command line and write the tokenizer."""
    parser = argparse.ArgumentParser(
        prog=program("trainer.tokenizer"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", nargs="+", type=Path, help="shard sets that hold the text to train on")
    parser.add_argument("--out", required=True, type=Path, help="folder for tokenizer.json and its settings")
    parser.add_argument("--vocabulary", type=int, default=4000, help="largest number of entries (%(default)s)")
    arguments = parser.parse_args()
    tokenizer = train_tokenizer([ShardSet(folder) for folder in arguments.shards], vocabulary=arguments.vocabulary)
    tokenizer.save_pretrained(arguments.out)
    say(f"{arguments.out}: tokenizer with {len(tokenizer)} entries")
    return 0


if __name__ == "__main__":
    main()
