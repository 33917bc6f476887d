"""Samples → answers of a model: the loop that evaluation and every demonstration use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from datagen.sample import Sample
from trainer.encode import ConversationEncoder, sizes_of
from trainer.model import VisionLanguageModel
from trainer.pixels import pixels, stack_pixels


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
    """Greedy answers to the last user turn of each sample, in order; what the sample itself answers is not seen."""
    device = next(model.parameters()).device
    remaining = iter(samples)
    while batch := list(islice(remaining, batch_size)):
        prompts = [encoder.prompt(sample) for sample in batch]
        length = max(map(len, prompts))
        ids = np.full((len(batch), length), encoder.pad_id)
        mask = np.zeros((len(batch), length), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = prompt
            mask[row, length - len(prompt) :] = 1
        images = [pixels(image, model.layout) for sample in batch for image in sample.images]
        said = model.generate(
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask).to(device),
            {name: tensor.to(device) for name, tensor in stack_pixels(images, model.layout.preprocess).items()},
            [size for sample in batch for size in sizes_of(sample)],
            max_new_tokens=max_new_tokens,
            eos_id=encoder.end_id,
        )
        for answer in said:
            yield Answer(text=encoder.decode(answer), finished=encoder.end_id in answer)
