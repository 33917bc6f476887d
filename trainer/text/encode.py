"""Conversation → token ids and labels, by concatenating tokenised spans.

Only the assistant's text and its end token are supervised, except in turns that a sample marks as unsupervised. A span
is the text between two control tokens, or an answer. Each answer is a span of its own, so that its start is known
without a search. Control tokens come from the template alone, as ids: in a sample's own text `<|im_end|>`, `</s>` or
`<imgpad>` are plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.batch import IGNORE_INDEX, Encoded, TooLong, Unusable
from trainer.images.layout import ImageLayout
from trainer.images.sizes import PlannedImage, Size
from trainer.text.chat_templates import BOS, EOS, IMAGE_END, IMAGE_PAD, IMAGE_START, TEMPLATES, Template
from trainer.text.question import texts_around_images
from trainer.text.roundtrip import ExactTokenizer, NotEncodable, find_token
from varyforge.errors import UserError
from varyforge.escape import unescape
from varyforge.sample import IMAGE_MARKER, Sample, Turn

_Piece = str | int
"""A plain text, or the id of a control token."""


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer. The three image tokens are added at its end where it lacks them.

    Raises:
        UserError: `path` is neither a folder with a tokenizer nor a name on the hub.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        where = "this folder holds no tokenizer" if Path(path).is_dir() else "neither a local folder nor on the hub"
        raise UserError(
            f"model.language.tokenizer: {path!r}: {where}. Give a folder with tokenizer.json; "
            "`python -m trainer.tokenizer` trains one from shards"
        ) from error
    except Exception as error:  # the library tokenizers has no class of its own
        raise UserError(
            f"model.language.tokenizer: {path!r}: a broken tokenizer: {' '.join(str(error).split())[:200]}. Copy its "
            "folder again, or train one with `python -m trainer.tokenizer`"
        ) from error
    tokenizer.add_tokens([IMAGE_START, IMAGE_END, IMAGE_PAD], special_tokens=True)  # existing tokens keep their ids
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Return the id of a token that the tokenizer has."""
    number = find_token(tokenizer, token)
    assert number is not None, token
    return number


def image_sizes(sample: Sample) -> tuple[Size, ...]:
    """Return (height, width) of each image of a sample, in pixels."""
    return tuple((image.height, image.width) for image in sample.images)


class ConversationEncoder:
    """An encoder of samples as ids, and a decoder of ids, for one tokenizer, template and layout of images.

    `lead` is the blank before an answer if the tokenizer makes it part of the first word, otherwise "". `warnings`
    names the characters that the tokenizer changes. An answer with a character that it does not know is `Unusable`.

    Raises:
        UserError: the tokenizer lacks a token of the template, or changes characters that every document has.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str,
        layout: ImageLayout,
        max_length: int,
        too_long: Literal["cut", "drop", "error"] = "cut",
    ) -> None:
        self._tokens = _control_tokens(tokenizer, template)
        self.tokenizer = tokenizer
        self.template = TEMPLATES[template]
        self.max_length = max_length
        self._too_long = too_long
        self.end_id = self._tokens[self.template.end][0]
        self.pad_id = self.end_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        self.image_id = token_id(tokenizer, IMAGE_PAD)
        self.layout = layout
        self._image = tuple(self._tokens.get(token, []) for token in self.template.image)
        self._exact = ExactTokenizer(tokenizer)
        self.warnings = _judge(self._exact, tokenizer.name_or_path)
        self._prepare(template)

    def encode(self, sample: Sample) -> Encoded:
        """Encode a whole conversation as ids and labels.

        `too_long` decides what happens to a conversation beyond `max_length`. "cut" removes the end of the answers; an
        answer that is cut has no end token, so that the model does not learn to stop there. Images are never cut.

        Raises:
            Unusable: an image or the first answer does not fit, or the tokenizer does not know a part of an answer.
            TooLong: the conversation is too long and `too_long` is "drop".
            UserError: the conversation is too long and `too_long` is "error".
        """
        row = self._row(sample.turns, image_sizes(sample))
        length = len(row.ids)
        truncated = length > self.max_length
        if truncated:
            length = self._cut(row, sample.key)
        input_ids = np.array(row.ids[:length], np.int32)
        labels = np.full(length, IGNORE_INDEX, np.int32)
        for start, end in row.answers:
            labels[start:end] = input_ids[start:end]
        return Encoded(
            key=sample.key,
            task=sample.task,
            input_ids=input_ids,
            labels=labels,
            image_sizes=image_sizes(sample),
            truncated=truncated,
        )

    @property
    def planned_image(self) -> PlannedImage:
        """The cost of an image of unknown size, start and end tokens included (`ImageLayout.planned_tokens`)."""
        return PlannedImage(self.layout.planned_tokens + sum(map(len, self._image)), self.layout.most_views)

    def prompt(self, sample: Sample) -> list[int]:
        """Return the ids before the last answer: the prompt of a generation. Raises Unusable as `encode` does."""
        row = self._row(sample.turns[:-1], image_sizes(sample))
        row.open_answer(self.lead)
        return row.ids

    def decode(self, ids: Sequence[int]) -> str:
        """Decode an answer's ids up to the end token."""
        answer, closing = list(ids), ""
        if self.end_id in answer:
            answer, closing = answer[: answer.index(self.end_id)], self.template.closing
        return self._exact.text(answer).removeprefix(self.lead).removesuffix(closing)

    def _prepare(self, name: str) -> None:
        """Split the template's strings at control tokens, and determine the blank before an answer."""
        template = self.template
        self._begin, self._between = self._pieces(template.begin), self._pieces(template.between)
        self._system = self._pieces(template.system[0]), self._pieces(template.system[1])
        self._user = self._pieces(template.user[0]), self._pieces(template.user[1])
        behind_system = template.user_after_system
        self._user_after_system = self._user[0] if behind_system is None else self._pieces(behind_system)
        for piece in (p for part in (self._begin, self._between, *self._system, *self._user) for p in part):
            if isinstance(piece, str) and self._exact.spells_control(piece):
                raise UserError(
                    f"model.language.template {name!r} writes {piece.strip()!r} as text, but tokenizer "
                    f"{self.tokenizer.name_or_path!r} has a control token in it; it fits {_fitting(self.tokenizer)}"
                )
        opening = self._user[1][-1] if self._user[1] else self.end_id
        follows_blank = opening.endswith(" ") if isinstance(opening, str) else self._exact.prefix == "each"
        self.lead = " " if follows_blank and self._exact.prefix != "never" else ""

    def _pieces(self, text: str) -> list[_Piece]:
        """Split a string of the template into plain text and ids."""
        pieces: list[_Piece] = []
        for part in re.split("(" + "|".join(map(re.escape, self._tokens)) + ")", text):
            if part in self._tokens:
                pieces += self._tokens[part]
            elif part:
                pieces.append(part)
        return pieces

    def _row(self, turns: Sequence[Turn], sizes: Sequence[Size]) -> _Row:
        images = iter(sizes)
        row = _Row(self._exact, self.tokenizer.bos_token_id)
        row.add(self._begin)
        message, opening = self.template.default_system, self._user[0]
        if turns[0].role == "system":
            message, turns = unescape(turns[0].text), turns[1:]
        if message is not None:
            row.add([*self._system[0], message, *self._system[1]])
            opening = self._user_after_system
        for turn in turns:
            if turn.role == "user":
                row.add(opening)
                self._add_question(row, turn.text, images)
                row.add(self._user[1])
                opening = [*self._between, *self._user[0]]
            else:
                row.open_answer(self.lead)
                row.add_answer([*self._answer(turn), self.end_id], supervised=turn.supervised)
        return row

    def _answer(self, turn: Turn) -> list[int]:
        try:
            text = self.lead + unescape(turn.text) + self.template.closing
            return self._exact.ids(text, exact=turn.supervised)
        except NotEncodable as error:
            raise Unusable(str(error)) from error

    def _add_question(self, row: _Row, text: str, images: Iterator[Size]) -> None:
        before, after = self._image
        pieces = [unescape(piece) for piece in text.split(IMAGE_MARKER)]
        for number, piece in enumerate(texts_around_images(pieces, self.template)):
            if number > 0:
                row.add_image([*before, *[self.image_id] * self.layout.num_tokens(next(images)), *after])
            if self.template.questions:
                row.add([piece])

    def _cut(self, row: _Row, key: str) -> int:
        """Return the number of tokens that stay of a row beyond `max_length`."""
        limit = self.max_length
        numbers = f"{len(row.ids)} tokens, data.max_length {limit}"
        if self._too_long == "error":
            raise UserError(
                f"data.max_length {limit}: sample {key!r} has {len(row.ids)} tokens; raise it, or set data.too_long to "
                "cut or drop"
            )
        if self._too_long == "drop":
            raise TooLong(f"too long: {numbers}")
        if row.images_end > limit:
            raise Unusable(f"an image does not fit: {numbers}")
        ends = [min(end, limit) for start, end in row.answers if start < limit]
        if not ends:
            raise Unusable(f"no answer token fits: {numbers}")
        return max(ends[-1], row.images_end)  # a question without its answer is cut too, but not its images


class _Row:
    """A conversation under construction. Text is collected until a control token or an answer ends its span."""

    def __init__(self, exact: ExactTokenizer, bos_id: int | None) -> None:
        self.ids: list[int] = []
        self.answers: list[tuple[int, int]] = []  # start and end of each supervised answer, end token included
        self.images_end = 0  # index behind the last image
        self._exact, self._waiting = exact, ""
        self._start: tuple[list[int | None], ...] = ([], [bos_id])

    def add(self, pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, str):
                self._waiting += piece
            else:
                self._flush()
                self.ids.append(piece)

    def add_image(self, ids: Sequence[int]) -> None:
        self._flush()
        self.ids += ids
        self.images_end = len(self.ids)

    def open_answer(self, lead: str) -> None:
        """End the span before an answer, without the blank at its end if the answer begins with that blank."""
        self._waiting = self._waiting.removesuffix(lead)
        self._flush()

    def add_answer(self, ids: Sequence[int], *, supervised: bool) -> None:
        if supervised:
            self.answers.append((len(self.ids), len(self.ids) + len(ids)))
        self.ids += ids

    def _flush(self) -> None:
        text, self._waiting = self._waiting, ""
        prefix = self._exact.prefix
        if text and not text.startswith(" ") and (prefix == "each" or (prefix == "first" and self.ids in self._start)):
            text = " " + text  # as the tokenizer itself would
        self.ids += self._exact.ids(text)


def _control_tokens(tokenizer: PreTrainedTokenizerBase, name: str) -> dict[str, list[int]]:
    """Map the names of control tokens in a template's strings to ids. A missing BOS has no id."""
    if name not in TEMPLATES:
        raise UserError(f"model.language.template: unknown {name!r}; one of {', '.join(TEMPLATES)}")
    if missing := _missing(tokenizer, TEMPLATES[name]):
        raise UserError(
            f"model.language.tokenizer: {tokenizer.name_or_path!r} has no token {', '.join(missing)}, which template "
            f"{name!r} needs; it fits {_fitting(tokenizer)}. The model does not know tokens that are only added"
        )
    template = TEMPLATES[name]
    names = {*template.tokens, *template.image, template.end} - {"", EOS}
    tokens = {token: [token_id(tokenizer, token)] for token in names}
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {**tokens, BOS: [] if bos is None else [int(bos)], EOS: [] if eos is None else [int(eos)]}


def _missing(tokenizer: PreTrainedTokenizerBase, template: Template) -> list[str]:
    """List the tokens of a template that the tokenizer lacks, as a message names them.

    An ordinary piece of the vocabulary does not count (GPT-like vocabularies may have `</s>` as a word of HTML).
    """
    needed = [token for token in dict.fromkeys((*template.tokens, template.end, *template.image, IMAGE_PAD)) if token]
    control = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    lacking = [repr(token) for token in needed if token != EOS and token not in control]
    return ["eos_token"] * (EOS in needed and tokenizer.eos_token_id is None) + lacking


def _fitting(tokenizer: PreTrainedTokenizerBase) -> str:
    return ", ".join(name for name, template in TEMPLATES.items() if not _missing(tokenizer, template)) or "no template"


def _judge(exact: ExactTokenizer, name: str) -> list[str]:
    """Warn about characters that a tokenizer changes; refuse a tokenizer that changes what every document has."""
    essential, other = exact.probe()
    if essential:
        changes = "; ".join(essential[:2]) + (f"; and {len(essential) - 2} more" if len(essential) > 2 else "")
        raise UserError(
            f"model.language.tokenizer: {name!r} does not give text back as it was: {changes}. Use one "
            "that does: byte-level BPE (OPT, Qwen, Llama 3) or sentencepiece BPE with byte fallback (Llama 2, Mistral)"
        )
    return [f"tokenizer {name!r}: answers with these characters are changed or skipped: {what}" for what in other]
