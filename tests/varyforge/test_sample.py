from __future__ import annotations

import json
from contextlib import suppress

import pytest

from varyforge.sample import Image, Sample, Turn, from_json, make_key, to_json

PICTURE = Image(data=b"jpeg bytes", format="jpg", width=3, height=2)


def turns(*texts: str) -> tuple[Turn, ...]:
    return tuple(Turn(role=("user", "assistant")[n % 2], text=text) for n, text in enumerate(texts))  # type: ignore[arg-type]


def sample(**changes: object) -> Sample:
    fields: dict[str, object] = {
        "key": "pdf-0",
        "task": "ocr",
        "turns": turns("<image>Read.", "text"),
        "images": (PICTURE,),
        "source": "pdf",
        "origin": {"document": "a.pdf", "page": 1},
    }
    return Sample(**{**fields, **changes})  # type: ignore[arg-type]


def test_json_round_trip() -> None:
    made = sample(turns=(Turn(role="system", text="Be brief."), *turns("<image>a", "b", "c", "d")))
    record = json.loads(json.dumps(to_json(made)))
    assert from_json(record, [PICTURE.data]) == made


def test_a_turn_that_is_not_learned_alone_has_a_key_more() -> None:
    first, _, *rest = turns("<image>a", "b", "c", "d")
    made = sample(turns=(first, Turn(role="assistant", text="b", supervised=False), *rest))
    record = json.loads(json.dumps(to_json(made)))
    assert record["turns"][1] == {"role": "assistant", "text": "b", "supervised": False}
    assert [sorted(turn) for turn in to_json(sample())["turns"]] == [["role", "text"]] * 2  # type: ignore[attr-defined]
    assert from_json(record, [PICTURE.data]) == made


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"key": "Name.with.dots"}, "a key is"),
        ({"key": "x" * 65}, "a key is"),
        ({"task": "poetry"}, "task 'poetry'"),
        ({"turns": turns("<image>only a question")}, "alternate"),
        ({"turns": turns("<image>a", "b", "c")}, "alternate"),
        ({"turns": ()}, "alternate"),
        ({"turns": turns("<image>a", "  ")}, "empty"),
        ({"turns": turns("<image>a", "b", "c", "")}, "empty"),
        ({"turns": turns("<image>a", "\ud83d")}, "lone surrogate"),
        (
            {"turns": (turns("<image>a")[0], Turn(role="assistant", text="b", supervised=False))},
            "true for the last turn",
        ),
        ({"turns": turns("no marker", "b")}, "0 <image> markers in user turns for 1 images"),
        ({"images": ()}, "1 <image> markers in user turns for 0 images"),
        ({"origin": {"boxes": [1, 2]}}, "origin['boxes'] is a list"),
    ],
)
def test_broken_rules_are_named(changes: dict[str, object], rule: str) -> None:
    with pytest.raises(ValueError) as error:
        sample(**changes)
    assert rule in str(error.value)
    assert repr(changes.get("key", "pdf-0")) in str(error.value)


def test_from_json_names_what_is_missing() -> None:
    record = to_json(sample())
    del record["task"]
    with pytest.raises(ValueError, match=r"'pdf-0'.*task"):
        from_json(record, [PICTURE.data])
    with pytest.raises(ValueError, match="1 images described, 0 present"):
        from_json(to_json(sample()), [])


@pytest.mark.parametrize("junk", [None, 5, True, "x", [], {}, [None], {"role": "user"}], ids=repr)
def test_json_of_another_form_is_refused_whatever_it_is(junk: object) -> None:
    record = to_json(sample())
    wrong: list[object] = [junk, *(record | {field: junk} for field in ("task", "turns", "images"))]
    wrong.append(record | {"turns": [{"role": "user", "text": junk}, {"role": "assistant", "text": junk}]})
    wrong.append(record | {"images": [junk]})
    for made in wrong:
        with pytest.raises(ValueError):
            from_json(made, [PICTURE.data])  # type: ignore[arg-type]
    for field in ("key", "origin"):
        with suppress(ValueError):  # some of them will do
            from_json(record | {field: junk}, [PICTURE.data])


def test_keys_are_stable_and_distinct() -> None:
    assert make_key("pdf", "abc", 1) == make_key("pdf", "abc", 1)
    assert make_key("pdf", "abc", 1) != make_key("pdf", "abc1", "")
    assert len(make_key("x" * 39, "a")) == 64
