"""LLaVA's captions for pre-training (blip_laion_cc_sbu_558k.json): a list of one exchange per image.

A record is {"id", "image", "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]}. The human's
words are an instruction that LLaVA chose, the answer is the caption.

See https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.caption.record import Captioned, wrong_form
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.json_records import records


def read_llava(file: str) -> Iterator[Captioned]:
    """The records of a file, one after the other.

    Raises:
        WrongFormat: while they are read: no JSON list, or it breaks off.
    """
    for record in records(Path(file)):
        yield _captioned(f"{record.number:08d}", record.value)


def _captioned(name: str, record: object) -> Captioned:
    """A record has exactly one question, whose words are not used, and the caption."""
    match record:
        case {
            "id": str() | int() as about,
            "image": str(image),
            "conversations": [{"from": "human", "value": str()}, {"from": "gpt", "value": str(caption)}],
        }:
            return Captioned(
                name=name,
                image=image,
                captions=(caption,),
                document=document_of_image(image),
                origin={"image_id": about},
            )
    return wrong_form(
        name, "expected an id, an image and one exchange of human and gpt; datagen.vqa takes longer conversations"
    )
