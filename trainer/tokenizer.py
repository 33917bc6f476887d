"""Trains a byte-level BPE tokenizer on the text of shards, for runs without a pre-trained language model.

python -m trainer.tokenizer shards/pdf shards/chat --out runs/mine/tokenizer --vocabulary 4000
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from varyforge.console import say
from varyforge.errors import UserError, command
from varyforge.escape import unescape
from varyforge.shards import ShardSet

_SPECIAL = ("<pad>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")  # what the templates need


def texts(shards: Sequence[ShardSet]) -> Iterator[str]:
    """All turns of all training samples."""
    for shard_set in shards:
        for row in shard_set.table(["shard", "offset", "size", "split"]).to_pylist():
            if row["split"] == "train":
                sample = shard_set.read(row["shard"], row["offset"], row["size"])
                yield from (unescape(turn.text) for turn in sample.turns)


def train_tokenizer(shards: Sequence[ShardSet], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer that reproduces any text exactly (byte level), of at most `vocabulary` entries.

    BOS and EOS are `</s>`, as in OPT; ChatML's tokens are there too: it fits both Vary's templates and `chatml`.
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
    """Parses the command line and writes the tokenizer."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tokenizer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", nargs="+", type=Path, help="shard sets whose text to learn from")
    parser.add_argument("--out", required=True, type=Path, help="folder for tokenizer.json and its settings")
    parser.add_argument("--vocabulary", type=int, default=4000, help="entries at most (%(default)s)")
    arguments = parser.parse_args()
    tokenizer = train_tokenizer([ShardSet(folder) for folder in arguments.shards], vocabulary=arguments.vocabulary)
    tokenizer.save_pretrained(arguments.out)
    say(f"{arguments.out}: tokenizer with {len(tokenizer)} entries")
    return 0


if __name__ == "__main__":
    main()
