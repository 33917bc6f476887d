"""Conversation → token ids and labels, by concatenating tokenised spans.

Supervised are the assistant's text and its end token, nothing else. Control tokens come from the template alone: in a
sample's own text `<|im_end|>`, `</s>` or `<imgpad>` are plain characters. Special tokens are defined here only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from datagen.errors import UserError
from datagen.escape import unescape
from datagen.sample import IMAGE_MARKER, Sample, Turn
from trainer.batch import IGNORE_INDEX, Encoded

IMAGE_START, IMAGE_PAD, IMAGE_END = "<img>", "<imgpad>", "</img>"
"""An image is IMAGE_START, one IMAGE_PAD per image token, IMAGE_END (Vary-toy, arXiv 2401.12503)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a conversation is written. `end` closes an assistant turn and is supervised."""

    bos: bool  # begin with the tokenizer's BOS, where it has one
    system: tuple[str, str]  # before and after the system message
    default_system: str | None  # the system message of a sample without one; None: leave the whole part out
    user: tuple[str, str]  # before and after the user's text; the second one includes the assistant's opening
    after_image: str
    end: str | None  # None: the tokenizer's EOS


TEMPLATES: dict[str, Template] = {
    # Vary-tiny+, Vicuna v1 form (arXiv 2401.12503, section 3.1; the paper prints ASSITANT).
    "vicuna_v1": Template(
        bos=True,
        system=("", " "),
        default_system=None,
        user=("USER: ", " ASSISTANT: "),
        after_image=" ",
        end=None,
    ),
    # Vary-toy, the release's form of ChatML: no newline after <|im_end|>.
    "chatml_vary": Template(
        bos=False,
        system=("<|im_start|>system\n", "<|im_end|>"),
        default_system="You should follow the instructions carefully and explain your answers in detail.",
        user=("<|im_start|>user\n", "<|im_end|><|im_start|>assistant\n"),
        after_image="",
        end="<|im_end|>",
    ),
}


class Unusable(ValueError):
    """A sample that cannot be trained on at this length; the message is the reason it is counted under."""


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """A fast tokenizer with the three image tokens, added at its end where it lacks them.

    Raises:
        UserError: not found, or not a tokenizer.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        where = "this folder holds no tokenizer" if Path(path).is_dir() else "neither a local folder nor on the hub"
        raise UserError(
            f"model.language.tokenizer: {path!r}: {where}. Give a folder with tokenizer.json; "
            "`python -m trainer.tokenizer` trains one from shards"
        ) from error
    tokenizer.add_tokens([IMAGE_START, IMAGE_END, IMAGE_PAD], special_tokens=True)  # known ones keep their ids
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of one token."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


class ConversationEncoder:
    """Turns samples into ids and ids into text, for one tokenizer, template and number of tokens per image."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        template: str,
        image_tokens: int,
        max_length: int,
    ) -> None:
        if template not in TEMPLATES:
            raise UserError(f"model.language.template: unknown {template!r}; one of {', '.join(TEMPLATES)}")
        self.tokenizer = tokenizer
        self.template = TEMPLATES[template]
        self.max_length = max_length
        end = self.template.end or tokenizer.eos_token
        if end is None or end not in tokenizer.get_vocab():
            raise UserError(
                f"model.language.tokenizer: {tokenizer.name_or_path!r} has no token {end!r}, "
                f"which ends an answer in template {template!r}"
            )
        self.end_id = token_id(tokenizer, end)
        self.pad_id = self.end_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.image_id = token_id(tokenizer, IMAGE_PAD)
        start, stop = token_id(tokenizer, IMAGE_START), token_id(tokenizer, IMAGE_END)
        self._image = [start, *[self.image_id] * image_tokens, stop]
        added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        control = {number: token for number, token in added.items() if len(token) > 1 and not token.isspace()}
        self._control_ids = control.keys() - {tokenizer.unk_token_id}  # which any text may need
        cuts = (f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in control.values())
        self._in_control = re.compile("|".join(cuts))

    def encode(self, sample: Sample) -> Encoded:
        """Ids and labels of a whole conversation.

        An answer that goes beyond `max_length` is cut at its end, without end token: the model is not taught to stop
        there. What comes before the first answer is never cut.

        Raises:
            Unusable: no answer token fits.
        """
        ids: list[int] = []
        labels: list[int] = []
        for text_ids, supervised in self._spans(sample.turns):
            ids += text_ids
            labels += text_ids if supervised else [IGNORE_INDEX] * len(text_ids)
        truncated = len(ids) > self.max_length
        if truncated:
            ids, labels = ids[: self.max_length], labels[: self.max_length]
            if self._cuts_image(ids, sample):
                raise Unusable("an image does not fit into max_length")
        if all(label == IGNORE_INDEX for label in labels):
            raise Unusable("no answer token fits into max_length")
        return Encoded(key=sample.key, task=sample.task, input_ids=ids, labels=labels, truncated=truncated)

    def prompt(self, sample: Sample) -> list[int]:
        """Ids up to where the last answer begins: what a model is given to answer."""
        spans = list(self._spans(sample.turns[:-1]))
        return [token for ids, _ in spans for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of an answer's ids; stops before the end token."""
        answer = list(ids)
        if self.end_id in answer:
            answer = answer[: answer.index(self.end_id)]
        return str(self.tokenizer.decode(answer, clean_up_tokenization_spaces=False))

    def _spans(self, turns: Sequence[Turn]) -> list[tuple[list[int], bool]]:
        """(ids, supervised) in order of the conversation."""
        form = self.template
        spans: list[tuple[list[int], bool]] = []
        if form.bos and self.tokenizer.bos_token_id is not None:
            spans.append(([self.tokenizer.bos_token_id], False))
        message = form.default_system
        if turns[0].role == "system":
            message, turns = turns[0].text, turns[1:]
        if message is not None:
            spans += [(self._control(form.system[0]), False), (self._plain(message), False)]
            spans.append((self._control(form.system[1]), False))
        for turn in turns:
            if turn.role == "user":
                spans.append((self._control(form.user[0]), False))
                spans += [(ids, False) for ids in self._user(turn.text)]
                spans.append((self._control(form.user[1]), False))
            else:
                spans.append(([*self._plain(turn.text), self.end_id], True))
        return spans

    def _user(self, text: str) -> list[list[int]]:
        first, *others = text.split(IMAGE_MARKER)
        pieces = [self._plain(first)]
        for piece in others:
            pieces += [self._image, self._control(self.template.after_image), self._plain(piece)]
        return pieces

    def _cuts_image(self, ids: list[int], sample: Sample) -> bool:
        return ids.count(self._image[-1]) < len(sample.images)

    def _control(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids) if text else []

    def _plain(self, text: str) -> list[int]:
        """A sample's own text, as it was before it was escaped: special tokens in it are characters like any other."""
        text = unescape(text)
        ids = self._ids(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        pieces = self._in_control.split(text)  # some vocabularies take them for words, or add them as not special
        return [token for piece in pieces for token in self._ids(piece)]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids) if text else []
