"""The texts around a question's images. This module alone decides about the newline between an image and the text."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.text.chat_templates import Template


def texts_around_images(pieces: Sequence[str], template: Template) -> list[str]:
    """Return the texts before, between and behind the images of a question, as the template's model was trained.

    `pieces` are these texts in the data: one more than images. The text behind images that begin a question gets the
    template's `after_image`, unless it begins with white space of its own, as LLaVA's data does. All other texts stay
    as they are, because the releases replace `<image>` where it stands. With `image_first`, a question's only image
    moves to its start, as in LLaVA (llava/train/train.py, preprocess_multimodal).
    """
    texts = list(pieces)
    if template.image_first and len(texts) == 2:
        texts = ["", "".join(texts).strip()]
    first = next((number for number, text in enumerate(texts) if text), 0)
    if first > 0 and not texts[first][0].isspace():
        texts[first] = template.after_image + texts[first]
    return texts
