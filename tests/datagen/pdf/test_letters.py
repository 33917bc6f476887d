"""Letters of made PDFs: what stands in the label where fonts have no Unicode value, or a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pymupdf
import pytest

from datagen.pdf.audit.gates import PageGates, judge
from datagen.pdf.backends import mupdf_text, symbols
from datagen.pdf.backends.mupdf import open_document
from datagen.pdf.text.reading_order import read_text
from tests.datagen.made_pdfs import respell
from tests.datagen.pdf.test_audit import fine
from tests.datagen.pdf.test_gates import measures_of


def label_of(document: pymupdf.Document) -> str:
    with open_document(document.tobytes()) as opened:
        return read_text(opened.page(0, short_side_px=400, long_side_px=4000)).text


def helvetica(content: bytes, encoding: str = "", to_unicode: Iterable[tuple[int, str]] = (), name: str = "") -> str:
    """Return the label of a page with this content, in Helvetica with an encoding and a ToUnicode table."""
    with pymupdf.open() as document:
        page = document.new_page(width=300, height=200)
        page.insert_text((10, 10), " ")
        (font,) = (row[0] for row in page.get_fonts())
        if encoding:
            document.xref_set_key(font, "Encoding", encoding)
        if name:
            document.xref_set_key(font, "BaseFont", f"/{name}")
        if to_unicode:
            table = "".join(f"<{code:02x}> <{text.encode('utf-16-be').hex()}>\n" for code, text in to_unicode)
            head = "/CIDInit /ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <00> <ff> "
            stream = f"{head}endcodespacerange {len(table.splitlines())} beginbfchar {table} endbfchar endcmap end end"
            xref = document.get_new_xref()
            document.update_object(xref, "<<>>")
            document.update_stream(xref, stream.encode())
            document.xref_set_key(font, "ToUnicode", f"{xref} 0 R")
        document.update_stream(page.get_contents()[0], b"BT /helv 12 Tf 20 100 Td " + content + b" ET")
        return label_of(document)


def test_a_space_is_missing_after_every_script() -> None:
    text = "sử dụng thư viện; trade-oﬀ between; 公司2023年度"
    with pymupdf.open() as document:
        writer = pymupdf.TextWriter(document.new_page(width=600, height=200).rect)
        font = pymupdf.Font("notos") if "notos" in pymupdf.fitz_fontdescriptors else pymupdf.Font("china-s")
        x = 30.0
        for word in text.replace("公司2023年度", "公司 2023 年度").split():
            _, (x, _) = writer.append((x, 100), word, font=font, fontsize=12)
            x += 3
        writer.write_text(document[0])
        assert label_of(document) == "sử dụng thư viện; trade-off between; 公司 2023 年度"


def test_controls_become_the_ligatures_of_tex() -> None:
    assert symbols.repaired(0x0C, "CMR10", 0, 1.0) == "fi"
    assert symbols.repaired(0x1C, "SFRM1000", 0, 1.0) == "fi"
    assert symbols.repaired(0x1C, "ABC", 0, 0.01) == "fi"
    assert symbols.repaired(0x1C, "ABC", 0, 0.5) == symbols.UNKNOWN, "a code of its own"
    assert symbols.repaired(0x0F, "CMSY10", 0, 1.0) == "•"
    assert symbols.repaired(0x10, "CMEX10", 0, 1.0) == "("
    assert symbols.repaired(0xFFFD, "XYDASH10", 0, 0.0) == ""  # a piece of a line
    assert symbols.recoded_from("LCIRCLE10") == 0


@pytest.mark.parametrize(
    ("code", "font", "text"),
    [
        (0xF0B7, "Symbol", "•"), (0xF0B7, "Times", "•"), (0xF0A7, "Wingdings-Regular", "▪"),
        (0x6C, "Wingdings", "●"), (0x6E, "ZapfDingbats", "■"), (0xF061, "SymbolMT", "α"), (0xF733, "Utopia", "3"),
        (0xF8EE, "Symbol", "["), (0xF8EF, "Symbol", ""), (0x239B, "CMEX10", "("), (0x239C, "CMEX10", ""),
        (0x2029, "A", " "), (0xFF, "csr10", "“"), (0xFE, "CSBX12", "„"), (0xF6C5, "OldStandard", "б"),
        (0xF6C8, "OldStandard-Italic", "т"), (0xF6EC, "UtopiaExp", "e"), (0xF6F1, "UtopiaExp", "r"),
        (0xF644, "LMMono12-Regular", "1"), (0xF644, "A", "\ufffd"),
        (0xFFFD, "Emmentaler-20", ""), (0x6E, "Emmentaler-20", ""),
        (0xE123, "A", "\ufffd"), (0x90, "A", "\ufffd"), (0xD800, "A", "\ufffd"),
    ],
)  # fmt: skip
def test_symbols(code: int, font: str, text: str) -> None:
    assert symbols.repaired(code, font, 0, 0.0) == text


def test_a_font_has_other_characters_than_its_codes_say() -> None:
    assert helvetica(b"(a word\\377) Tj", name="csr10") == "a word“"
    assert helvetica(b"(a word\\377) Tj") == "a wordÿ"
    assert symbols.recoded_from("csr10") == 0xFE
    assert symbols.recoded_from("CSRoman") == 0x100


def test_an_alphabet_in_the_private_use_area_is_text() -> None:
    assert symbols.repaired(0xF041, "Arial", 20, 0.0) == "A"
    assert symbols.repaired(0xF041, "Arial", 1, 0.0) == "\ufffd"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t_i", "ti"), ("f_f_i.alt", "ffi"), ("uni00410042", "AB"), ("u1F600", "\U0001f600"), ("one.oldstyle", "1"),
        ("parenleftBigg", "("), ("bracelefttp", "{"), ("braceleftbt", ""), ("g123", "\ufffd"), ("415", "\ufffd"),
        ("", "\ufffd"), (".notdef", "\ufffd"), ("uniE000", "\ufffd"),
    ],
)  # fmt: skip
def test_names_of_glyphs(name: str, text: str) -> None:
    assert symbols.named(name, mupdf_text.mupdf.fz_unicode_from_glyph_name_strict) == text


def test_soft_hyphens_vanish_or_are_hyphens() -> None:
    assert helvetica(b"(state\\255of\\255art) Tj", to_unicode=[(0xAD, "\xad")]) == "state-of-art"


@pytest.mark.parametrize("wrong", ["", "\ufffd", "\x02"])
def test_a_glyph_without_a_value_is_named_by_its_font(wrong: str) -> None:
    with pymupdf.open() as document:
        page = document.new_page(width=300, height=100)
        page.insert_htmlbox(page.rect, "<p>The efficient officer left.</p>")
        document.subset_fonts()
        respell(document, lambda text: text.replace("e", wrong) if wrong else text)
        for xref in range(1, 0 if wrong else document.xref_length()):
            if document.xref_get_key(xref, "ToUnicode")[0] != "null":
                document.xref_set_key(xref, "ToUnicode", "null")
        assert label_of(document) == "The efficient officer left."


def test_actual_text_is_used_for_glyphs_without_a_value_alone() -> None:
    plain = b"/Span <</ActualText ()>> BDC (a whole line) Tj EMC"
    assert helvetica(plain) == "a whole line"
    described = b"/Span <</ActualText (picture of a cat)>> BDC (Fig. 1) Tj EMC"
    assert helvetica(described) == "Fig. 1"


def test_the_gate_of_unreadable_characters() -> None:
    for char in "\ufffd\x07\ue000\u2029\xad\x90\U000f0000":
        measures = measures_of("some words and " + char)
        assert measures["unreadable"] == 1, ascii(char)
        rejected = judge(fine(unreadable=measures["unreadable"]), "en", PageGates())
        assert rejected is not None
        assert rejected.gate == "max_unreadable"
    assert measures_of("words\tand\nlines, 中文, \U0001f600, \u200c")["unreadable"] == 0


def test_a_tilted_picture_covers_what_is_below_it_and_not_the_corners_of_its_box() -> None:
    def draw(page: pymupdf.Page) -> None:
        page.insert_text((25, 32), "corner", fontsize=6)
        page.insert_text((95, 102), "below", fontsize=6)

    assert _words_around_a_picture(draw) == "corner"


def _words_around_a_picture(draw: Callable[[pymupdf.Page], None]) -> str:
    pixmap = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 8, 8))
    pixmap.clear_with(90)
    with pymupdf.open() as document:
        page = document.new_page(width=200, height=200)
        draw(page)
        image = page.insert_image(pymupdf.Rect(0, 0, 1, 1), pixmap=pixmap)
        (name,) = (row[7] for row in page.get_images(full=True) if row[0] == image)
        content = f"q 70 70 -70 70 100 30 cm /{name} Do Q".encode()
        xref = page.get_contents()[-1]
        document.update_stream(xref, content)
        return label_of(document)
