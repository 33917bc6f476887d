from __future__ import annotations

import json
from pathlib import Path

import pytest

from datagen.chat import ChatSource
from datagen.errors import UserError
from datagen.job import JobSettings, run_job
from datagen.runner import LocalRunner
from datagen.shards import ShardSet


def test_every_record_ends_in_the_ledger(tmp_path: Path) -> None:
    records = [
        {"instruction": "Add.", "input": "2 and 3", "output": "5"},
        {"instruction": "说“你好”。", "output": "你好"},
        {"instruction": "Add.", "input": "2 and 3", "output": "5"},
        {"instruction": "Say nothing.", "output": " "},
        {"instruction": "What is <image>?", "output": "A marker."},
        {"instruction": "Half \ud83d", "output": "x"},
        {"instruction": "No answer"},
        {"instruction": "Number", "output": 5},
        "prose",
    ]
    (tmp_path / "chats.json").write_text(json.dumps(records))
    run_job(ChatSource(paths=[str(tmp_path / "chats.json")]), tmp_path / "out", JobSettings(), LocalRunner())
    shards = ShardSet(tmp_path / "out")
    rows = sorted(shards.ledger().to_pylist(), key=lambda row: row["unit"])
    causes = [row["outcome"] + ":" + (row["gate"] or row["reason"]) for row in rows]
    assert sorted((causes[0], causes[2])) == ["rejected:duplicate", "written:"]  # of equal ones, one stays
    del rows[2 if causes[2] == "rejected:duplicate" else 0]
    assert [row["outcome"] + ":" + (row["gate"] or row["reason"]) for row in rows] == [
        "written:",
        "written:",
        "rejected:answer_chars",
        "rejected:image_markers",
        "failed:unreadable",
        "failed:wrong_form",
        "failed:wrong_form",
        "failed:wrong_form",
    ]
    assert "'output' is missing" in rows[5]["detail"]
    assert "'output' is a int" in rows[6]["detail"]
    read = [shards.read(row["shard"], row["offset"], row["size"]) for row in shards.table().to_pylist()]
    assert [turn.text for turn in read[0].turns] == ["Add.\n2 and 3", "5"]
    assert [sample.origin["language"] for sample in read] == ["en", "zh"]


@pytest.mark.parametrize("text", ["{", "{}", "3"])
def test_a_file_of_the_wrong_form_is_one_failed_unit(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    (tmp_path / "good.json").write_text('[{"instruction": "Hi.", "output": "Hello."}]')
    summary = run_job(ChatSource(paths=[str(tmp_path)]), tmp_path / "out", JobSettings(), LocalRunner())
    assert (summary.units, summary.samples, summary.by_cause) == (2, 1, {("failed", "wrong_form"): 1})


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        list(ChatSource(paths=[str(tmp_path / "gone")]).inputs())
    with pytest.raises(UserError, match=r"no \*\.json"):
        list(ChatSource(paths=[str(tmp_path)]).inputs())
