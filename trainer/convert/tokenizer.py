"""Conversion of released tokenizers to tokenizer.json. No pickle is read and no code of a checkpoint is run."""

from __future__ import annotations

import base64
import binascii
import shutil
import tempfile
from pathlib import Path

from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

from trainer.model.weights import check_fetched
from trainer.text.chat_templates import IMAGE_END, IMAGE_PAD, IMAGE_START
from varyforge.errors import UserError

# Qwen/Qwen-1_8B, tokenization_qwen.py (PAT_STR and SPECIAL_TOKENS), then the tokens that Qwen-VL adds.
_QWEN_PATTERN = (
    r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"""
    r"""|\s+(?!\S)|\s+"""
)
_QWEN_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{number}|>" for number in range(205)),
    "<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", IMAGE_START, IMAGE_END, IMAGE_PAD,
)  # fmt: skip
_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model",
)  # fmt: skip


def released_tokenizer(folder: Path) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer in a released checkpoint's folder with the three image tokens, or None without a tokenizer.

    Missing image tokens get the next ids in the order of the released Vary-tiny: `<imgpad>`, `<img>`, `</img>` (OPT:
    50265, 50266, 50267).

    Raises:
        UserError: the tokenizer's files are broken, or only code is there.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give one with a tokenizer's files")
    for name in (*_FILES, *(file.name for file in folder.glob("*.tiktoken"))):
        if (folder / name).is_file():
            check_fetched(folder / name)
    tokenizer: PreTrainedTokenizerBase
    if ranks := sorted(folder.glob("*.tiktoken")):
        tokenizer = qwen(ranks[0])
    elif any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        tokenizer = _of_files(folder)
    else:
        return None
    tokenizer.add_tokens([IMAGE_PAD, IMAGE_START, IMAGE_END], special_tokens=True)  # known tokens keep their ids
    return tokenizer


def qwen(ranks: Path) -> PreTrainedTokenizerFast:
    """Build Qwen's tokenizer from its byte pairs. The special tokens get the next ids."""
    tokenizer = _Converter(vocab_file=str(ranks), pattern=_QWEN_PATTERN, extra_special_tokens=_QWEN_SPECIAL).converted()
    tokenizer.normalizer = normalizers.NFC()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", model_max_length=1 << 20)


class _Converter(TikTokenConverter):
    """A `TikTokenConverter` that reads the file without the library tiktoken."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        """Read the rank of each byte pair. A line has the bytes in base64, a blank and the rank."""
        ranks: dict[bytes, int] = {}
        for number, line in enumerate(Path(tiktoken_url).read_bytes().splitlines(), start=1):
            try:
                if line.strip():
                    pair, rank = line.split()
                    ranks[base64.b64decode(pair, validate=True)] = int(rank)
            except (ValueError, binascii.Error) as error:
                raise UserError(
                    f"{tiktoken_url}: line {number}: expected base64 and a rank, found {line[:40]!r}"
                ) from error
        if sorted(ranks.values()) != list(range(len(ranks))) or sum(len(pair) == 1 for pair in ranks) != 256:
            raise UserError(f"{tiktoken_url}: expected ranks 0, 1, 2, … and every single byte; fetch the file again")
        return ranks


def _of_files(folder: Path) -> PreTrainedTokenizerBase:
    """Load a copy without the folder's config.json, which may name a class that only the checkpoint's code defines."""
    with tempfile.TemporaryDirectory() as alone:
        for name in _FILES:
            if (folder / name).is_file():
                shutil.copy(folder / name, alone)
        try:
            tokenizer = AutoTokenizer.from_pretrained(alone, trust_remote_code=False)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__).replace(alone, str(folder))
            raise UserError(f"{folder}: not a tokenizer that can be read: {reason}") from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer
