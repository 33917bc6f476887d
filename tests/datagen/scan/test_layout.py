"""OCR lines as a page: sizes, cells, directions, and the gates over them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import PIL.Image
import pytest

from datagen.pdf.text.reading_order import read_text
from datagen.scan.engine import Engine, OcrLine, OcrWord
from datagen.scan.gates import MEASURES, ScanGates, agreement, confidences, judge_scan
from datagen.scan.layout import is_drawing, page_of, read_upright
from datagen.scan.rapid import line_of
from datagen.scan.tesseract import lines_of
from tests.datagen.scan.made_scans import HEADER, STEP, drawn, table

PAGE = PIL.Image.new("RGB", (800, 600), "white")


def line(text: str, x: float, y: float, *, size: float = 20, step: float = 10, confidence: float = 0.9) -> OcrLine:
    """A line on a baseline, with letters of equal width."""
    words, at = [], x
    for word in text.split(" "):
        if word:
            words.append(OcrWord(word, (at, y - size, at + step * len(word), y), confidence))
        at += step * (len(word) + 1)
    return OcrLine(tuple(words), y, size)


def label(*lines: OcrLine) -> str:
    return read_text(page_of(lines, PAGE, 1.0)).text


def test_lines_and_words_of_tesseracts_table() -> None:
    rows = [HEADER, "4\t1\t1\t1\t1\t0\t0\t0\t9\t9\t-1\t"]
    rows += ["5\t1\t1\t1\t1\t1\t10\t20\t30\t10\t96.5\tone", "5\t1\t1\t1\t1\t2\t50\t20\t30\t10\t80\ta\tb"]
    rows += ["5\t1\t1\t1\t2\t1\t10\t50\t30\t10\t95\t ", "5\t1\t2\t1\t1\t1\t10\t90\t30\t10\t0\t|", "broken"]
    first, second = lines_of("\n".join(rows))
    assert [(word.text, word.box, word.confidence) for word in first.words] == [
        ("one", (10, 20, 40, 30), 0.965),
        ("a\tb", (50, 20, 80, 30), 0.8),
    ]
    assert [word.text for word in second.words] == ["|"] and second.confidence == 0
    assert lines_of("") == lines_of(HEADER) == []


def test_size_and_baseline_do_not_depend_on_the_letters() -> None:
    _, words = drawn(("a nose as", "The flying jelly", "no one sees us", "Paying for quality"))
    lines = lines_of(table(words))
    sizes = [one.size for one in lines]
    assert max(sizes) < 1.2 * min(sizes)
    steps = [after.baseline - before.baseline for before, after in pairwise(lines)]
    assert all(abs(step - STEP) <= 3 for step in steps), steps


def test_words_far_apart_are_cells_and_words_of_a_sentence_are_not() -> None:
    rows = [line(f"Item{n}          {n}0 units      {n}.50", 60, 100 + 30 * n) for n in range(1, 6)]
    assert label(*rows).split("\n")[1] == "Item2\t20 units\t2.50"
    assert label(line("a justified  line with", 60, 100), line("wider  spaces in it.", 60, 130)).count("\t") == 0


def test_columns_are_read_one_after_the_other() -> None:
    left = [line(f"left {n} goes on and on and", 40, 100 + 30 * n) for n in range(8)]
    right = [line(f"right {n} goes on and on and", 430, 100 + 30 * n) for n in range(8)]
    mixed = [each for pair in zip(left, right, strict=True) for each in pair]
    text = label(*mixed)
    assert text.index("left 7") < text.index("right 0")


def test_words_of_chinese_join_without_spaces() -> None:
    assert label(line("这是 一页 中文 with English words 的文 字。", 60, 100, step=20)).startswith("这是一页中文 with")


def test_a_sideways_line_comes_last() -> None:
    axis = OcrLine((OcrWord("Volt", (10, 100, 30, 300), 0.9),), 300, 20, level=False)
    assert label(axis, line("The text of the page,", 60, 100), line("which is level.", 60, 130)).endswith("\nVolt")
    rows = [HEADER, "5\t1\t1\t1\t1\t1\t10\t20\t12\t90\t96\tVolt", "5\t1\t1\t1\t2\t1\t50\t20\t10\t30\t96\tI"]
    assert [one.level for one in lines_of("\n".join(rows))] == [False, True]


class Turned(Engine):
    """An engine that reads a picture of one colour well only after some quarter turns to the left."""

    def __init__(self, good: int, poor: float) -> None:
        self.good, self.poor, self.calls = good, poor, 0

    def read(self, picture: PIL.Image.Image) -> Sequence[OcrLine]:
        self.calls += 1
        marked = [picture.getpixel((0, 0)), picture.getpixel((picture.width - 1, 0))]
        marked += [picture.getpixel((picture.width - 1, picture.height - 1)), picture.getpixel((0, picture.height - 1))]
        quarters = (-marked.index((255, 0, 0))) % 4  # a corner moves with every turn
        return [line("some words", 60, 100, confidence=0.95 if quarters == self.good else self.poor)]


@pytest.mark.parametrize(("good", "poor", "calls"), [(0, 0.2, 1), (1, 0.2, 4), (2, 0.3, 4), (3, 0.1, 4), (9, 0.7, 4)])
def test_a_page_that_reads_badly_is_turned(good: int, poor: float, calls: int) -> None:
    page = PIL.Image.new("RGB", (40, 30), "white")
    page.putpixel((0, 0), (255, 0, 0))
    engine = Turned(good, poor)
    lines, quarters = read_upright(engine, page)
    assert quarters == (good if good < 4 else 0)  # as it is, where it reads badly in every direction
    assert engine.calls == calls
    assert lines[0].confidence == pytest.approx(0.95 if good < 4 else 0.7)


@pytest.mark.parametrize(
    ("text", "width", "sure"),
    [
        ("The quick brown fox jumps over", 400, True),
        (". 33:", 500, False),
        ("这是一行完整的中文文字", 300, True),
        ("3", 12, True),
    ],
)
def test_rapidocrs_text_that_does_not_fill_its_box_is_in_doubt(text: str, width: int, sure: bool) -> None:
    box = np.array([[50, 100], [50 + width, 103], [50 + width, 135], [50, 132]], np.float32)
    one = line_of(text, box, 0.98)
    assert one.level and 22 < one.size < 30 and 120 < one.baseline < 130
    assert (one.confidence > 0.9) == sure and (one.confidence < 0.5) != sure
    upright = line_of(text, box[:, ::-1][[0, 3, 2, 1]], 0.98)
    assert upright.level == (len(text) == 1) and (upright.confidence > 0.9 or len(text) == 1) == sure


def test_what_is_a_drawing() -> None:
    assert is_drawing(line("—|", 0, 10, confidence=0.3))
    assert not is_drawing(line("* * *", 0, 10, confidence=0.9)) and not is_drawing(line("x", 0, 10, confidence=0.1))


def test_gates_depend_on_measures_alone() -> None:
    good = dict.fromkeys(MEASURES, 0.0) | {"lines": 3, "confidence": 0.95, "line_confidence": 0.8, "plausible": 1}
    good |= {"printed_chars": 90, "forward": 1, "glyphs_on_ink": 1, "ink_in_glyphs": 1, "font_px": 12}
    assert judge_scan(good, "en", ScanGates()) is None

    def gate(gates: ScanGates | None = None, **changed: float) -> str:
        refused = judge_scan(good | changed, "en", gates or ScanGates())
        return refused.gate if refused else ""

    assert gate(layer=1) == "max_layer" and gate(ScanGates(max_layer=1), layer=1) == ""
    assert gate(confidence=0.84) == "min_confidence" and gate(line_confidence=0.49) == "min_line_confidence"
    assert gate(confidence=0.1, line_confidence=0, confirmed=1, agreement=0.97) == ""
    assert gate(lines=0, confidence=0, line_confidence=0, printed_chars=0) == "min_chars"
    assert gate(text_in_images=0.3) == "max_text_in_images" and gate(text_in_images=0.3, confirmed=1) != ""
    assert gate(ScanGates(languages=["zh"])) == "languages" and gate(unreadable=1) == "max_unreadable"


def test_confidence_is_a_mean_over_characters_and_that_of_the_worst_line() -> None:
    measures = confidences([line("nineteen letters in", 0, 10, confidence=1.0), line("odd", 0, 40, confidence=0.2)])
    assert measures == {"lines": 2, "confidence": pytest.approx(17.6 / 20), "line_confidence": pytest.approx(0.2)}
    assert confidences([]) == {}


@pytest.mark.parametrize(
    ("text", "other", "share"),
    [
        ("The cat sat.", "the CAT\nsat", 1),
        ("one two three four", "one two three five", 0.75),
        ("a a a b", "a b b b", 0.5),
        ("中文和English", "中文 和 English", 1),
        ("中文", "中国", 0.5),
        ("", "words", 0),
        ("", "", 0),
        ("10,50 € ﬁnd", "10.50 EUR find", 3 / 3.5),
    ],
)
def test_agreement_is_the_share_of_common_words(text: str, other: str, share: float) -> None:
    assert agreement(text, other) == pytest.approx(share)
    assert agreement(other, text) == agreement(text, other)
