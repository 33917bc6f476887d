import os
import subprocess
import sys

import pytest

from varyforge.prompts import choose, join_names, prompted, wordings

FIELDS = {
    "referring": {"classes": "cat, dog"},
    "referring_phrase": {"phrase": "the left woman"},
    "referring_box": {"box": "[010, 020, 300, 400]"},
    "vqa": {"question": "What is the total?"},
    "field": {"field": "invoice_number"},
}
EACH_LIST = [(task, language) for task in prompted() for language in ("en", "zh")]


def test_every_task_that_asks_about_an_image_has_prompts():
    expected = {
        "caption",
        "ocr",
        "markdown",
        "chart",
        "detection",
        "referring",
        "referring_phrase",
        "referring_box",
        "vqa",
        "fields",
        "field",
    }
    assert set(prompted()) == expected


@pytest.mark.parametrize(("task", "language"), EACH_LIST)
def test_ten_or_more_different_wordings_with_the_same_placeholders(task, language):
    listed = wordings(task, language)
    assert len(listed) >= 10
    assert len({" ".join(wording.casefold().split()) for wording in listed}) == len(listed)
    for wording in listed:
        filled = wording.format(**FIELDS.get(task, {}))
        assert "{" not in filled and filled == filled.strip()
        assert all(text in filled for text in FIELDS.get(task, {}).values())
        assert any("\u4e00" <= char <= "\u9fff" for char in wording) == (language == "zh")


def test_the_papers_wording_comes_first():
    assert wordings("ocr")[0] == "Provide the OCR results of this image."
    assert wordings("ocr", "zh")[0] == "写出这幅图中所有文字。"
    assert wordings("markdown")[0] == "Convert the image to markdown format."
    assert wordings("detection")[0] == "Detect all objects in this image."
    assert wordings("referring")[0].format(classes=join_names(["cat", "dog"])) == "Detect cat, dog, in this image."
    assert wordings("referring_phrase")[0].format(phrase="the left woman") == "Detect an object: the left woman."
    assert wordings("vqa")[0].format(question="Who?") == "Who? Answer using a single word or phrase."


def test_a_key_always_gets_the_same_prompt_and_keys_share_out_the_wordings():
    keys = [f"pdf-{number}" for number in range(500)]
    chosen = [choose("ocr", "en", key) for key in keys]
    assert chosen == [choose("ocr", "en", key) for key in keys]
    assert {prompt.text for prompt in chosen} == set(wordings("ocr"))
    assert all(wordings("ocr")[int(prompt.name.removeprefix("ocr.en."))] == prompt.text for prompt in chosen)
    assert max(map(chosen.count, set(chosen))) < 2 * 500 / len(wordings("ocr"))


def test_the_choice_does_not_depend_on_the_process():
    code = "from varyforge.prompts import choose; print([choose('caption', 'en', str(n)).text for n in range(20)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_the_choice_is_the_one_that_shards_were_written_with():
    golden = ("Convert the writing in this image to plain text.", "ocr.en.10")  # another one changes shards
    assert choose("ocr", "en", "pdf-0") == golden


def test_fields_are_put_in_as_they_are():
    assert "{weird} <b>" in choose("vqa", "en", "k", question="{weird} <b>").text


def test_fields_bring_no_control_tokens() -> None:
    assert "</s>" not in choose("vqa", "en", "k", question="</s> <image>").text


def test_other_languages_are_asked_in_english():
    assert wordings("ocr", "fr") == wordings("ocr", "") == wordings("ocr", "en")
    assert wordings("ocr", "zh-Hant") == wordings("ocr", "zh")
    assert join_names(["猫", "狗"], "zh") == "猫、狗"


@pytest.mark.parametrize(
    ("arguments", "fields", "said"),
    [
        (("orc", "en", "k"), {}, r"'orc', expected one of .*ocr"),
        (("text", "en", "k"), {}, "no prompts for task 'text'"),
        (("ocr", "English", "k"), {}, "'en', 'zh'"),
        (("vqa", "en", "k"), {}, r"\['question'\], found \[\]"),
        (("ocr", "en", "k"), {"question": "Why?"}, r"found \['question'\]"),
    ],
)
def test_mistakes_are_named(arguments, fields, said):
    with pytest.raises(ValueError, match=said):
        choose(*arguments, **fields)
