"""Answers of a model to samples, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.batch import Unusable
from trainer.images.pixels import pixels, stack_pixels
from trainer.model.vlm import VisionLanguageModel
from trainer.text.encode import ConversationEncoder, image_sizes
from varyforge.errors import UserError
from varyforge.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedAnswer:
    """A model's answer to one sample."""

    text: str
    finished: bool  # False: cut off at `max_new_tokens` or at the model's last position


def answers(
    model: VisionLanguageModel,
    encoder: ConversationEncoder,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[GeneratedAnswer]:
    """Yield greedy answers to the last user turn of each sample, in order. The model does not see the true answer.

    Raises:
        UserError: a sample cannot be used; the message names it.
    """
    device = next(model.parameters()).device
    remaining = iter(samples)
    while batch := list(islice(remaining, batch_size)):
        prompts, images = zip(*(_prompt(sample, encoder) for sample in batch), strict=True)
        length = max(map(len, prompts))
        ids = np.full((len(batch), length), encoder.pad_id)
        mask = np.zeros((len(batch), length), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = prompt
            mask[row, length - len(prompt) :] = 1
        views = stack_pixels([*chain(*images)], model.layout.preprocess)
        replies = model.generate(
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
            {name: tensor.to(device) for name, tensor in views.items()},
            [size for sample in batch for size in image_sizes(sample)],
            max_new_tokens=max_new_tokens,
            eos_id=encoder.end_id,
        )
        for reply in replies:
            yield GeneratedAnswer(text=encoder.decode(reply), finished=encoder.end_id in reply)


def _prompt(sample: Sample, encoder: ConversationEncoder) -> tuple[list[int], list[dict[str, NDArray[np.uint8]]]]:
    """Return the ids of a sample's prompt and the views of its images by encoder."""
    try:
        return encoder.prompt(sample), [pixels(image, encoder.layout) for image in sample.images]
    except Unusable as error:
        raise UserError(f"sample {sample.key!r} cannot be answered: {error}") from error
