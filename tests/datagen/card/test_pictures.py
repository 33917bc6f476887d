from __future__ import annotations

from datagen.card.pictures import draw_answer
from varyforge.boxes import Box

BOX = Box(x1=0.035, y1=0.024, x2=0.847, y2=0.901)


def test_the_box_of_a_phrase_and_the_phrase_of_a_box() -> None:
    forth = draw_answer("referring", "[035, 024, 847, 901]", "<image>Detect an object: the left woman.")
    back = draw_answer("referring", "the left woman", "<image>Describe the object at [035, 024, 847, 901].")
    for drawing, name in ((forth, "the object"), (back, "the left woman")):
        assert [outline.box for outline in drawing.outlines] == [BOX]
        assert [(entry.name, entry.count) for entry in drawing.legend] == [(name, 1)]
        assert drawing.not_boxes == []


def test_an_answer_that_is_no_box_is_shown_as_such() -> None:
    assert draw_answer("referring", "over there", "<image>Detect an object: the left woman.").not_boxes == [
        "over there"
    ]
    assert draw_answer("caption", "It lies at [1, 2, 3, 4].", "<image>[1, 2, 3, 4]?").outlines == []
