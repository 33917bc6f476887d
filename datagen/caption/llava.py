"""The reader of LLaVA's captions for pre-training (blip_laion_cc_sbu_558k.json), one exchange per image.

The human turn is an instruction that LLaVA chose, and the answer is the caption.
Format: https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.caption.record import CaptionRecord, wrong_format
from datagen.inputs.json_records import json_id
from datagen.inputs.record import EmbeddedImage, document_of
from datagen.inputs.record_files import records
from varyforge.errors import WrongFormat


def read_llava(file: str) -> Iterator[CaptionRecord]:
    """Yield the records of a file.

    Raises:
        WrongFormat: the file is not a JSON list, or the list breaks off.
    """
    for record in records(Path(file)):
        name = f"{record.number:08d}"
        if record.wrong:
            yield wrong_format(name, record.wrong)
            continue
        match record.value:
            case {
                "id": str() | int() | float() as about,
                "image": (str() | EmbeddedImage()) as value,
                "conversations": [{"from": "human", "value": str()}, {"from": "gpt", "value": str(caption)}],
            }:
                try:
                    image = record.image(value, ("image",))
                except WrongFormat as error:
                    yield wrong_format(name, str(error))
                    continue
                yield CaptionRecord(
                    name=name,
                    image=image,
                    captions=(caption,),
                    document=document_of(image),
                    origin={"image_id": json_id(about) or str(about)},
                )
            case _:
                fault = "expected an id, an image and one exchange of human and gpt"
                yield wrong_format(name, f"{fault}; datagen.vqa takes longer conversations")
