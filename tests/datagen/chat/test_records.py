"""Chats record by record: whatever a record holds, it ends in one unit, and a sample alternates its turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datagen.chat.source import ChatSource
from datagen.source import Unit
from tests.datagen.made_talk import SHAREGPT
from varyforge.outcome import Failed, Rejected, Written

ROLES = st.sampled_from(["human", "user", "gpt", "assistant", "system", "bard", "nobody", ""])
TEXTS = st.text(max_size=12) | st.sampled_from(["Hello.", "<image>", "\u200b", " ", "<|endoftext|>"])
TURNS = st.lists(
    st.fixed_dictionaries({"from": ROLES, "value": TEXTS}) | st.fixed_dictionaries({"role": ROLES, "content": TEXTS}),
    max_size=5,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.integers() | st.sampled_from(["QWJhYvA_0", "QWJhYvA_17", "x"]),
        "conversations": TURNS | st.none(),
        "messages": TURNS,
        "instruction": TEXTS | st.integers(),
        "input": TEXTS,
        "output": TEXTS | st.none(),
        "image": st.sampled_from(["a.jpg", "", None]),
    },
)
FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def units(path: Path, records: list[Any]) -> tuple[ChatSource, list[Unit]]:
    path.write_text(json.dumps(records))
    source = ChatSource(paths=[str(path)])
    return source, list(source.units(str(path), str(path)))


@FUZZ
@given(st.lists(RECORDS | st.none() | st.text(max_size=3), min_size=1, max_size=4))
def test_every_record_is_one_unit(tmp_path: Path, records: list[Any]) -> None:
    source, made = units(tmp_path / "a.json", records)
    assert [unit.id for unit in made] == [f"a.json#{number:06d}" for number in range(len(records))]
    for unit in made:
        outcome = unit.verdict or source.make(unit, ())
        if isinstance(outcome, Written):
            (sample,) = outcome.samples
            roles = [turn.role for turn in sample.turns if turn.role != "system"]
            assert roles == ["user", "assistant"] * (len(roles) // 2) != []
            assert sample.task == "text" and not sample.images
        else:
            assert isinstance(outcome, Rejected | Failed)


@FUZZ
@given(st.lists(RECORDS, min_size=1, max_size=3))
def test_a_units_content_depends_on_the_turns_alone(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    _, made = units(tmp_path / "a.json", records)
    _, others = units(tmp_path / "b.json", [record | {"comment": "x"} for record in records])
    for one, other in zip(made, others, strict=True):
        if not isinstance(one.verdict, Failed) and not isinstance(other.verdict, Failed):
            assert one.content == other.content


def test_parts_of_one_conversation_are_one_document(tmp_path: Path) -> None:
    _, made = units(tmp_path / "a.json", SHAREGPT)
    assert [unit.document for unit in made[:3]] == ["a.json#QWJhYvA", "a.json#QWJhYvA", "a.json#i6IyJda"]
    _, plain = units(tmp_path / "a.json", [{"id": "QWJhYvA_0", "instruction": "Add.", "output": "5"}])
    assert plain[0].document == "a.json#000000"  # of another format


@pytest.mark.parametrize(
    "more", [{"image": "a.jpg"}, {"images": ["a.jpg", "b.jpg"]}, {"instruction": "What is this? <image>"}]
)
def test_records_about_images_are_for_another_source(tmp_path: Path, more: dict[str, Any]) -> None:
    _, (unit,) = units(tmp_path / "a.json", [{"instruction": "What is this?", "output": "A bus."} | more])
    if "instruction" in more:  # in a text without images, a marker is text
        assert unit.verdict is None
    else:
        assert isinstance(unit.verdict, Rejected) and unit.verdict.gate == "images"
        assert "datagen.vqa" in unit.verdict.detail
