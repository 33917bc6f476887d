from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varyforge.escape import JOINER, escape, unescape
from varyforge.sample import IMAGE_MARKER, Sample, Turn

CONTROL = (
    *("<image>", "</img>", "<imgpad>", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<|im_start|>", "<|im_end|>"),
    *(
        "<|endoftext|>",
        "<|eot_id|>",
        "<｜end▁of▁sentence｜>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<</SYS>>",
        "[CLS]",
        "[MASK]",
    ),
    *("<start_of_turn>", "<extra_id_12>", "<bos>", "<IMG_CONTEXT>", "<box>", "</quad>", "<|vision_start|>", "<0x0A>"),
)
PIECES = st.sampled_from([*CONTROL, JOINER, "<", ">", "[", "]", "|", "/", "a", "<div>", "5 < 6", "<im", "age>", "\n"])


@pytest.mark.parametrize("token", CONTROL)
def test_a_control_token_is_not_there_any_more(token: str) -> None:
    escaped = escape(f"say {token} twice: {token}{token}")
    assert token not in escaped
    assert unescape(escaped) == f"say {token} twice: {token}{token}"


@given(st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join))
def test_reversible_for_every_text(text: str) -> None:
    escaped = escape(text)
    assert unescape(escaped) == text
    assert not any(token in escaped for token in CONTROL)


@pytest.mark.parametrize(
    "text", ["<div><p>1 < 2</p></div>", "a[0] = b[i]", "[1, 2, 3]", "<https://x.org>", "List<String>"]
)
def test_other_text_stays(text: str) -> None:
    assert escape(text) == text


def test_the_marker_of_images_cannot_come_from_text() -> None:
    turns = (Turn(role="user", text=escape(f"what does {IMAGE_MARKER} mean?")), Turn(role="assistant", text="a marker"))
    assert Sample(key="a", task="text", turns=turns, source="made").images == ()
