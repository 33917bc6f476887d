"""The two PDF backends agree: `datagen.pdf.backends.mupdf` (PyMuPDF) and `datagen.pdf.backends.pdfium`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from datagen.pdf.backends import mupdf as pages
from datagen.pdf.backends import pdfium
from datagen.pdf.page import Page, PdfError
from varyforge.errors import UserError

BACKENDS = (pages, pdfium)
SIDES = {"short_side_px": 400, "long_side_px": 4000}


def save(
    path: Path, draw: Callable[[pymupdf.Page], object], *, size: tuple[int, int] = (300, 400), **how: object
) -> Path:
    with pymupdf.open() as made:
        draw(made.new_page(width=size[0], height=size[1]))
        made.save(path, **how)
    return path


def prose(page: pymupdf.Page) -> None:
    page.insert_text((30, 60), "The quick brown fox", fontsize=14)
    page.insert_text((30, 80), "jumps over the hyphen-", color=(1, 0, 0))
    page.insert_text((30, 94), "ated dog; efficient office.", fontname="tibo")
    page.insert_text((180, 200), "the right column")
    page.draw_rect(pymupdf.Rect(40, 250, 200, 300), fill=(0, 0.5, 0.2))


def chinese(page: pymupdf.Page) -> None:
    writer = pymupdf.TextWriter(page.rect)
    writer.append((30, 60), "中文文本，测试页面。", font=pymupdf.Font("china-s"), fontsize=16)
    writer.append((30, 90), "第二行：训练数据", font=pymupdf.Font("china-s"), fontsize=12)
    writer.write_text(page)


def cropped(page: pymupdf.Page) -> None:
    prose(page)
    page.insert_text((20, 390), "outside the crop box")
    page.set_cropbox(pymupdf.Rect(10, 30, 290, 330))


def turned_text(page: pymupdf.Page) -> None:
    page.insert_text((100, 200), "written upwards", rotate=90)
    page.insert_text((200, 100), "written downwards", rotate=270)


def annotated(page: pymupdf.Page) -> None:
    prose(page)
    page.add_freetext_annot(pymupdf.Rect(30, 310, 200, 340), "a note of the reader", text_color=(0, 0, 1))


def with_field(page: pymupdf.Page) -> None:
    field = pymupdf.Widget()
    field.field_type, field.field_name, field.field_value = pymupdf.PDF_WIDGET_TYPE_TEXT, "name", "filled in"
    field.rect, field.text_fontsize = pymupdf.Rect(30, 310, 200, 340), 12
    page.add_widget(field)
    page.insert_text((30, 60), "Your name:")


def invisible(page: pymupdf.Page) -> None:
    page.insert_text((30, 60), "shown")
    page.insert_text((30, 90), "mode three", render_mode=3)
    page.insert_text((30, 120), "transparent", fill_opacity=0)
    page.insert_text((30, 150), "outlined", render_mode=1, color=(0, 0, 1))


def pair(path: Path, **sides: int) -> list[Page]:
    found = []
    for backend in BACKENDS:
        with backend.open_document(str(path)) as opened:
            assert len(opened) == 1
            found.append(opened.page(0, **(SIDES | sides)))
    return found


def words(page: Page) -> list[str]:
    return " ".join(line.text for line in page.lines).split()


def spans(page: Page) -> list[tuple[str, bool, int]]:
    return [(span.text.strip(), span.visible, span.color) for line in page.lines for span in line.spans]


def difference(ours: Page, theirs: Page) -> float:
    a, b = (np.asarray(page.picture.convert("RGB"), dtype=float) for page in (ours, theirs))
    return float(np.abs(a - b).mean())


LAYOUTS = [prose, chinese, cropped, turned_text, annotated, with_field, invisible]


@pytest.mark.parametrize("draw", LAYOUTS, ids=lambda draw: draw.__name__)
def test_both_backends_agree(tmp_path: Path, draw: Callable[[pymupdf.Page], object]) -> None:
    theirs, ours = pair(save(tmp_path / "a.pdf", draw))
    assert ours.picture.size == theirs.picture.size
    assert ours.picture.mode == "RGB"
    assert difference(ours, theirs) < 2.5
    assert words(ours) == words(theirs)
    assert spans(ours) == spans(theirs)
    for ours_line, theirs_line in zip(ours.lines, theirs.lines, strict=True):
        assert ours_line.direction == pytest.approx(theirs_line.direction, abs=0.01)
        assert ours_line.box == pytest.approx(theirs_line.box, abs=3), ours_line.text
        for a, b in zip(ours_line.spans, theirs_line.spans, strict=True):
            assert a.size == pytest.approx(b.size, abs=0.1)
            assert (a.font, a.bold) == (b.font, b.bold)


@pytest.mark.parametrize("rotation", [90, 180, 270])
@pytest.mark.parametrize("draw", [prose, cropped, annotated, turned_text], ids=lambda draw: draw.__name__)
def test_a_turned_page(tmp_path: Path, draw: Callable[[pymupdf.Page], object], rotation: int) -> None:
    def turned(page: pymupdf.Page) -> None:
        draw(page)
        page.set_rotation(rotation)

    plain = pair(save(tmp_path / "plain.pdf", draw))[1]
    theirs, ours = pair(save(tmp_path / "turned.pdf", turned))
    assert ours.picture.size == theirs.picture.size
    assert difference(ours, theirs) < 2.5
    assert words(ours) == words(theirs) == words(plain)
    width, height = plain.picture.size
    for before, after in zip(plain.lines, ours.lines, strict=True):
        box, (x, y) = before.box, before.direction
        for _ in range(rotation // 90):  # a quarter clockwise
            box, (x, y) = (height - box[3], box[0], height - box[1], box[2]), (-y, x)
            width, height = height, width
        width, height = plain.picture.size
        assert after.box == pytest.approx(box, abs=1)
        assert after.direction == pytest.approx((x, y), abs=0.01)


@pytest.mark.parametrize("draw", [prose, cropped, annotated], ids=lambda draw: draw.__name__)
def test_boxes_lie_on_the_ink(tmp_path: Path, draw: Callable[[pymupdf.Page], object]) -> None:
    page = pair(save(tmp_path / "a.pdf", draw))[1]
    dark = np.asarray(page.picture).min(axis=2) < 160
    for line in page.lines:
        x0, y0, x1, y1 = (round(value) for value in line.box)
        assert dark[max(y0, 0) : y1, max(x0, 0) : x1].any(), line.text


def test_a_drawing_differs_from_an_empty_page(tmp_path: Path) -> None:
    """The measure of `test_both_backends_agree` can fail."""
    drawn = pair(save(tmp_path / "a.pdf", prose))[1]
    empty = pair(save(tmp_path / "b.pdf", lambda page: None))[1]
    assert difference(drawn, empty) > 5
    assert empty.lines == ()


def test_columns_and_superscripts(tmp_path: Path) -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((30, 60), "left")
        page.insert_text((150, 60), "right")
        page.insert_text((30, 74), "left again")
        page.insert_text((30, 200), "E = mc")
        page.insert_text((30 + pymupdf.get_text_length("E = mc"), 196), "2", fontsize=7)

    page = pair(save(tmp_path / "a.pdf", draw))[1]
    assert [line.text for line in page.lines] == ["left", "right", "left again", "E = mc2"]
    assert [span.superscript for span in page.lines[-1].spans] == [False, True]


def test_slanted_words_stay_together(tmp_path: Path) -> None:
    def draw(page: pymupdf.Page) -> None:
        turn = pymupdf.Matrix(1, 1).prerotate(30)
        page.insert_text((60, 200), "a slanted watermark", fontsize=20, morph=(pymupdf.Point(60, 200), turn))

    theirs, ours = pair(save(tmp_path / "a.pdf", draw))
    assert words(ours) == words(theirs) == ["a", "slanted", "watermark"]
    assert len(ours.lines) == 1
    assert ours.lines[0].direction == pytest.approx(theirs.lines[0].direction, abs=0.01)


def test_glyphs_without_unicode_values_show_as_such(tmp_path: Path) -> None:
    with pymupdf.open() as made:
        page = made.new_page(width=300, height=100)
        page.insert_htmlbox(page.rect, "<p>The secret answer is forty two.</p>")
        made.subset_fonts()
        for xref in range(1, made.xref_length()):
            if made.xref_get_key(xref, "ToUnicode")[0] != "null":
                made.xref_set_key(xref, "ToUnicode", "null")
        made.save(tmp_path / "a.pdf")
    text = "".join(words(pair(tmp_path / "a.pdf")[1]))
    assert text.count("\ufffd") > 0.9 * len(text)


def test_pictures_are_found_within_forms_too(tmp_path: Path) -> None:
    pixmap = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 8, 8))
    pixmap.clear_with(90)

    def draw(page: pymupdf.Page) -> None:
        page.insert_image(pymupdf.Rect(30, 60, 130, 160), pixmap=pixmap)

    inner = save(tmp_path / "inner.pdf", draw)

    def nest(page: pymupdf.Page) -> None:
        with pymupdf.open(inner) as other:
            page.show_pdf_page(pymupdf.Rect(150, 200, 300, 400), other, 0)  # at half size

    assert pair(inner)[1].rasters == (pytest.approx((40, 80, 173.3, 213.3), abs=0.5),)
    (rect,) = pair(save(tmp_path / "outer.pdf", nest))[1].rasters
    assert rect == pytest.approx((220, 306.7, 286.7, 373.3), abs=0.5)


def test_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pdf", prose, size=(200, 600))
    with pdfium.open_document(str(path)) as opened:
        assert opened.page(0, short_side_px=100, long_side_px=300).picture.size == (100, 300)
        thin = opened.page(0, short_side_px=100, long_side_px=150).picture
        assert thin.height == 150 and thin.width in (50, 100)
        with pytest.raises(PdfError) as refused:
            opened.page(1, short_side_px=100, long_side_px=300)
        assert refused.value.reason == "unreadable"


def no_pages(path: Path) -> None:
    path.write_bytes(
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
        b"xref\n0 3\n0000000000 65535 f \n0000000009 00000 n \n0000000052 00000 n \n"
        b"trailer<</Size 3/Root 1 0 R>>\nstartxref\n96\n%%EOF\n"
    )


def test_documents_that_cannot_be_opened(tmp_path: Path) -> None:
    save(tmp_path / "locked.pdf", prose, encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="secret")
    save(tmp_path / "owner.pdf", prose, encryption=pymupdf.PDF_ENCRYPT_AES_256, owner_pw="owner")
    whole = save(tmp_path / "whole.pdf", prose).read_bytes()
    (tmp_path / "cut.pdf").write_bytes(whole[:200])
    (tmp_path / "nothing.pdf").write_bytes(b"")
    (tmp_path / "prose.pdf").write_text("this is no PDF")
    no_pages(tmp_path / "empty.pdf")
    reasons = {}
    for backend in BACKENDS:
        for name in ("locked", "cut", "nothing", "prose", "empty", "gone"):
            with pytest.raises(PdfError) as refused:
                backend.open_document(str(tmp_path / f"{name}.pdf"))
            reasons[backend.__name__, name] = refused.value.reason
    assert (
        reasons["datagen.pdf.backends.mupdf", "locked"]
        == reasons["datagen.pdf.backends.pdfium", "locked"]
        == "encrypted"
    )
    assert reasons["datagen.pdf.backends.mupdf", "empty"] == reasons["datagen.pdf.backends.pdfium", "empty"] == "empty"
    assert {reasons["datagen.pdf.backends.pdfium", name] for name in ("cut", "nothing", "prose", "gone")} == {
        "unreadable"
    }
    assert words(pair(tmp_path / "owner.pdf")[1])[:2] == ["The", "quick"]  # may be read, not changed


def test_damaged_documents_end_in_pages_or_errors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole = np.frombuffer(save(tmp_path / "whole.pdf", annotated).read_bytes(), dtype=np.uint8)
    for number in range(40):
        damaged = whole.copy()
        where = rng.integers(0, len(damaged), size=1 + number)
        damaged[where] = rng.integers(0, 256, size=len(where))
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(damaged.tobytes()[: len(damaged) - 20 * number])
        try:
            with pdfium.open_document(str(path)) as opened:
                assert min(opened.page(0, short_side_px=50, long_side_px=4000).picture.size) >= 50
        except PdfError as error:
            assert error.reason in {"unreadable", "empty", "encrypted", "page_size"}


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdfium, "pypdfium2", None)
    with pytest.raises(UserError, match=r"pip install 'varyforge\[pdfium\]'"):
        pdfium.open_document(str(tmp_path / "a.pdf"))


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    save(tmp_path / "a.pdf", prose)
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.pdf")
    (tmp_path / "a.pdf").rename(odd)
    ours, theirs = pair(Path(odd))
    assert words(ours) == words(theirs) != []
