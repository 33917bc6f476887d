from __future__ import annotations

import pytest

from datagen.pdf.text.glyphs import Joiner

KEPT = "오늘은 좋다고 한다 \n그래서 우리는 밖으로 나갔\n다고 말했지만 아무도 \n믿지 않았으나 그것은\n 정말이었다"
BROKEN = (
    "우리는 학교에서 한국어\n를 배우고 친구와 함께 도서관\n에 가서 책을 읽고 한국어를 말하며\n우리의 생각을 나누었다"
)


@pytest.mark.parametrize(
    ("page", "before", "after", "joined"),
    [
        ("", "a low-d-", "dimensional space", "a low-d-dimensional space"),
        ("", "the x-", "axis", "the x-axis"),
        ("", "GPU-", "based", "GPU-based"),
        ("", "Example-", "word", "Exampleword"),
        ("", "from https://doi.", "org/10.5281", "from https://doi.org/10.5281"),
        ("", "see www.example.org/", "papers/2024", "see www.example.org/papers/2024"),
        ("", "all is at https://example.org/.", "Other pages", "all is at https://example.org/. Other pages"),
        ("", "either/", "or", "either/ or"),
        (KEPT, "그래서 우리는 밖으로 나갔", "다고 말했지만", "그래서 우리는 밖으로 나갔다고 말했지만"),
        (KEPT, "오늘은 좋다고 한다", "그래서 우리는", "오늘은 좋다고 한다 그래서 우리는"),
        (BROKEN, "학교에서 한국어", "를 배우고", "학교에서 한국어를 배우고"),
        (BROKEN, "그는 학교에", "서 공부하며", "그는 학교에서 공부하며"),  # a word of the page
        (
            "우리는 밖으로 나갔다\n그리고 돌아왔다",
            "우리는 함께",
            "밖으로",
            "우리는 함께 밖으로",
        ),  # lines end with words
        ("用 Python 写 第3章", "中文", "English", "中文 English"),
        ("用 Python 写 第3章", "中文第", "4章", "中文第4章"),  # digits have a spacing of their own
        ("日本語のPythonと", "日本語", "English", "日本語English"),
        ("用 Python 写", "中文", "4", "中文 4"),
    ],
)
def test_the_page_tells_what_stands_between_two_lines(page: str, before: str, after: str, joined: str) -> None:
    assert Joiner(lambda: page).join(before, after) == joined
