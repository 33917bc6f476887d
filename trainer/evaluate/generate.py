"""Samples → answers of a model: the loop that evaluation and every demonstration use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.batch import Unusable
from trainer.images.pixels import pixels, stack_pixels
from trainer.model import VisionLanguageModel
from trainer.text.encode import ConversationEncoder, image_sizes
from varyforge.errors import UserError
from varyforge.sample import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said."""

    text: str
    finished: bool  # False: it was cut, at `max_new_tokens` or the model's last position


def answers(
    model: VisionLanguageModel,
    encoder: ConversationEncoder,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int,
    batch_size: int,
) -> Iterator[Answer]:
    """Greedy answers to the last user turn of each sample, in order; what the sample itself answers is not seen.

    UserError names a sample that cannot be used.
    """
    device = next(model.parameters()).device
    remaining = iter(samples)
    while batch := list(islice(remaining, batch_size)):
        prompts, images = zip(*(_given(sample, encoder) for sample in batch), strict=True)
        length = max(map(len, prompts))
        ids = np.full((len(batch), length), encoder.pad_id)
        mask = np.zeros((len(batch), length), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = prompt
            mask[row, length - len(prompt) :] = 1
        said = model.generate(
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
            {
                name: tensor.to(device)
                for name, tensor in stack_pixels([*chain(*images)], model.layout.preprocess).items()
            },
            [size for sample in batch for size in image_sizes(sample)],
            max_new_tokens=max_new_tokens,
            eos_id=encoder.end_id,
        )
        for answer in said:
            yield Answer(text=encoder.decode(answer), finished=encoder.end_id in answer)


def _given(sample: Sample, encoder: ConversationEncoder) -> tuple[list[int], list[dict[str, NDArray[np.uint8]]]]:
    """A sample's prompt, and the views of its images."""
    try:
        return encoder.prompt(sample), [pixels(image, encoder.layout) for image in sample.images]
    except Unusable as error:
        raise UserError(f"sample {sample.key!r} cannot be answered: {error}") from error
