from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.source import Unit
from datagen.vqa.__main__ import main
from datagen.vqa.source import VqaSource
from tests.datagen.made_talk import write_chartqa, write_docvqa, write_image, write_json, write_llava
from varyforge.errors import UserError
from varyforge.escape import unescape
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.prompts import wordings
from varyforge.sample import IMAGE_MARKER, Sample
from varyforge.shards import ShardSet


def units(source: VqaSource) -> dict[str, Unit]:
    return {unit.id: unit for path in source.inputs() for unit in source.units(path, path)}


def outcomes(source: VqaSource) -> dict[str, Outcome]:
    return {name: unit.verdict or source.make(unit, unit.files) for name, unit in units(source).items()}


def own(folder: Path, *records: object, **settings: Any) -> VqaSource:
    """A file of records about a.jpg and b.jpg."""
    for name in ("a.jpg", "b.jpg"):
        write_image(folder / "images" / name)
    write_json(folder / "own.json", records)
    return VqaSource(records=[str(folder / "own.json")], images=str(folder / "images"), **settings)


def only(source: VqaSource) -> Outcome:
    (outcome,) = outcomes(source).values()
    return outcome


def written(outcome: Outcome) -> tuple[Sample, ...]:
    assert isinstance(outcome, Written), outcome
    return outcome.samples


@pytest.mark.parametrize("first_layout", [False, True])
def test_docvqa_as_published(tmp_path: Path, first_layout: bool) -> None:
    source = VqaSource(form="docvqa", images=str(write_docvqa(tmp_path, first_layout=first_layout)))
    made = outcomes(source)
    file = "train/train_v1.0.json" if first_layout else "spdocvqa_qas/train_v1.0_withQT.json"
    assert list(made) == [f"{file}#documents/{name}.png" for name in ("xnbl0037_1", "xnbl0037_2", "mxcj0037_4")]
    first, second, _ = made.values()
    assert isinstance(first, Written)
    assert first.notes == {"other_answers": 2, "images_png_l_to_jpeg": 1}
    assert [sample.answer for sample in first.samples] == ["1/8/93", "P. Carter", "Paul"]
    sample = first.samples[0]
    assert sample.task == "vqa"
    question = sample.turns[0].text.removeprefix(IMAGE_MARKER)
    place = int(str(sample.origin["prompt"]).removeprefix("vqa.en."))
    assert question == wordings("vqa", "en")[place].format(question="what is the date mentioned in this letter?")
    assert sample.origin == {
        "document": "docvqa/xnbl0037",
        "language": "en",
        "image": "documents/xnbl0037_1.png",
        "prompt": sample.origin["prompt"],
        "question": 337,
        "answers": '["1/8/93", "1 / 8 / 93"]',
    }
    assert written(second)[0].answer == "Brown & Williamson <\u2060s>"
    assert [unit.document for unit in units(source).values()] == ["docvqa/xnbl0037"] * 2 + ["docvqa/mxcj0037"]


def test_only_the_splits_asked_for_are_read(tmp_path: Path) -> None:
    write_docvqa(tmp_path, "val")
    with pytest.raises(UserError, match=r"nothing of docvqa here; looked for spdocvqa_qas/train_v1\.0_withQT\.json, "):
        list(VqaSource(form="docvqa", images=str(tmp_path)).inputs())
    write_docvqa(tmp_path)
    for splits in (["train"], ["val"]):
        source = VqaSource(form="docvqa", images=str(tmp_path), splits=splits)
        assert [source.document(path) for path in source.inputs()] == [f"spdocvqa_qas/{splits[0]}_v1.0_withQT.json"]
    write_docvqa(tmp_path, data_split="val")  # a file that is not what its name says
    rejected = list(outcomes(VqaSource(form="docvqa", images=str(tmp_path))).values())
    assert [(r.gate, r.value) for r in rejected if isinstance(r, Rejected)] == [
        ("splits", 3),
        ("splits", 1),
        ("splits", 1),
    ]
    with pytest.raises(ValueError, match="needs splits of train, val, test"):
        VqaSource(form="docvqa", images=str(tmp_path), splits=["dev"])


@pytest.mark.parametrize("above", ["", "ChartQA Dataset"])
def test_chartqa_as_published(tmp_path: Path, above: str) -> None:
    write_chartqa(tmp_path / above)
    source = VqaSource(form="chartqa", images=str(tmp_path))
    samples = {name: written(outcome) for name, outcome in outcomes(source).items()}
    folder = f"{above}/train" if above else "train"
    assert list(samples) == [
        f"{folder}/train_human.json#41699051005347.png",
        f"{folder}/train_augmented.json#two_col_60.png",
        f"{folder}/train_augmented.json#41699051005347.png",
    ]
    assert [(s.answer, s.origin["subset"], s.origin["document"]) for (s,) in samples.values()] == [
        ("14", "human", "chartqa/41699051005347.png"),
        ("2013", "augmented", "chartqa/two_col_60.png"),
        ("103.7", "augmented", "chartqa/41699051005347.png"),
    ]


def test_all_questions_in_one_conversation(tmp_path: Path) -> None:
    source = VqaSource(form="docvqa", images=str(write_docvqa(tmp_path)), turns="all")
    (sample,) = written(next(iter(outcomes(source).values())))
    assert [turn.text.count(IMAGE_MARKER) for turn in sample.turns] == [1, 0, 0, 0, 0, 0]
    assert [turn.text for turn in sample.turns[1::2]] == ["1/8/93", "P. Carter", "Paul"]
    assert "answers" not in sample.origin


def test_llava_as_published(tmp_path: Path) -> None:
    file, images = write_llava(tmp_path)
    source = VqaSource(records=[str(file)], images=str(images))
    bus, cat, text = outcomes(source).values()
    (sample,) = written(bus)
    assert sample.task == "instruct"
    assert sample.turns[0].text == "<image>\nWhat are the colors of the bus in the image?"
    assert (len(sample.turns), sample.images[0].data) == (4, (images / "000000033471.jpg").read_bytes())
    assert sample.origin == {
        "document": "coco/000000033471",
        "language": "en",
        "image": "000000033471.jpg",
        "form": "sharegpt",
    }
    assert written(cat)[0].turns[0].text == "Where is the cat positioned in the image?\n<image>"
    (alone,) = written(text)
    assert (alone.images, alone.answer, isinstance(text, Written) and text.notes) == ((), "4", {"sharegpt_records": 1})


def exchange(question: str, answer: str = "Yes.", **more: object) -> dict[str, object]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **more}


@pytest.mark.parametrize(
    ("record", "gate", "value", "threshold"),
    [
        (exchange("What?", image="a.jpg"), "image_markers", 0, 1),
        (exchange("<image> <image>", image="a.jpg"), "image_markers", 2, 1),
        (exchange("<image>"), "image_markers", 1, 0),
        (exchange("<image>", image=None), "image_markers", 1, 0),
        (exchange("<image>", "See <image>", images=["a.jpg", "b.jpg"]), "image_markers", 1, 0),
        (exchange("<image>", " ", image="a.jpg"), "answer_chars", 0, 1),
        ({"messages": []}, "answered_questions", 0, 1),
        ({"messages": [{"role": "tool", "content": "<image>"}], "image": "a.jpg"}, "image_markers", 1, 0),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]}, "roles", 1, 0),
        ({"question": "What?", "answer": "x"}, "images", 0, 1),
        ({"question": "What?", "answer": " ", "image": "a.jpg"}, "questions", 0, 1),
        ({"question": "\u200b", "answer": "x", "image": "a.jpg"}, "questions", 0, 1),
        ({"question": "What?", "answers": [], "image": "a.jpg"}, "questions", 0, 1),
    ],
)
def test_gates(tmp_path: Path, record: object, gate: str, value: int, threshold: int) -> None:
    rejected = only(own(tmp_path, record))
    assert isinstance(rejected, Rejected), rejected
    assert (rejected.gate, rejected.value, rejected.threshold) == (gate, value, threshold)


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ("prose", "wrong_form", "expected an object, found text"),
        ({"question": "What?"}, "wrong_form", "questions (question, answer); its keys: 'question'"),
        ({"question": None, "answer": "x", "image": "a.jpg"}, "wrong_form", "key 'question' is null, expected text"),
        ({"question": "x", "answer": True, "image": "a.jpg"}, "wrong_form", "key 'answer' holds a boolean"),
        ({"question": "x", "answer": float("nan"), "image": "a.jpg"}, "wrong_form", "key 'answer' holds nan"),
        ({"question": "x", "answers": ["x", None], "image": "a.jpg"}, "wrong_form", "key 'answers' holds null"),
        (exchange("<image>", image="a.jpg", images=["b.jpg"]), "wrong_form", "has both 'image' and 'images'"),
        (exchange("<image>", images=[3]), "wrong_form", "images[0] is a number, expected an image or its file name"),
        (exchange("<image>", images=[""]), "wrong_form", "images[0] is empty, expected an image or its file name"),
        (exchange("<image>", image="gone.jpg"), "missing_image", "no such file"),
        (exchange("<image>", image="../own.json"), "outside", "leads out of the folder"),
    ],
)
def test_failures(tmp_path: Path, record: object, reason: str, detail: str) -> None:
    failed = only(own(tmp_path, record))
    assert isinstance(failed, Failed), failed
    assert failed.reason == reason
    assert detail in failed.detail


def test_own_questions(tmp_path: Path) -> None:
    source = own(
        tmp_path,
        {"image": "a.jpg", "question": "  How many\n are there? ", "answer": 3, "id": "q1"},
        {"images": ["a.jpg", "b.jpg"], "question": "这两张图片有什么区别？", "answers": ["颜色", "顏色", "颜色"]},
        {"image": "a.jpg", "question": "3.5 + 1 =", "answer": 4.5},
        {"image": "a.jpg", "question": "How much is that?", "answer": 10**400},
        language="zh",
    )
    number, chinese, unknown, large = (written(outcome)[0] for outcome in outcomes(source).values())
    assert (number.answer, number.origin["question"], number.origin["language"]) == ("3", "q1", "en")
    assert "How many are there?" in number.turns[0].text
    assert (chinese.answer, chinese.origin["answers"], chinese.origin["language"]) == ("颜色", '["颜色", "顏色"]', "zh")
    assert chinese.turns[0].text.startswith("<image><image>") and len(chinese.images) == 2
    assert len(large.answer) == 401
    assert (unknown.answer, str(unknown.origin["prompt"])[:7]) == ("4.5", "vqa.zh.")  # `language` where none is seen


def test_an_image_may_stand_in_any_question(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "<image>他们是谁？"},
        {"role": "assistant", "content": "两个人。"},
        {"role": "user", "content": "他们在做什么？<image>"},
        {"role": "assistant", "content": "跑步。"},
        {"role": "user", "content": "<image>呢？"},
    ]
    outcome = only(own(tmp_path, {"messages": turns, "images": ["a.jpg", "a.jpg", "gone.jpg"]}))
    assert isinstance(outcome, Written)
    (sample,) = outcome.samples
    assert [turn.text for turn in sample.turns] == [turn["content"] for turn in turns[:4]]
    assert sample.images[0] is sample.images[1]  # decoded once
    assert outcome.notes == {"unanswered_questions": 1, "images_of_dropped_turns": 1, "messages_records": 1}
    assert outcome.language == "zh"


def test_questions_of_one_image_that_cannot_be_asked_are_counted(tmp_path: Path) -> None:
    write_docvqa(tmp_path)
    path = tmp_path / "spdocvqa_qas" / "train_v1.0_withQT.json"
    form = json.loads(path.read_text())
    questions = [("A?", ["1"]), (" ", ["1"]), ("B?", None), ("B?", [" "]), ("A? ", ["1"]), ("A?", ["2"])]
    image = form["data"][0]["image"]
    form["data"] = [{"image": image, "question": q, "answers": answers, "data_split": None} for q, answers in questions]
    form["data"] += [{"question": "C?", "answers": ["1"]}, 3, {"image": image, "question": "D?", "answers": [{}]}]
    path.write_text(json.dumps(form))
    outcome, *failed = sorted(outcomes(VqaSource(form="docvqa", images=str(tmp_path))).values(), key=str, reverse=True)
    assert isinstance(outcome, Written)
    assert [sample.answer for sample in outcome.samples] == ["1", "2"]
    assert outcome.notes == {
        "empty_questions": 1,
        "unanswered_questions": 2,
        "repeated_questions": 1,
        "images_png_l_to_jpeg": 1,
    }
    assert sorted(one.detail for one in failed if isinstance(one, Failed)) == [
        "expected an object, found a number",
        "key 'answers' holds an object, expected text or a number",
        "key 'image' is missing",
    ]


@given(question=st.text(max_size=20), answer=st.text(max_size=20))
def test_what_is_said_about_an_image_stays_text(
    tmp_path_factory: pytest.TempPathFactory, question: str, answer: str
) -> None:
    source = own(
        tmp_path_factory.mktemp("own"), exchange(f"<image>{question}</s>", f"{answer}<|im_end|>", image="a.jpg")
    )
    sample = written(only(source))[0]
    assert not any(control in turn.text for turn in sample.turns for control in ("</s>", "<|im_end|>"))
    asked = sample.turns[0].text.removeprefix(IMAGE_MARKER)
    assert [unescape(asked), unescape(sample.answer)] == [f"{question}</s>".rstrip(), f"{answer}<|im_end|>".lstrip()]


def test_a_job(tmp_path: Path) -> None:
    own(tmp_path)
    lines = [json.dumps(exchange("<image>?", image="a.jpg", id=n)) for n in range(2)]
    lines += ['{"image": "b.jpg", "question": "What?", "answer": "A.", "licence": 3}', '{"image": "b.jpg", "question']
    lines.append(json.dumps(exchange("<image>Half \ud83d", image="b.jpg")))
    (tmp_path / "own.jsonl").write_text("\n".join(lines))
    source = VqaSource(records=[str(tmp_path / "own.jsonl")], images=str(tmp_path / "images"))
    run_job(source, tmp_path / "out", JobSettings(), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    rows = shards.ledger().to_pylist()
    assert sorted((row["unit"][-1], row["outcome"], row["gate"] or row["reason"]) for row in rows)[2:] == [
        ("2", "written", ""),
        ("3", "failed", "wrong_form"),
        ("4", "failed", "unreadable"),
    ]
    assert sorted(row["gate"] for row in rows if row["unit"][-1] in "01") == ["", "duplicate"]
    assert {(row["task"], row["images"], row["document"]) for row in shards.table().to_pylist()} == {
        ("instruct", 1, "a.jpg"),
        ("vqa", 1, "b.jpg"),
    }


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["vqa", *words, "--runner", "local", "--workers", "1"])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    write_docvqa(tmp_path / "DocVQA")
    out = str(tmp_path / "out")
    assert run("--docvqa", str(tmp_path / "DocVQA"), "turns=all", "--out", out, "licence=own") == 0
    shards = ShardSet(out)
    assert shards.table().column("licence").to_pylist() == ["own"] * 3
    assert shards.job["config"]["settings"]["form"] == "docvqa"
    assert run("--llava", "a.json", "--out", out) == 2
    assert "a.json: no such file" in capsys.readouterr().err
    assert run("--chartqa", str(tmp_path), "--images", str(tmp_path), "--out", out) == 2
    assert run("--chartqa", str(tmp_path), "--docvqa", str(tmp_path), "--out", out) == 2


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list(VqaSource(records=["own.json"], images=str(tmp_path / "gone")).inputs())
    with pytest.raises(UserError, match=r"gone\.json: no such file or folder"):
        list(VqaSource(records=["gone.json"], images=str(tmp_path)).inputs())
    with pytest.raises(UserError, match=r"no \*\.json or \*\.jsonl or \*\.ndjson or \*\.parquet in this folder"):
        list(VqaSource(records=[str(tmp_path)], images=str(tmp_path)).inputs())
