"""Plain text ↔ ids of one tokenizer, exactly: decoding returns the text, and no text becomes a control token.

Tokenizers of the sentencepiece family add a blank before a text and remove one when decoding. That suits a whole text,
but not the spans of a conversation. `ExactTokenizer` does neither, and `trainer.text.encode` adds the blank where a
whole text would have it.
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

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # loader workers are parallel already

Prefix = Literal["never", "first", "each"]
"""The positions of a tokenizer's own blank: nowhere, before a text, or also behind each control token in a text."""

_METASPACE = "▁"  # a blank in vocabularies of the sentencepiece family
_BYTE_TOKEN = "<0x{:02X}>"  # these vocabularies write unknown characters as bytes
_HARMLESS = {"Sequence", "NFC", "Prepend", "Replace"}  # normalisers that cannot make a control token of other text
_MARKUP = re.compile(r"[<\[{(|｜]\W*\w.*[>\])}|｜]", re.DOTALL)

_ESSENTIAL = {  # part of every kind of document
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


class NotEncodable(ValueError):
    """A text that the tokenizer cannot encode; the message has the reason."""


def find_token(tokenizer: PreTrainedTokenizerBase, token: str) -> int | None:
    """Return the id of a token; None if the tokenizer does not have it."""
    number = tokenizer.convert_tokens_to_ids(token)
    return number if isinstance(number, int) and tokenizer.convert_ids_to_tokens(number) == token else None


class ExactTokenizer:
    """A tokenizer that encodes plain text as ids and decodes these ids to the same text.

    The text may be normalised if the tokenizer does so (Qwen: NFC). `prefix` tells where the tokenizer itself would add
    a blank; this class adds none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._slow = tokenizer
        self._fast: Tokenizer | None = None
        self.prefix: Prefix = "never"
        self._metaspace, self._may_make_control = False, True
        if tokenizer.is_fast:
            self._take(tokenizer.backend_tokenizer)
        self._unknown = tokenizer.unk_token_id
        byte_ids = [find_token(tokenizer, _BYTE_TOKEN.format(byte)) for byte in _METASPACE.encode()]
        numbers = [number for number in byte_ids if number is not None]
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
        tokenizer.no_truncation()  # a tokenizer's file may enable it
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._fast = tokenizer

    def ids(self, text: str, *, exact: bool = False) -> list[int]:
        """Encode a text. Parts that look like control tokens are encoded as characters.

        Raises:
            NotEncodable: `exact` is true and the text has unknown characters, or the text would give a control token.
        """
        pieces = [text]
        if self._openings is not None and (cuts := [match.end() for match in self._openings.finditer(text)]):
            pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        ids = [number for piece in pieces for number in self._piece(piece, exact)]
        if exact and self._unknown in ids:
            raise NotEncodable(f"the tokenizer does not know {self._unknown_in(text)}")
        if self._may_make_control and not self._control_ids.isdisjoint(ids):
            raise NotEncodable("the tokenizer's normaliser makes a control token of a text")
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """Decode ids to text, control tokens included."""
        if self._fast is not None:
            return str(self._fast.decode(ids, skip_special_tokens=False))
        return str(self._slow.decode(list(ids), clean_up_tokenization_spaces=False))

    def spells_control(self, text: str) -> bool:
        """Whether a text has a control token of this tokenizer in it."""
        return self._openings is not None and self._openings.search(text) is not None

    def probe(self) -> tuple[list[str], list[str]]:
        """List the characters that do not survive encoding and decoding: essential ones, and others."""
        return self._differences(_ESSENTIAL), self._differences(_OTHER)

    def _differences(self, texts: dict[str, str]) -> list[str]:
        differences = []
        for name, text in texts.items():
            try:
                back = self.text(self.ids(text, exact=True))
            except NotEncodable as error:
                differences.append(f"{name} ({error})")
            else:
                if unicodedata.normalize("NFC", back) != unicodedata.normalize("NFC", text):
                    differences.append(f"{name} ({text!r} comes back as {back!r})")
        return differences

    def _piece(self, text: str, exact: bool) -> list[int]:
        """Encode a text that has no control token in it."""
        if not self._metaspace or _METASPACE not in text:
            return self._encode(text)
        if exact and not self._bytes:
            raise NotEncodable(f"the tokenizer writes a blank as {_METASPACE!r}, which the text holds")
        first, *others = text.split(_METASPACE)
        return self._encode(first) + [number for piece in others for number in self._bytes + self._encode(piece)]

    def _encode(self, text: str) -> list[int]:
        if not text:
            return []
        if self._fast is not None:  # takes 20 to 50 % less time than transformers' call
            return list(self._fast.encode_batch_fast([text], add_special_tokens=False)[0].ids)
        return list(self._slow(text, add_special_tokens=False, split_special_tokens=True).input_ids)

    def _unknown_in(self, text: str) -> str:
        unknown = [char for char in dict.fromkeys(text) if self._unknown in self._piece(char, exact=False)]
        return ", ".join(map(repr, unknown[:10])) + (" …" if len(unknown) > 10 else "") or "a part of the text"


def _is_control(token: AddedToken | str) -> bool:
    """Whether a token is a control token: a special token, or markup such as `<tool_call>`. Added words are text."""
    text = str(token)
    special = isinstance(token, AddedToken) and token.special
    return len(text) > 1 and not text.isspace() and (special or _MARKUP.fullmatch(text) is not None)


def _openings(tokens: Iterable[str], *, byte_tokens: bool) -> re.Pattern[str] | None:
    """Return a pattern for the first character of a control token. Split behind it, a text has no control token."""
    by_first = groupby(sorted(tokens), key=lambda token: token[0])
    rests = [(first, "|".join(re.escape(token[1:]) for token in group)) for first, group in by_first]
    alternatives = [f"{re.escape(first)}(?={rest})" for first, rest in rests]
    if byte_tokens:
        alternatives.append("<(?=0x[0-9A-F]{2}>)")
    return re.compile("|".join(alternatives)) if alternatives else None


def _tree(part: Any) -> Any:
    """Return a component of a tokenizer as JSON."""
    return None if part is None else json.loads(part.__getstate__())


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield all components within a component."""
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
    """Copy a tokenizer such that it neither adds nor removes a blank."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    for name, tree, empty in (
        ("normalizer", normalizer, normalizers.Sequence([])),
        ("pre_tokenizer", pre_tokenizer, pre_tokenizers.Sequence([])),
        ("decoder", decoder, decoders.Sequence([])),
    ):
        if tree is not None:
            empty.__setstate__(json.dumps(_bare(tree)).encode())
            setattr(copy, name, empty)
    return copy


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
