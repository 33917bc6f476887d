"""Processing of conversations and images into the inputs of a model that varyforge exported, exactly as in training.

This file ships with the model. It needs torch, transformers, numpy and Pillow, and no varyforge.

Shape legend: B rows, T tokens, N images, V views of all images, S side of a view in pixels.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin
from transformers.image_utils import load_image

from trainer.export.shipped.configuration_varyforge import layout_of
from trainer.text.roundtrip import ExactTokenizer


class VaryforgeProcessor(ProcessorMixin):
    """A tokenizer and an image processor.

    Args:
        tokenizer: of the trained model.
        layout: the rule by which images become tokens, as in the model's configuration.
        image_token: the placeholder of an image: once in a text, once per image token in the ids.
        control_tokens: the texts that the chat template writes as one token each.
        pad_token_id: id of the padding to the left of a row.
        chat_template: Jinja. It writes `mark` around every text of a conversation and `edge` before an answer,
            which are empty unless set. Whatever stands between marks is tokenised as text, an answer separately.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: dict[str, Any],
        image_token: str,
        control_tokens: list[str],
        pad_token_id: int,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.layout, self.image_token = layout, image_token
        self.control_tokens, self.pad_token_id = list(control_tokens), pad_token_id
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        self._images = layout_of(layout)
        self._spell = ExactTokenizer(copy.deepcopy(tokenizer))  # which turns off the recognition of control tokens
        super().__init__(tokenizer, chat_template=chat_template, **kwargs)

    def __call__(self, images: Any = None, text: str | Sequence[str] | None = None, **_other: Any) -> BatchFeature:
        """Tokenise texts from `apply_chat_template(…, tokenize=False)` and process their images.

        A control token that a user wrote as text is read as a control token here. With
        `apply_chat_template(…, tokenize=True)` it stays text.

        Args:
            images: an image, a list or nested lists of PIL images, arrays, paths or URLs in reading order, one per
                `image_token`.
            text: one text or B texts. Rows are padded on the left.

        Returns:
            `input_ids` and `attention_mask` (B, T), and with images the model's `pixel_values` and `image_sizes`.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        pictures = [_rgb(image) for image in _flat(images)]
        sizes = iter(self._sizes(pictures))
        rows = []
        for one in texts:
            ids = self.tokenizer(one, add_special_tokens=False).input_ids
            rows.append(list(self._expanded(ids, sizes)))
        return self._inputs(rows, pictures)

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Any,
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = True,
        add_generation_prompt: bool = True,
        return_tensors: str = "pt",
        **kwargs: Any,
    ) -> Any:
        """Write one conversation or a list of conversations as text, or with `tokenize` as the model's inputs.

        The opening of an answer follows every question with `add_generation_prompt` or without.

        Returns:
            The text or texts. With `tokenize` the result of `__call__`, or with `return_dict=False` the ids of each
            conversation.
        """
        batched = not isinstance(conversation[0], dict)
        conversations = conversation if batched else [conversation]
        if not tokenize:
            texts = self._texts(conversations, chat_template, **kwargs)
            return texts if batched else texts[0]
        pictures = [_rgb(image) for one in conversations for image in _images_of(one)]
        sizes = iter(self._sizes(pictures))
        mark, edge = uuid4().hex, uuid4().hex
        texts = self._texts(conversations, chat_template, mark=mark, edge=edge, **kwargs)
        rows = [list(self._expanded(self._ids(one, mark, edge), sizes)) for one in texts]
        if return_dict:
            return self._inputs(rows, pictures)
        return rows if batched else rows[0]

    def _texts(self, conversations: Sequence[Any], template: str | None, **values: Any) -> list[str]:
        """Render the template for each conversation with `values` as its variables."""
        rendered: list[str] = self.tokenizer.apply_chat_template(
            conversations, chat_template=template or self.chat_template, tokenize=False, **values
        )
        return rendered

    def _ids(self, text: str, mark: str, edge: str) -> list[int]:
        """Tokenise a rendered conversation. A span of text ends at a control token and where an answer begins."""
        controls = re.compile("(" + "|".join(map(re.escape, [edge, *self.control_tokens])) + ")")
        span = _Span(self._spell, self.tokenizer.bos_token_id)
        for number, piece in enumerate(text.split(mark)):
            if number % 2:
                span.waiting += piece
                continue
            for part in controls.split(piece):
                if part == edge:
                    span.flush()
                    span.answers = True
                elif part in self.control_tokens:
                    span.flush()
                    span.ids.append(self.tokenizer.convert_tokens_to_ids(part))
                else:
                    span.waiting += part
        span.flush()
        return span.ids

    def _expanded(self, ids: Sequence[int], sizes: Iterator[tuple[int, int]]) -> Iterator[int]:
        """Yield the ids with the image token repeated for each of an image's tokens."""
        for number in ids:
            if number == self.image_token_id:
                size = next(sizes, None)
                if size is None:
                    raise ValueError(f"the text has more {self.image_token} than there are images")
                yield from [number] * self._images.num_tokens(size)
            else:
                yield number

    def _sizes(self, pictures: Sequence[np.ndarray]) -> list[tuple[int, int]]:
        return [(picture.shape[0], picture.shape[1]) for picture in pictures]

    def _inputs(self, rows: Sequence[Sequence[int]], pictures: Sequence[np.ndarray]) -> BatchFeature:
        longest = max(map(len, rows), default=0)
        inputs: dict[str, Any] = {}
        if rows:
            padded = [[self.pad_token_id] * (longest - len(row)) + list(row) for row in rows]
            inputs["input_ids"] = torch.tensor(padded)
            mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
            inputs["attention_mask"] = torch.tensor(mask)
        if pictures:
            inputs["pixel_values"] = self._pixels(pictures)
            inputs["image_sizes"] = torch.tensor(self._sizes(pictures))
        return BatchFeature(inputs)

    def _pixels(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Return (V, 3, S, S) with one encoder, (V, values of all encoders' pixels) with several."""
        views = [self._images.views(picture) for picture in pictures]
        of_encoder = []
        for name, how in self._images.preprocess.items():
            stacked = torch.from_numpy(np.concatenate([view[name] for view in views]))
            of_encoder.append(how.normalise(stacked, torch.get_default_dtype()).contiguous())
        return of_encoder[0] if len(of_encoder) == 1 else torch.cat([one.flatten(1) for one in of_encoder], dim=1)


class _Span:
    """The ids of a conversation so far, and the text of a span that has not ended."""

    def __init__(self, spell: ExactTokenizer, bos_id: int | None) -> None:
        self.ids: list[int] = []
        self.waiting = ""
        self.answers = False  # the span is an answer: it has its own leading blank and needs exact ids
        self._spell = spell
        self._start: tuple[list[Any], ...] = ([], [bos_id])

    def flush(self) -> None:
        text, self.waiting = self.waiting, ""
        prefix = self._spell.prefix
        if text and not text.startswith(" ") and not self.answers:
            if prefix == "each" or (prefix == "first" and self.ids in self._start):
                text = " " + text
        self.ids += self._spell.ids(text, exact=self.answers)
        self.answers = False


def _images_of(conversation: Sequence[dict[str, Any]]) -> Iterator[Any]:
    """Yield the images of a conversation's messages in order."""
    for message in conversation:
        if isinstance(message["content"], str):
            continue
        for part in message["content"]:
            if part["type"] == "image":
                sources = [part[key] for key in ("image", "url", "path", "base64") if part.get(key) is not None]
                if not sources:
                    raise ValueError("an image of the conversation has none of the keys image, url, path, base64")
                yield sources[0]


def _flat(images: Any) -> Iterator[Any]:
    if isinstance(images, (list, tuple)):
        for image in images:
            yield from _flat(image)
    elif images is not None:
        yield images


def _rgb(image: Any) -> np.ndarray:
    """Return an image as (height, width, 3) uint8."""
    return np.array(image if isinstance(image, np.ndarray) else load_image(image).convert("RGB"))
