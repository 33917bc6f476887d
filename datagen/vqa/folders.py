"""Published data sets with one annotation file per image: AI2D, FUNSD and SROIE."""

from __future__ import annotations

import csv
import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, splitext
from typing import Any

from datagen.vqa.key_information import payload_of, questions_of_fields, questions_of_form
from varyforge.errors import WrongFormat, kind_of
from varyforge.external.conversations import RawTurn
from varyforge.external.text_encoding import not_utf8

_LETTER = "Answer with the option's letter from the given choices directly."  # LLaVA-1.5's words
_TEST_IDS = "ai2d_test_ids.csv"


@dataclass(frozen=True, slots=True)
class AnnotationFolder:
    """A folder with an annotation file per image."""

    annotations: str  # with the name of the split
    images: str
    suffix: str  # of annotation files
    ending: str  # of images, in place of the suffix
    read: Callable[[Any], Mapping[str, Any]]  # parsed file → payload; WrongFormat
    splits: Mapping[str, str]  # split → name in the paths
    test_ids: str = ""  # file that lists the images of the test split


def _receipt(content: Any) -> Mapping[str, Any]:
    return payload_of(questions_of_fields(content, "receipt"))


def _form(content: Any) -> Mapping[str, Any]:
    return payload_of(questions_of_form(content))


def _diagram(content: Any) -> Mapping[str, Any]:
    """Return the multiple-choice questions about a diagram as one conversation.

    Questions about letters are left out: the letters are drawn only on copies of the images.
    """
    questions = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(questions, dict):
        raise WrongFormat(f"key 'questions' is {kind_of(questions)}, expected an object")
    turns: list[RawTurn] = []
    lettered = 0
    for question, about in questions.items():
        choices = about.get("answerTexts") if isinstance(about, dict) else None
        right = about.get("correctAnswer") if isinstance(about, dict) else None
        if not isinstance(choices, list) or type(right) is not int or not 0 <= right < len(choices) <= 26:
            raise WrongFormat(f"the question {question!r:.60} has no answerTexts with a correctAnswer")
        if about.get("abcLabel"):
            lettered += 1
            continue
        options = "".join(f"\n{letter}. {text}" for letter, text in zip(string.ascii_uppercase, choices, strict=False))
        pieces = [f"{question}{options}\n{_LETTER}"]
        turns.append(("user", pieces if turns else ["", "\n" + pieces[0]]))
        turns.append(("assistant", [string.ascii_uppercase[right]]))
    return {"form": "ai2d", "turns": turns, "left_out": {"questions_about_letters": lettered}}


_SROIE = {"train": "train", "test": "test"}
FOLDERS: Mapping[str, Sequence[AnnotationFolder]] = {  # by data set; all that exist are read
    "ai2d": (
        AnnotationFolder("questions", "images", ".json", "", _diagram, dict.fromkeys(("train", "test"), ""), _TEST_IDS),
    ),
    "funsd": (
        AnnotationFolder(
            "{split}/annotations",
            "{split}/images",
            ".json",
            ".png",
            _form,
            {"train": "training_data", "test": "testing_data"},
        ),
    ),
    "sroie": (AnnotationFolder("{split}/entities", "{split}/img", ".txt", ".jpg", _receipt, _SROIE),),
}


def parse(file: str) -> Any:
    """Return the JSON of an annotation file.

    Raises:
        WrongFormat: it is not JSON in UTF-8.
        OSError: the file cannot be read.
    """
    try:
        return json.loads(Path(file).read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise WrongFormat(not_utf8(error)) from error
    except (ValueError, RecursionError) as error:
        raise WrongFormat(f"not JSON: {error}") from error


def image_of(folder: AnnotationFolder, path: str) -> str:
    """Return the file name of the image of an annotation file ("0.png.json" is that of "0.png")."""
    return basename(path).removesuffix(folder.suffix) + folder.ending


def is_test_image(test_ids: str, image: str) -> bool:
    """Whether the text of a file of test ids lists an image."""
    return any(row and row[0].strip() == splitext(image)[0] for row in csv.reader(test_ids.splitlines()))
