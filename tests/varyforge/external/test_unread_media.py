from __future__ import annotations

from typing import Any

import pytest

from varyforge.external.unread_media import placeholders, unread_media


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("<video>\nWhat does he do?", ["<video>"]),
        ("Listen: <audio>", ["<audio>"]),
        ("Picture 1: <img>images/a.jpg</img>\nWhat is it?", ["<img>images/a.jpg</img>"]),
        ("Audio 1: <audio>a.wav</audio>", ["<audio>a.wav</audio>"]),
        ("<image1> and <image_02>: what differs?", ["<image1>", "<image_02>"]),
        ("<|image_1|> <|vision_start|><ImageHere>", ["<|image_1|>", "<|vision_start|>", "<ImageHere>"]),
        ("<image>\nWhat is it?", ["<image>"]),
        ("What is it?\n<image>", ["<image>"]),
        ("What is <image>?", []),
        ("What does the `<video>` tag do, and '<audio>'?", []),
        ('<video src="a.mp4"></video> <video><source src="a"></video> <img src="a.png">', []),
        ("1 < 2", []),
    ],
)
def test_placeholders_in_a_question(text: str, places: list[str]) -> None:
    assert placeholders(text) == places


@pytest.mark.parametrize(
    ("record", "question", "detail"),
    [
        ({"video": "a.mp4"}, "What?", "key 'video': only images are read"),
        ({"video": None, "audio": ""}, "What?", None),
        ({}, "<video>\nWhat?", "'<video>' in a question: only images are read, no video or sound"),
        ({}, "<image1>: what?", "'<image1>' in a question: write <image>"),
    ],
)
def test_records_about_what_is_not_read(record: dict[str, Any], question: str, detail: str | None) -> None:
    rejected = unread_media(record, [question], remedy="write <image>")
    assert (rejected and (rejected.gate, rejected.detail)) == (detail and ("media", detail))
