"""A folder with a miniature of every data set of the paper, in the layout in which each is published."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from datagen.examples.documents import write_documents
from tests.datagen.made_pictures import chart, page, scene
from tests.datagen.made_talk import BAIZE, SHAREGPT, write_json

LICENCES = [{"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}]
TEX = r"""\documentclass{article}
\newcommand{\norm}[1]{\lVert #1 \rVert}
\begin{document}
\section{A bound}
\input{body}
\begin{tabular}{lr} method & error \\ ours & 0.1 \\ theirs & 0.2 \end{tabular}
\end{document}
"""
BODY = r"For every vector $x$ of length $\norm{x} \le 1$ the bound $$\sum_i x_i^2 \le 1$$ holds, as we show below."


def write_paper_root(root: Path) -> Path:
    """Every data set of recipes/data, and the benchmarks."""
    _pdfs(root)
    _objects365(root / "objects365")
    _openimages(root / "openimages")
    _captions(root)
    _latex(root / "latex")
    _coco(root / "coco")
    _refcoco(root / "refcoco", root / "coco" / "train2014")
    _chats(root)
    _docvqa(root / "docvqa")
    _chartqa(root / "chartqa")
    _llava(root)
    _llava_16(root)
    return root


def save(picture: PIL.Image.Image, path: Path) -> PIL.Image.Image:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.convert("RGB").save(path)
    return picture


def _pdfs(root: Path) -> None:
    written = write_documents(root / "pdf", documents=6)
    for name in ("pdf_en", "pdf_zh"):
        (root / name).mkdir()
        for document in written:
            (root / name / document.name).write_bytes(document.read_bytes())


def _instances(names: Mapping[int, str], folder: Path, place: Callable[[str], str]) -> dict[str, Any]:
    """COCO form: two boxes in each image."""
    images, annotations = [], []
    for number, name in names.items():
        picture = save(scene(number % 10_000), folder / place(name))
        size = {"width": picture.width, "height": picture.height}
        images.append({"license": 4, "file_name": name, **size, "id": number, "coco_url": ""})
        for index in range(2):
            about = {"id": 10 * number + index, "image_id": number, "category_id": 1 + index, "iscrowd": 0}
            annotations.append({**about, "bbox": [10.5 + 20 * index, 12, 40, 30.25], "area": 1200.0})
    categories = [{"id": 1, "name": "Person"}, {"id": 2, "name": "Street Lights"}]
    return {"images": images, "annotations": annotations, "categories": categories, "licenses": LICENCES}


def _objects365(folder: Path) -> None:
    names = {420917 + n: f"images/v1/patch8/objects365_v1_{420917 + n:08d}.jpg" for n in range(3)}
    form = _instances(names, folder / "train", lambda name: name.removeprefix("images/v1/"))
    write_json(folder / "zhiyuan_objv2_train.json", form, indent=None)


def _openimages(folder: Path) -> None:
    columns = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"]
    flags = ["IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"]
    boxes, images = [[*columns, *flags]], []
    for number in range(2):
        name = f"00000{number:011x}"
        save(scene(100 + number), folder / "train_0" / f"{name}.jpg")
        for label in ("/m/01g317", "/m/0cmf2"):
            corners = ["0.1", "0.5", "0.25", "0.75"] if label == "/m/01g317" else ["0.5", "0.9", "0.1", "0.2"]
            boxes.append([name, "xclick", label, "1", *corners, "0", "0", "0", "0", "0"])
        licence = "https://creativecommons.org/licenses/by/2.0/"
        images.append([name, "train", "", "", licence, "", "somebody", "a title", "", "", "", ""])
    head = ["ImageID", "Subset", "OriginalURL", "OriginalLandingURL", "License", "AuthorProfileURL", "Author", "Title"]
    head += ["OriginalSize", "OriginalMD5", "Thumbnail300KURL", "Rotation"]
    _csv(folder / "oidv6-train-annotations-bbox.csv", boxes)
    _csv(
        folder / "oidv7-class-descriptions-boxable.csv",
        [["LabelName", "DisplayName"], ["/m/01g317", "Person"], ["/m/0cmf2", "Airplane"]],
    )
    _csv(folder / "train-images-boxable-with-rotation.csv", [head, *images])


def _csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _captions(root: Path) -> None:
    (root / "laion_coco").mkdir()
    with tarfile.open(root / "laion_coco" / "00000.tar", "w") as tar:
        for number in range(3):
            key, out = f"00000{number:04d}", io.BytesIO()
            scene(200 + number).save(out, "JPEG")
            about = {"caption": f"Scene number {number}", "key": key, "status": "success", "url": "http://a.org/b.jpg"}
            texts = {"txt": about["caption"].encode(), "json": json.dumps(about).encode()}
            for ending, data in {"jpg": out.getvalue(), **texts}.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (root / "laion_coco" / "00000_stats.json").write_text("{}")
    records = []
    for number in range(2):
        name = f"00453/00453937{number}.jpg"
        save(scene(300 + number), root / "blip_558k" / "images" / name)
        said = [
            {"from": "human", "value": "Render a clear and concise summary of the photo.\n<image>"},
            {"from": "gpt", "value": f"select luxury furniture {number}"},
        ]
        records.append({"id": name[6:-4], "image": name, "conversations": said})
    write_json(root / "blip_558k" / "blip_laion_cc_sbu_558k.json", records)


def _latex(folder: Path) -> None:
    folder.mkdir()
    with tarfile.open(folder / "2401.12503.tar.gz", "w:gz") as tar:
        for name, text in (("main.tex", TEX), ("body.tex", BODY)):
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))


def _coco(folder: Path) -> None:
    names = {33471 + n: f"{33471 + n:012d}.jpg" for n in range(3)}
    form = _instances(names, folder, lambda name: f"train2017/{name}")
    write_json(folder / "annotations" / "instances_train2017.json", form, indent=None)


def _refcoco(folder: Path, images: Path) -> None:
    """Image 581857 is in training, 581858 in RefCOCO's val."""
    names = {n: f"COCO_train2014_{n:012d}.jpg" for n in (581857, 581858)}
    form = _instances(names, images, str)
    for name, file in (("refcoco", "refs(unc).p"), ("refcoco+", "refs(unc).p"), ("refcocog", "refs(umd).p")):
        refs = [
            {
                "ref_id": number,
                "ann_id": 10 * image,
                "category_id": 1,
                "image_id": image,
                "file_name": f"COCO_train2014_{image:012d}_{10 * image}.jpg",
                "split": split,
                "sent_ids": [number],
                "sentences": [{"sent_id": number, "sent": f"the left one {name}", "raw": "The left one", "tokens": []}],
            }
            for number, (image, split) in enumerate([(581857, "train"), (581858, "val")])
        ]
        write_json(folder / name / "instances.json", form, indent=None)
        (folder / name / file).write_bytes(pickle.dumps(refs, 2))


def _chats(root: Path) -> None:
    write_json(root / "sharegpt" / "ShareGPT_V3_unfiltered_cleaned_split.json", SHAREGPT)
    write_json(root / "baize" / "quora_chat_data.json", BAIZE)
    write_json(
        root / "alpaca" / "alpaca_data.json", [{"instruction": "Name a fruit.", "input": "", "output": "A pear."}]
    )


def _docvqa(folder: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        name = f"xnbl003{number}_1.png"
        save(page(number), folder / "spdocvqa_images" / name)
        about = {"questionId": number, "question": "What is the date?", "image": f"documents/{name}", "docId": number}
        about |= {"ucsf_document_id": name[:8], "ucsf_document_page_no": "1", "data_split": split}
        answers = {} if split == "test" else {"answers": ["May 1", "1 May"]}
        file = folder / "spdocvqa_qas" / (f"{split}_v1.0.json" if split == "test" else f"{split}_v1.0_withQT.json")
        write_json(file, {"dataset_name": "SP-DocVQA", "dataset_split": split, "data": [about | answers]}, indent=None)


def _chartqa(folder: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for subset in ("human", "augmented"):
            name = f"two_col_{number}{subset[0]}.png"
            save(chart(2 * number + (subset == "human")), folder / split / "png" / name)
            asked = [{"imgname": name, "query": "How many in 2010?", "label": "12.5"}]
            write_json(folder / split / f"{split}_{subset}.json", asked)


def _llava(root: Path) -> None:
    said = [
        {"from": "human", "value": "What is in the picture?\n<image>"},
        {"from": "gpt", "value": "Two boxes."},
        {"from": "human", "value": "Where?"},
        {"from": "gpt", "value": "On the left."},
    ]
    records = [{"id": "000000033471", "image": "000000033471.jpg", "conversations": said}]
    for name in ("llava_instruct_80k", "llava_instruct_150k"):
        write_json(root / "llava" / f"{name}.json", records)
    for number, folder in enumerate(
        ("gqa/images", "ocr_vqa/images", "textvqa/train_images", "vg/VG_100K", "vg/VG_100K_2")
    ):
        save(scene(400 + number), root / folder / f"{number}.jpg")
        records.append({"id": str(number), "image": f"{folder}/{number}.jpg", "conversations": said})
    records[0] = records[0] | {"image": "coco/train2017/000000033471.jpg"}
    alone = [{"from": "human", "value": "Who wrote Faust?"}, {"from": "gpt", "value": "Goethe."}]
    write_json(root / "llava" / "llava_v1_5_mix665k.json", [*records, {"id": "text", "conversations": alone}])
    captioned = []
    for number in range(2):
        name = f"GCC_train_00000000{number}.jpg"
        save(scene(500 + number), root / "cc3m_595k" / "images" / name)
        asked = [
            {"from": "human", "value": "Provide a brief description of the given image.\n<image>"},
            {"from": "gpt", "value": f"the view from place {number}"},
        ]
        captioned.append({"id": name[:-4], "image": name, "conversations": asked})
    write_json(root / "cc3m_595k" / "chat.json", captioned)


def _llava_16(root: Path) -> None:
    """The sets of LLaVA-1.6's list, and receipts and forms."""
    for number, name in enumerate(("llava/llava_pretrain", "sam", "wikiart", "web-celebrity", "web-landmark")):
        save(scene(600 + number), root / name / "images" / "a.jpg")
    save(scene(610), root / "share_textvqa" / "images" / "b.jpg")
    said = [{"from": "human", "value": "What do you see?\n<image>"}, {"from": "gpt", "value": "A long description."}]
    described = [{"id": "a", "image": f"{name}/images/a.jpg", "conversations": said} for name in ("sam", "wikiart")]
    write_json(root / "sharegpt4v" / "sharegpt4v_instruct_gpt4-vision_cap100k.json", described)
    (root / "laion_gpt4v").mkdir()
    shutil.copy(root / "laion_coco" / "00000.tar", root / "laion_gpt4v" / "00000.tar")
    save(chart(30), root / "dvqa" / "images" / "bar_train_00000001.png")
    asked = {
        "question": "What is the first bar?",
        "question_id": 1,
        "template_id": "data",
        "answer": "fun",
    }
    write_json(root / "dvqa" / "qa" / "train_qa.json", [asked | {"image": "bar_train_00000001.png", "answer_bbox": []}])
    for name in ("0.png", "1.png"):
        save(page(40 + int(name[0])), root / "ai2d" / "images" / name)
        about = {"abcLabel": False, "answerTexts": ["egg", "pupa"], "correctAnswer": 1, "questionId": f"{name}-0"}
        lettered = {"What is A?": about | {"abcLabel": True}, "What comes after the larva?": about}
        write_json(root / "ai2d" / "questions" / f"{name}.json", {"imageName": name, "questions": lettered})
    (root / "ai2d" / "ai2d_test_ids.csv").write_text("1\n")
    _forms(root)
    _parquet(root)


def _forms(root: Path) -> None:
    save(page(50), root / "funsd" / "training_data" / "images" / "0000971160.png")
    form = [
        {"id": 0, "text": "Date:", "box": [1, 2, 3, 4], "linking": [[0, 1]], "label": "question", "words": []},
        {"id": 1, "text": "May 1", "box": [5, 2, 9, 4], "linking": [[0, 1]], "label": "answer", "words": []},
        {"id": 2, "text": "FORM", "box": [5, 2, 9, 4], "linking": [], "label": "header", "words": []},
    ]
    write_json(root / "funsd" / "training_data" / "annotations" / "0000971160.json", {"form": form})
    save(page(51), root / "sroie" / "train" / "img" / "X00016469612.jpg")
    fields = {"company": "BOOK TA .K", "date": "25/12/2018", "address": "NO.53 JALAN", "total": "9.00"}
    write_json(root / "sroie" / "train" / "entities" / "X00016469612.txt", fields, indent=4)


def _parquet(root: Path) -> None:
    """Data sets as the library `datasets` writes them to the hub, with the images inside."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    turns = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
    asked = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A scene."}]
    texts = pa.string()
    receipt = {"menu": [{"nm": "TEA", "cnt": "2", "price": "8"}], "total": {"total_price": "8"}}
    for number, (folder, columns) in enumerate(
        {
            "llava_next": {"id": (texts, "1"), "conversations": (turns, asked), "data_source": (texts, "x")},
            "synthdog_en": {"ground_truth": (texts, json.dumps({"gt_parse": {"text_sequence": "some words"}}))},
            "cord": {"ground_truth": (texts, json.dumps({"gt_parse": receipt, "valid_line": []}))},
        }.items()
    ):
        out = io.BytesIO()
        page(60 + number).save(out, "PNG")
        picture = pa.array([{"bytes": out.getvalue(), "path": None}], image)
        about = {"info": {"features": {"image": {"_type": "Image"}}}}
        table = pa.table(
            {name: pa.array([value], kind) for name, (kind, value) in columns.items()} | {"image": picture}
        )
        (root / folder / "data").mkdir(parents=True)
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, root / folder / "data" / "train-00000-of-00001-6750203d6a93046a.parquet")
