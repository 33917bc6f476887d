"""Miniature copies of chats and of questions about images, laid out and written as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image

SHAREGPT = [
    {
        "id": "QWJhYvA_0",
        "conversations": [
            {"from": "human", "value": "Summarize the main ideas of the book."},
            {"from": "gpt", "value": "<div>Here are the main ideas:</div><ol><li>Start early.</li></ol>"},
            {"from": "human", "value": "In bullet points, please."},
            {"from": "gpt", "value": "* Start early.\n* Keep going."},
            {"from": "human", "value": "And the second chapter?"},
        ],
    },
    {
        "id": "QWJhYvA_5",
        "conversations": [
            {"from": "gpt", "value": "It is about keeping at it."},
            {"from": "human", "value": "Thank you. Who wrote the book?"},
            {"from": "human", "value": "And when?"},
            {"from": "chatgpt", "value": "I do not know. "},
        ],
    },
    {"id": "i6IyJda_0", "conversations": []},
    {"id": "i6IyJda_9", "conversations": [{"from": "gpt", "value": "Only an answer."}]},
    {
        "id": "hRPPgZT_0",
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "user", "value": "你好，请介绍一下你自己。"},
            {"from": "bing", "value": "你好，我是一个语言模型。"},
            {"from": "human", "value": "\u200b"},
            {"from": "bard", "value": "I did not get that."},
        ],
    },
]

BAIZE = [
    {
        "topic": "How do I clean a keyboard?",
        "input": "The conversation between human and AI assistant.\n[|Human|] How do I clean a keyboard?\n"
        "[|AI|] Turn it over and shake it.\n[|Human|] Thanks!\n[|AI|] You're welcome!\n[|Human|] ",
    },
    {"topic": "Nothing", "input": "The conversation between human and AI assistant.\n[|Human|] "},
]

LLAVA = [
    {
        "id": "000000033471",
        "image": "000000033471.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat are the colors of the bus in the image?"},
            {"from": "gpt", "value": "The bus in the image is white and red."},
            {"from": "human", "value": "What feature can be seen on the back of the bus?"},
            {"from": "gpt", "value": "The back of the bus features an advertisement."},
        ],
    },
    {
        "id": "000000052846",
        "image": "000000052846.jpg",
        "conversations": [
            {"from": "human", "value": "Where is the cat positioned in the image?\n<image>"},
            {"from": "gpt", "value": "The cat is positioned on top of the back of the couch."},
        ],
    },
    {  # as in the set of 665K
        "id": "wYn4Cbb_0",
        "conversations": [
            {"from": "human", "value": "What is 2 + 2?"},
            {"from": "gpt", "value": "4"},
        ],
    },
]

DOCVQA = [
    (337, "what is the date mentioned in this letter? ", "xnbl0037_1.png", ["1/8/93", "1 / 8 / 93"]),
    (338, "what is the contact person name mentioned in letter?", "xnbl0037_1.png", ["P. Carter", "p. carter"]),
    (339, "Which corporation's letterhead is this?", "xnbl0037_2.png", ["Brown & Williamson <s>"]),
    (340, "What is the total?", "mxcj0037_4.png", ["24"]),
    (341, "To whom is it sent?", "xnbl0037_1.png", ["Paul"]),  # questions of an image need not stand together
]

CHARTQA = {
    "human": [("41699051005347.png", "How many food item is shown in the bar graph?", "14")],
    "augmented": [
        ("two_col_60.png", "In what year did the revenue reach 20.1?", "2013"),
        ("41699051005347.png", "What is the value of Lamb?", "103.7"),
    ],
}


def write_json(path: Path, value: object, indent: int | None = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=indent), encoding="utf-8")
    return path


def write_image(path: Path, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, (64 + len(path.name), 48), "white").save(path)
    return path


def write_docvqa(folder: Path, split: str = "train", *, first_layout: bool = False, **changes: Any) -> Path:
    """The Robust Reading Competition's archives (`spdocvqa_qas`, `spdocvqa_images`), or as it was first published."""
    if first_layout:
        questions, images = folder / split / f"{split}_v1.0.json", folder / split / "documents"
    else:
        questions, images = folder / "spdocvqa_qas" / f"{split}_v1.0_withQT.json", folder / "spdocvqa_images"
    data = [
        {
            "questionId": number,
            "question": question,
            "question_types": ["handwritten", "form"],
            "image": f"documents/{image}",
            "docId": 279,
            "ucsf_document_id": image.partition("_")[0],
            "ucsf_document_page_no": image.partition("_")[2].removesuffix(".png"),
            "answers": answers,
            "data_split": split,
            **changes,
        }
        for number, question, image, answers in DOCVQA
    ]
    head = {"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": split}
    write_json(questions, {**head, "data": data}, indent=None)
    for _, _, image, _ in DOCVQA:
        write_image(images / image, "L")
    return folder


def write_chartqa(folder: Path, split: str = "train") -> Path:
    for subset, questions in CHARTQA.items():
        records = [{"imgname": image, "query": query, "label": label} for image, query, label in questions]
        write_json(folder / split / f"{split}_{subset}.json", records)
        for image, _, _ in questions:
            write_image(folder / split / "png" / image)
    return folder


def write_llava(folder: Path) -> tuple[Path, Path]:
    """The file of conversations, and the folder of the images."""
    for record in LLAVA:
        if "image" in record:
            write_image(folder / "train2017" / str(record["image"]))
    return write_json(folder / "llava_instruct_80k.json", LLAVA), folder / "train2017"
