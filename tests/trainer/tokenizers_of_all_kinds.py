"""Small tokenizers of every kind in use, each built as the real ones are: same classes and parts, few entries."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertTokenizer,
    ByT5Tokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5Tokenizer,
)

from trainer.text.chat_templates import IMAGE_END, IMAGE_PAD, IMAGE_START, TEMPLATES

TEXT = (
    "Provide the OCR results of this image. Detect all objects in this image: person, car, [012, 345, 678, 901].\n"
    "The answer is the text of the page, and the text is what the page says.\n\n  for line in page:\n\tsay(line)\n"
    "你好，世界。写出这幅图中所有文字。你好，图中文字。"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
ASCII = [chr(number) for number in range(33, 127)]


@cache
def _byte_level(entries: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=entries, initial_alphabet=alphabet, show_progress=False)
    return _learnt(raw, trainer)


@cache
def _sentencepiece(entries: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    special = ["<unk>", "<s>", "</s>", *BYTES]
    return _learnt(raw, trainers.BpeTrainer(vocab_size=entries, special_tokens=special, show_progress=False))


def _learnt(raw: Tokenizer, trainer: trainers.BpeTrainer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    raw.train_from_iterator([TEXT] * 2, trainer)
    merges = [tuple(line.split(" ")) for line in _merges(raw)]
    return raw.get_vocab(with_added_tokens=True), merges  # type: ignore[return-value]


def _merges(raw: Tokenizer) -> list[str]:
    merges = json.loads(raw.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def opt() -> PreTrainedTokenizerBase:
    """GPT-2's pieces, BOS and EOS are the same token."""
    vocabulary, merges = _byte_level(500)
    return GPT2Tokenizer(vocabulary, merges, unk_token="</s>", bos_token="</s>", eos_token="</s>", pad_token="<pad>")


def roberta() -> PreTrainedTokenizerBase:
    """Byte level with a blank before every text (GPT-2's class, as RoBERTa and Galactica set it)."""
    vocabulary, merges = _byte_level(500)
    return GPT2Tokenizer(vocabulary, merges, add_prefix_space=True, bos_token="<s>", eos_token="</s>", unk_token="</s>")


def qwen() -> PreTrainedTokenizerBase:
    """NFC, Qwen's own way to cut words, no BOS, and control tokens that are not special."""
    tokenizer = Qwen2Tokenizer(*_byte_level(500))
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    return tokenizer


def llama3() -> PreTrainedTokenizerBase:
    """Tiktoken's entries: a word that is an entry is taken whole."""
    vocabulary, merges = _byte_level(500)
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    cut = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    split = pre_tokenizers.Split(Regex(cut), behavior="isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>")


def llama(**settings: bool) -> PreTrainedTokenizerBase:
    """Sentencepiece BPE with byte fallback, a blank before the first text only."""
    return LlamaTokenizer(*_sentencepiece(600), **settings)


def llama_legacy() -> PreTrainedTokenizerBase:
    """The same as old files have it: a blank also behind each control token, put there by the normaliser."""
    vocabulary, merges = _sentencepiece(600)
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    raw.decoder = decoders.Sequence(parts)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama_always() -> PreTrainedTokenizerBase:
    """The same in today's class, `legacy` on."""
    return LlamaTokenizer(*_sentencepiece(600), legacy=True)


def unigram() -> PreTrainedTokenizerBase:
    """Sentencepiece's other model, with byte fallback; its likeliest reading of "</s>" is the end token."""
    words = ["▁the", "▁text", "the", "page", "你好", "图中", "▁▁"]
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((token, 0.0) for token in BYTES)]
    pieces += [("▁", -2.0), *((word, -3.0) for word in words), *((char, -5.0) for char in ASCII)]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byt5() -> PreTrainedTokenizerBase:
    """A tokenizer in Python: every byte an entry."""
    return ByT5Tokenizer(extra_ids=0)


def xlm_r() -> PreTrainedTokenizerBase:
    """Unigram without bytes to fall back on: it knows the characters of its vocabulary and no others."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), *((char, -3.0) for char in [*ASCII, "\n", "\t", "你", "好"])]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0))
    raw.normalizer = normalizers.NFKC()
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="<unk>")


def t5() -> PreTrainedTokenizerBase:
    """Cuts at white space and forgets it."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((char, -3.0) for char in ASCII)]
    return T5Tokenizer(pieces, extra_ids=0)


def bert() -> PreTrainedTokenizerBase:
    """WordPiece: lower case, no white space."""
    letters = [chr(number) for number in range(33, 127)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = BertTokenizer({token: number for number, token in enumerate(tokens)})
    tokenizer.eos_token = "[SEP]"
    return tokenizer


EXACT: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    make.__name__: make  # give every text back
    for make in (opt, roberta, qwen, llama3, llama, llama_legacy, llama_always, unigram, byt5)
}


def with_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> PreTrainedTokenizerBase:
    """The same with the tokens that a template and an image need."""
    tokens = [*TEMPLATES[template].tokens, IMAGE_START, IMAGE_END, IMAGE_PAD]
    tokenizer.add_tokens(tokens, special_tokens=True)
    return tokenizer
