"""Plain text ↔ ids of one tokenizer, exactly: what goes in comes out again, and no text is a control token.

Tokenizers of the sentencepiece family put a blank before what they are given and take one away from what they give
back. That suits a whole text, not the spans of a conversation. Here both are switched off, and whoever writes the spans
puts the blank where a whole text would have it.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # loader workers are the parallelism; threads below them cost

Prefix = Literal["never", "first", "each"]
"""Where a tokenizer puts a blank of its own: nowhere, before a text, or also behind each control token in it."""

_METASPACE = "▁"  # stands for a blank in vocabularies of the sentencepiece family
_BYTE_TOKEN = "<0x{:02X}>"  # what such a vocabulary writes unknown characters with
_HARMLESS = {"Sequence", "NFC", "Prepend", "Replace"}  # normalisers that make no control token of another text
_MARKUP = re.compile(r"[<\[{(|｜]\W*\w.*[>\])}|｜]", re.DOTALL)

_ESSENTIAL = {  # in every kind of document
    "letters and digits": "The quick BROWN fox jumps over 0123456789 lazy dogs",
    "punctuation": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ [012, 345]; don't . , a.",
    "blanks": " a  b   c    d ",
    "newlines": "\na\nb\n\n\nc\n",
    "tabs": "\ta\tb\t\tc",
}
_OTHER = {
    "accents": "éèüñçøßÅŁžИйЖλΩ",
    "Chinese, Japanese, Korean": "你好，世界。写出这幅图中所有文字。ひらがなカタカナ한국어",
    "mathematics": "∑∫≤≠∞√∂αβ→×÷±",
    "emoji": "🦝👩‍👩‍👧🇨🇳❤️",
    "forms of compatibility": "ﬁ①Ａ１½™",
    "characters without width": "a\u200bb\u2060c\u00add",
    "line ends of other systems": "a\r\nb\rc",
}


class Untellable(ValueError):
    """A text that this tokenizer cannot write; the message says why."""


def find_token(tokenizer: PreTrainedTokenizerBase, token: str) -> int | None:
    """The id of one token, None if the tokenizer has no such token."""
    found = tokenizer.convert_tokens_to_ids(token)
    return found if isinstance(found, int) and tokenizer.convert_ids_to_tokens(found) == token else None


class Speller:
    """Turns plain text into ids and ids into text.

    A text comes back in the form that the tokenizer normalises to, where it does (Qwen: NFC). `prefix` says where the
    tokenizer would put a blank of its own; none is put here.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._slow = tokenizer
        self._fast: Tokenizer | None = None
        self.prefix: Prefix = "never"
        self._metaspace, self._may_make_control = False, True
        if tokenizer.is_fast:
            self._take(tokenizer.backend_tokenizer)
        self._unknown = tokenizer.unk_token_id
        spelt = [find_token(tokenizer, _BYTE_TOKEN.format(byte)) for byte in _METASPACE.encode()]
        numbers = [number for number in spelt if number is not None]
        self._bytes = numbers if numbers and self.text(numbers) == _METASPACE else []
        control = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if _is_control(token)}
        self._control_ids = control.keys() - {self._unknown}
        self._openings = _openings(control.values(), byte_tokens=bool(numbers))

    def _take(self, tokenizer: Tokenizer) -> None:
        parts = [_tree(part) for part in (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder)]
        self.prefix = _prefix_of(parts[:2])
        self._metaspace = _METASPACE in json.dumps(parts, ensure_ascii=False)
        self._may_make_control = any(node["type"] not in _HARMLESS for node in _nodes(parts[0]))
        if self.prefix != "never":
            tokenizer = _without_prefix(tokenizer, *parts)
        tokenizer.no_truncation()  # which a tokenizer's file may ask for
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._fast = tokenizer

    def ids(self, text: str, *, exact: bool = False) -> list[int]:
        """Ids of a text; what looks like a control token in it is characters like any other.

        Raises:
            Untellable: `exact`, and the text would not come back (unknown characters); or it would be a control token.
        """
        pieces = [text]
        if self._openings is not None and (cuts := [found.end() for found in self._openings.finditer(text)]):
            pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        ids = [number for piece in pieces for number in self._piece(piece, exact)]
        if exact and self._unknown in ids:
            raise Untellable(f"the tokenizer does not know {self._strangers(text)}")
        if self._may_make_control and not self._control_ids.isdisjoint(ids):
            raise Untellable("the tokenizer's normaliser makes a control token of a text")
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids, also of control tokens among them."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=False))
        return str(self._slow.decode(list(ids), clean_up_tokenization_spaces=False))

    def spells_control(self, text: str) -> bool:
        """Whether a text holds what is a control token of this tokenizer."""
        return self._openings is not None and self._openings.search(text) is not None

    def probe(self) -> tuple[list[str], list[str]]:
        """What does not come back as it went in: of what every document holds, and of what some hold."""
        return self._differences(_ESSENTIAL), self._differences(_OTHER)

    def _differences(self, texts: dict[str, str]) -> list[str]:
        found = []
        for name, text in texts.items():
            try:
                back = self.text(self.ids(text, exact=True))
            except Untellable as error:
                found.append(f"{name} ({error})")
            else:
                if unicodedata.normalize("NFC", back) != unicodedata.normalize("NFC", text):
                    found.append(f"{name} ({text!r} comes back as {back!r})")
        return found

    def _piece(self, text: str, exact: bool) -> list[int]:
        """Ids of a text without control tokens."""
        if not self._metaspace or _METASPACE not in text:
            return self._encode(text)
        if exact and not self._bytes:
            raise Untellable(f"the tokenizer writes a blank as {_METASPACE!r}, which the text holds")
        first, *others = text.split(_METASPACE)
        return self._encode(first) + [number for piece in others for number in self._bytes + self._encode(piece)]

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        if self._fast is not None:  # a fifth to a half less time than through transformers
            return list(self._fast.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        return list(self._slow(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _strangers(self, text: str) -> str:
        unknown = [char for char in dict.fromkeys(text) if self._unknown in self._piece(char, exact=False)]
        return ", ".join(map(repr, unknown[:10])) + (" …" if len(unknown) > 10 else "") or "a part of the text"


def _is_control(token: AddedToken | str) -> bool:
    """Words and blanks that somebody added to a vocabulary are text, `<tool_call>` is control even if not special."""
    text = str(token)
    special = isinstance(token, AddedToken) and token.special
    return len(text) > 1 and not text.isspace() and (special or _MARKUP.fullmatch(text) is not None)


def _openings(tokens: Iterable[str], *, byte_tokens: bool) -> re.Pattern[str] | None:
    """Finds the first character of every control token in a text: cut behind it, the text holds none."""
    by_first = groupby(sorted(tokens), key=lambda token: token[0])
    rests = [(first, "|".join(re.escape(token[1:]) for token in group)) for first, group in by_first]
    alternatives = [f"{re.escape(first)}(?={rest})" for first, rest in rests]
    if byte_tokens:
        alternatives.append("<(?=0x[0-9A-F]{2}>)")
    return re.compile("|".join(alternatives)) if alternatives else None


def _tree(part: Any) -> Any:
    """A component of a tokenizer as its JSON."""
    return None if part is None else json.loads(part.__getstate__())


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All components in a component."""
    if isinstance(tree, list):
        for item in tree:
            yield from _nodes(item)
    elif isinstance(tree, dict):
        if "type" in tree:
            yield tree
        for item in tree.values():
            yield from _nodes(item)


def _prefix_of(tree: Any) -> Prefix:
    schemes = {node.get("prepend_scheme") for node in _nodes(tree) if node["type"] == "Metaspace"}
    if "always" in schemes or any(
        node["type"] == "Prepend" or (node["type"] == "ByteLevel" and node["add_prefix_space"]) for node in _nodes(tree)
    ):
        return "each"
    return "first" if "first" in schemes else "never"


def _without_prefix(tokenizer: Tokenizer, normalizer: Any, pre_tokenizer: Any, decoder: Any) -> Tokenizer:
    """A copy that neither adds a blank nor takes one away."""
    made = Tokenizer.from_str(tokenizer.to_str())
    for name, tree, empty in (
        ("normalizer", normalizer, normalizers.Sequence([])),
        ("pre_tokenizer", pre_tokenizer, pre_tokenizers.Sequence([])),
        ("decoder", decoder, decoders.Sequence([])),
    ):
        if tree is not None:
            empty.__setstate__(json.dumps(_bare(tree)).encode())
            setattr(made, name, empty)
    return made


def _bare(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_bare(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {name: _bare(item) for name, item in tree.items()}
    match tree.get("type"):
        case "Prepend":
            return {"type": "Sequence", "normalizers": []}
        case "Metaspace":
            tree["prepend_scheme"] = "never"
        case "ByteLevel":
            tree["add_prefix_space"] = False
        case "Strip" if tree.get("content") == " ":  # of a decoder
            tree["start"] = 0
    return tree
