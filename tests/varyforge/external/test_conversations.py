from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datagen.made_talk import BAIZE, SHAREGPT
from varyforge.errors import WrongFormat
from varyforge.escape import unescape
from varyforge.external.conversations import ROLES, Dialogue, RawTurn, is_seen, read_turns, tidy
from varyforge.outcome import Rejected
from varyforge.sample import IMAGE_MARKER, Image, Sample


def talk(*turns: tuple[str, str]) -> list[RawTurn]:
    roles = {"u": "user", "a": "assistant", "s": "system"}
    return [(roles.get(role, role), [text]) for role, text in turns]


def tidied(*turns: tuple[str, str]) -> tuple[list[tuple[str, str]], dict[str, int]]:
    dialogue = tidy(talk(*turns))
    assert isinstance(dialogue, Dialogue), dialogue
    return [(turn.role[0], turn.text) for turn in dialogue.turns], dict(dialogue.notes)


@pytest.mark.parametrize(
    ("record", "form", "turns"),
    [
        ({"instruction": "Add.", "input": "2, 3", "output": "5"}, "alpaca", [("u", "Add.\n2, 3"), ("a", "5")]),
        ({"instruction": "Add.", "input": None, "output": "5", "topic": "x"}, "alpaca", [("u", "Add."), ("a", "5")]),
        (
            {"instruction": "B", "input": " ", "output": "b", "system": "S", "history": [["A", "a"]]},
            "alpaca",
            [("s", "S"), ("u", "A"), ("a", "a"), ("u", "B"), ("a", "b")],
        ),
        (
            {"conversations": [{"from": "prompter", "value": "A"}, {"from": "bard", "value": "a"}], "system": ""},
            "sharegpt",
            [("prompter", "A"), ("a", "a")],
        ),
        (
            {"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": None, "tool_calls": [1]}]},
            "messages",
            [("u", "A"), ("tool_calls", "")],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}]},
            "messages",
            [("u", "AB")],
        ),
        ({"conversations": [{"role": "user", "content": "A"}]}, "sharegpt", [("u", "A")]),  # Qwen, GLM, MiniCPM-V
        ({"messages": [{"from": "human", "value": "A"}]}, "messages", [("u", "A")]),
        (BAIZE[1], "baize", []),
        ({"topic": "t", "input": "[|AI|] <|im_end|> [|Human|]x"}, "baize", [("a", " <|im_end|> "), ("u", "x")]),
    ],
)
def test_a_form_is_told_by_its_keys(record: dict[str, Any], form: str, turns: list[tuple[str, str]]) -> None:
    assert read_turns(record) == (form, talk(*turns))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "has the keys of no form: sharegpt (conversations); messages (messages); texts (texts); alpaca (instr"),
        ({"text": "x"}, "has the keys of no form"),
        ({"input": "[|Human|] x"}, "has the keys of no form"),
        ({"messages": [], "conversations": []}, "has the keys of several forms: sharegpt (conversations); messages"),
        ({"instruction": "x"}, "key 'output' is missing; alpaca form has instruction, output"),
        ({"instruction": None, "output": "x"}, "key 'instruction' is null, expected text"),
        ({"instruction": "x", "output": True}, "key 'output' is a boolean, expected text"),
        ({"instruction": "x", "output": "y", "input": 3}, "key 'input' is a number, expected text"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "no pair of question and answer"),
        ({"instruction": "x", "output": "y", "history": [["a", None]]}, "content of a turn is null"),
        ({"instruction": "x", "output": "y", "history": "a"}, "key 'history' is text, expected a list"),
        ({"conversations": {"from": "human"}}, "key 'conversations' is an object, expected a list"),
        ({"conversations": ["Hi"]}, "conversations[0] has no text under 'from' or 'role'"),
        ({"conversations": [{"from": 1, "value": "x"}]}, "conversations[0] has no text under 'from' or 'role'"),
        ({"conversations": [{"from": "gpt", "value": "x"}, {"role": "user"}]}, "conversations[1] has no key 'content'"),
        ({"conversations": [{"from": "gpt", "value": "x"}, {"speaker": "user"}]}, "conversations[1] has no text under"),
        ({"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]}, "'weight' 0.5; a turn is learned (1"),
        ({"messages": [{"role": "assistant", "content": "x", "train_detail": [1]}]}, "'train_detail' [1]; a turn is"),
        ({"conversations": [{"from": "gpt"}]}, "conversations[0] has no key 'value'"),
        ({"conversations": [{"from": "gpt", "value": float("nan")}]}, "content of a turn is a number"),
        ({"messages": [{"role": "user", "content": [{"type": "image_uri"}]}]}, "an object of type 'image_uri'"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "is text of type None"),
        ({"messages": [], "system": ["x"]}, "key 'system' is a list, expected text"),
        ({"topic": "x", "input": "Human: hi"}, "begins with 'Human: hi' and not with [|Human|] or [|AI|]"),
        ({"topic": "x", "input": None}, "begins with ''"),
    ],
)
def test_a_record_of_no_form_is_told_why(record: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongFormat) as error:
        read_turns(record)
    assert said in str(error.value)


def test_a_marker_is_text_unless_images_are_asked_for() -> None:
    text = "<image>\nWhat is `<image>`?"
    record = {"conversations": [{"from": "human", "value": text}]}
    assert read_turns(record)[1] == [("user", [text])]
    assert read_turns(record, marked=True)[1] == [("user", ["", "\nWhat is `", "`?"])]
    parts = [{"type": "text", "text": "See <image>"}, {"type": "image"}, {"type": "text", "text": "!"}]
    record = {"messages": [{"role": "user", "content": parts}]}
    assert read_turns(record, marked=True)[1] == [("user", ["See <image>", "!"])]  # a part's text is text
    dialogue = tidy([*read_turns(record, marked=True)[1], ("assistant", ["Yes"])])
    assert isinstance(dialogue, Dialogue)
    assert (dialogue.images, dialogue.turns[0].text) == (1, "See <\u2060image><image>!")


@pytest.mark.parametrize(
    ("turns", "kept", "notes"),
    [
        ([("u", " A\n"), ("a", "a ")], [("u", "A"), ("a", "a")], {}),
        ([("s", "S"), ("s", "T"), ("u", "A"), ("a", "a")], [("s", "S\n\nT"), ("u", "A"), ("a", "a")], {}),
        ([("s", " "), ("u", "A"), ("a", "a")], [("u", "A"), ("a", "a")], {}),
        (
            [("s", "S"), ("a", "z"), ("u", "A"), ("a", "a")],
            [("s", "S"), ("u", "A"), ("a", "a")],
            {"leading_answers": 1},
        ),
        ([("u", "A"), ("a", "a"), ("u", "B")], [("u", "A"), ("a", "a")], {"unanswered_questions": 1}),
        (
            [("u", "A"), ("u", "B"), ("a", "a"), ("a", "b"), ("u", "C"), ("u", "D")],
            [("u", "A\n\nB"), ("a", "a\n\nb")],
            {"merged_turns": 3, "unanswered_questions": 2},
        ),
        (
            [("u", "A"), ("a", "a"), ("u", "B"), ("a", "\u200b\n"), ("u", "C"), ("a", "c")],
            [("u", "A"), ("a", "a")],
            {"turns_after_a_gap": 3, "unanswered_questions": 1},
        ),
        (
            [("u", "A"), ("a", "a"), ("s", "S"), ("u", "B"), ("a", "b")],
            [("u", "A"), ("a", "a")],
            {"turns_after_a_gap": 3},
        ),
    ],
)
def test_turns_are_made_to_alternate(
    turns: list[tuple[str, str]], kept: list[tuple[str, str]], notes: dict[str, int]
) -> None:
    assert tidied(*turns) == (kept, notes)


@pytest.mark.parametrize(
    ("turns", "gate", "value"),
    [
        ([], "answered_questions", 0),
        ([("u", "A")], "answered_questions", 0),
        ([("a", "A")], "answered_questions", 0),
        ([("s", "A"), ("a", "A")], "answered_questions", 0),
        ([("u", " "), ("a", "a")], "question_chars", 0),
        ([("u", "A"), ("a", "")], "answer_chars", 0),
        ([("u", "A"), ("tool", "x"), ("a", "y"), ("function", "z")], "roles", 2),
    ],
)
def test_a_conversation_without_an_answered_question(turns: list[tuple[str, str]], gate: str, value: int) -> None:
    rejected = tidy(talk(*turns))
    assert isinstance(rejected, Rejected)
    assert (rejected.gate, rejected.value) == (gate, value)


@pytest.mark.parametrize("mark", [{"weight": 0}, {"loss": False}, {"train": False}, {"loss_mask": 0}, {"weight": 0.0}])
def test_marked_answers_are_read_and_not_learned(mark: dict[str, Any]) -> None:
    def outcome(*answers: dict[str, Any]) -> Dialogue | Rejected:
        turns = [turn for answer in answers for turn in ({"role": "user", "content": "?"}, answer)]
        return tidy(read_turns({"messages": turns})[1])

    good = {"role": "assistant", "content": "good", "weight": 1, "loss": True}
    bad = {"role": "assistant", "content": "bad"} | mark
    dialogue = outcome(bad, good, bad)
    assert isinstance(dialogue, Dialogue)
    answers = [(turn.text, turn.supervised) for turn in dialogue.turns if turn.role == "assistant"]
    assert answers == [("bad", False), ("good", True)]  # behind the last one there is nothing to learn
    assert dialogue.notes == {"turns_not_learned": 2}
    joined = tidy(read_turns({"messages": [{"role": "user", "content": "?"}, good, bad]})[1])
    assert isinstance(joined, Rejected) and joined.gate == "learned_answers"
    rejected = outcome(bad)
    assert isinstance(rejected, Rejected) and rejected.gate == "learned_answers"
    whole = tidy(read_turns({"instruction": "?", "output": "bad"} | mark)[1])
    assert isinstance(whole, Rejected) and whole.gate == "learned_answers"


def test_published_records_come_out_as_documented() -> None:
    made = [tidy(read_turns(record)[1]) for record in SHAREGPT]
    first, part, empty, answer, short = made
    assert isinstance(first, Dialogue) and isinstance(part, Dialogue) and isinstance(short, Dialogue)
    assert first.turns[1].text.startswith("<div>Here are")  # HTML stays
    assert (len(first.turns), first.notes) == (4, {"unanswered_questions": 1})
    assert [turn.text for turn in part.turns] == ["Thank you. Who wrote the book?\n\nAnd when?", "I do not know."]
    assert part.notes == {"leading_answers": 1, "merged_turns": 1}
    assert [turn.role for turn in short.turns] == ["system", "user", "assistant"]
    assert (short.language, short.notes) == ("zh", {"turns_after_a_gap": 2})
    assert isinstance(empty, Rejected) and isinstance(answer, Rejected)
    baize = tidy(read_turns(BAIZE[0])[1])
    assert isinstance(baize, Dialogue)
    assert [turn.text for turn in baize.turns] == [
        "How do I clean a keyboard?",
        "Turn it over and shake it.",
        "Thanks!",
        "You're welcome!",
    ]
    assert not baize.notes


TEXT = st.lists(
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>system", "<image>", "</s>", "[INST]", "<\u2060image>", " ", "\n", "", "\u200b"]
    )
    | st.text(max_size=8),
    max_size=4,
).map("".join)
PIECES = st.lists(TEXT, min_size=1, max_size=3)
TURNS = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system", "tool"]), PIECES), max_size=8)


@given(TURNS)
def test_whatever_is_said_roles_alternate_and_no_text_is_a_control_token(turns: list[RawTurn]) -> None:
    dialogue = tidy(turns)
    if isinstance(dialogue, Rejected):
        return
    assert {role for role, _ in turns} <= set(ROLES.values())
    pixel = Image(data=b"x", format="png", width=1, height=1)
    questions = sum(turn.text.count(IMAGE_MARKER) for turn in dialogue.turns if turn.role == "user")
    assert dialogue.images == questions
    Sample(key="a", task="text", turns=dialogue.turns, images=(pixel,) * questions, source="chat")  # checks the roles
    for turn in dialogue.turns:
        for control in ("<|im_end|>", "<|im_start|>", "</s>", "[INST]"):
            assert control not in turn.text


@given(st.lists(st.tuples(TEXT, TEXT).filter(lambda pair: all(map(is_seen, pair))), min_size=1, max_size=4))
def test_what_was_said_can_be_read_back(pairs: list[tuple[str, str]]) -> None:
    turns: list[RawTurn] = []
    for question, answer in pairs:
        turns += [("user", [question]), ("assistant", [answer])]
    dialogue = tidy(turns)
    assert isinstance(dialogue, Dialogue)
    assert [unescape(turn.text) for turn in dialogue.turns] == [text.strip() for pair in pairs for text in pair]
    assert dialogue.images == 0  # <image> that was text is text
