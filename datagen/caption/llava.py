"""The reader of LLaVA's captions for pre-training (blip_laion_cc_sbu_558k.json), one exchange per image.

A record is {"id", "image", "conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}]}. The human turn is
an instruction that LLaVA chose, and the answer is the caption.

Format: https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.caption.record import CaptionRecord, wrong_format
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.json_records import records


def read_llava(file: str) -> Iterator[CaptionRecord]:
    """Yield the records of a file.

    Raises:
        WrongFormat: the file is not a JSON list, or the list breaks off.
    """
    for record in records(Path(file)):
        yield _captioned(f"{record.number:08d}", record.value)


def _captioned(name: str, record: object) -> CaptionRecord:
    """Read a record of exactly one question, whose text is not used, and the caption."""
    match record:
        case {
            "id": str() | int() as about,
            "image": str(image),
            "conversations": [{"from": "human", "value": str()}, {"from": "gpt", "value": str(caption)}],
        }:
            return CaptionRecord(
                name=name,
                image=image,
                captions=(caption,),
                document=document_of_image(image),
                origin={"image_id": about},
            )
    return wrong_format(
        name, "expected an id, an image and one exchange of human and gpt; datagen.vqa takes longer conversations"
    )
