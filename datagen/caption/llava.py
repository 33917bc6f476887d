"""The reader of LLaVA's captions for pre-training (blip_laion_cc_sbu_558k.json), one exchange per image.

The human turn is an instruction that LLaVA chose, and the answer is the caption.
Format: https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.caption.record import CaptionRecord, wrong_format
from datagen.inputs.image_ids import document_of_image
from datagen.inputs.json_records import json_id, records


def read_llava(file: str) -> Iterator[CaptionRecord]:
    """Yield the records of a file.

    Raises:
        WrongFormat: the file is not a JSON list, or the list breaks off.
    """
    for record in records(Path(file)):
        name = f"{record.number:08d}"
        match record.value:
            case {
                "id": str() | int() | float() as about,
                "image": str(image),
                "conversations": [{"from": "human", "value": str()}, {"from": "gpt", "value": str(caption)}],
            }:
                yield CaptionRecord(
                    name=name,
                    image=image,
                    captions=(caption,),
                    document=document_of_image(image),
                    origin={"image_id": json_id(about) or str(about)},
                )
            case _:
                fault = "expected an id, an image and one exchange of human and gpt"
                yield wrong_format(name, f"{fault}; datagen.vqa takes longer conversations")
