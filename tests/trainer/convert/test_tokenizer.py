"""Qwen's byte pairs as a fast tokenizer: ids and texts as tiktoken and Qwen's own code have them."""

from __future__ import annotations

import importlib.util
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
import regex
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.trainer.releases import QWEN_ENTRIES, QWEN_IDS, RANKS, opt, write_ranks
from tests.trainer.tokenizers_of_all_kinds import TEXT
from trainer.convert.tokenizer import released_tokenizer
from varyforge.errors import UserError

PATTERN = (  # Qwen/Qwen-1_8B, tokenization_qwen.py
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    TEXT,
    "",
    " ",
    "it's THE page's 1234567 numbers",
    "a  b\n\n\n  c\t\td \n",
    "\r\n x",
    "e\u0301 ﬁ ① Å",
    "你好🦝👩\u200d👩\u200d👧",
    "text!!!\n\nthe",
    "<b> & </p> {x}",
    "\u00a0x\u200b",
]


def encoded(ranks: dict[bytes, int], text: str) -> list[int]:
    """tiktoken's algorithm in plain words: join the neighbours whose union has the lowest rank, the first of equals."""
    ids = []
    for word in regex.findall(PATTERN, unicodedata.normalize("NFC", text)):
        parts = [bytes([byte]) for byte in word.encode()]
        while True:
            unions = [(ranks[a + b], place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
            if not unions:
                break
            _, place = min(unions)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[bytes, int], PreTrainedTokenizerBase]:
    """The ranks, and the tokenizer as it is read after it was written."""
    folder = tmp_path_factory.mktemp("qwen")
    ranks = write_ranks(folder / "qwen.tiktoken")
    loaded = released_tokenizer(folder)
    assert loaded is not None
    loaded.save_pretrained(folder / "saved")
    return ranks, AutoTokenizer.from_pretrained(folder / "saved")


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_ids_are_those_of_the_ranks(made: tuple[dict[bytes, int], PreTrainedTokenizerBase], text: str) -> None:
    ranks, ours = made
    assert ours.encode(text) == encoded(ranks, text)
    assert ours.decode(ours.encode(text)) == unicodedata.normalize("NFC", text)


@pytest.mark.skipif(importlib.util.find_spec("tiktoken") is None, reason="tiktoken is not installed")
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_the_ids_are_tiktokens(made: tuple[dict[bytes, int], PreTrainedTokenizerBase], text: str) -> None:
    import tiktoken

    ranks, ours = made
    theirs = tiktoken.Encoding("qwen", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert ours.encode(text) == theirs.encode(unicodedata.normalize("NFC", text))


def test_special_tokens_follow_the_ranks(made: tuple[dict[bytes, int], PreTrainedTokenizerBase]) -> None:
    """With Qwen's 151,643 ranks: `<|im_start|>` 151644, `<|extra_204|>` 151850, `<imgpad>` 151859."""
    ours = made[1]
    assert len(ours) == QWEN_ENTRIES == RANKS + 151860 - 151643
    known = {
        "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|extra_0|>": 151646,
        "<|extra_204|>": 151850, "<ref>": 151851, "</ref>": 151852, "<box>": 151853, "</box>": 151854,
        "<quad>": 151855, "</quad>": 151856, "<img>": 151857, "</img>": 151858, "<imgpad>": 151859,
    }  # fmt: skip
    for token, number in known.items():
        assert ours.encode(token) == [number - 151643 + RANKS]
    assert (QWEN_IDS.start, QWEN_IDS.end, QWEN_IDS.pad) == tuple(ours.encode("<img></img><imgpad>"))
    assert ours.pad_token == "<|endoftext|>"
    assert ours.bos_token is None


def test_opts_image_tokens_have_the_releases_order(tmp_path: Path) -> None:
    opt().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vary", "auto_map": {"AutoConfig": "remote.Config"}}')
    loaded = released_tokenizer(tmp_path)
    assert loaded is not None
    entries = len(opt())
    assert loaded.convert_tokens_to_ids(["<imgpad>", "<img>", "</img>"]) == [entries, entries + 1, entries + 2]
    assert loaded.encode("text page") == opt().encode("text page")


def test_no_tokenizer_and_broken_ones(tmp_path: Path) -> None:
    assert released_tokenizer(tmp_path) is None
    ranks = tmp_path / "qwen.tiktoken"
    write_ranks(ranks)
    lines = ranks.read_text().splitlines(keepends=True)
    for text, said in (
        ("!!!! 0\n", "line 1"), ("IQ== x\n", "line 1"), ("".join(lines[:9]) + "IQ", "line 10"),
        ("".join(lines[:200]), "every single byte"), ("".join(lines[:-2] + lines[-1:]), "ranks 0, 1, 2"),
    ):  # fmt: skip
        ranks.write_text(text)
        with pytest.raises(UserError, match=said):
            released_tokenizer(tmp_path)
    ranks.unlink()
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="not a tokenizer"):
        released_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no such folder"):
        released_tokenizer(tmp_path / "gone")
