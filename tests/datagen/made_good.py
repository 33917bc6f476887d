"""Good pages in many layouts: the audit has to keep them."""

from __future__ import annotations

import random

import pymupdf

from tests.datagen.made_pdfs import A4, BODY, good, lines, paragraphs, photograph, scan, short_lines, story
from tests.datagen.made_texts import (
    CHINESE,
    CODE,
    ENGLISH,
    FORMULA,
    FRENCH,
    GERMAN,
    HEBREW,
    POLISH,
    REFERENCES,
    RUSSIAN,
)


@good()
def one_column(document):
    story(document, "<h1>The harbour</h1>" + paragraphs(ENGLISH, 2))


@good()
def two_columns(document):
    story(document, paragraphs(ENGLISH, 2), rect=pymupdf.Rect(50, 60, 290, 780))
    story(document, paragraphs(ENGLISH[::-1], 2), rect=pymupdf.Rect(305, 60, 545, 780), same_page=True)


@good()
def justified(document):
    story(document, paragraphs(ENGLISH, 2), css="text-align: justify; font-family: serif;")


@good()
def chinese(document):
    story(document, "<h2>港口</h2>" + paragraphs(CHINESE, 3))


@good()
def chinese_and_english(document):
    story(document, paragraphs((CHINESE[0], ENGLISH[0], CHINESE[1], ENGLISH[1])))


@good()
def chinese_vertical(document):
    page = document.new_page(width=A4[0], height=A4[1])
    for number, char in enumerate(CHINESE[0] + CHINESE[1]):
        page.insert_text((520 - number // 40 * 24, 70 + number % 40 * 17), char, fontname="china-s", fontsize=14)


@good()
def german(document):
    story(document, paragraphs(GERMAN, 2))


@good()
def french(document):
    story(document, paragraphs(FRENCH, 2))


@good()
def polish(document):
    story(document, paragraphs(POLISH, 2))


@good()
def russian(document):
    story(document, paragraphs(RUSSIAN, 2))


@good(languages=["en", "de"])
def german_where_german_is_wanted(document):
    german(document)


@good()
def hebrew(document):
    story(document, f"<p dir='rtl'>{HEBREW} {HEBREW}</p>")


@good()
def table(document):
    rows = "".join(
        f"<tr><td>{name}</td><td>{i * 7 % 90}</td><td>{i * 13.7:.2f}</td><td>{'yes' if i % 3 else 'no'}</td></tr>"
        for i, name in enumerate(["cod", "herring", "mackerel", "plaice", "salmon", "crab", "lobster", "eel"] * 3)
    )
    story(document, f"<table border=1>{rows}</table>", css="padding: 3px;")


@good()
def ruled_table(document):
    page = lines(
        document,
        [f"{name:<14}  {i * 17 % 100:>3}   {i * 3.1:>6.2f}" for i, name in enumerate(["cod", "herring", "crab"] * 9)],
        fontname="cour",
    )
    for i in range(28):
        page.draw_line((55, 68.5 + 16 * i), (400, 68.5 + 16 * i), width=0.7)


@good()
def numbers(document):
    rng = random.Random(5)
    lines(document, ["  ".join(f"{rng.uniform(0, 1000):8.2f}" for _ in range(7)) for _ in range(40)], fontname="cour")


@good()
def code_listing(document):
    lines(document, CODE.splitlines() * 2, fontname="cour", step=14)


@good()
def formulas(document):
    story(
        document, paragraphs((ENGLISH[0], FORMULA, "where λ is the wave length and n the number of boats,", FORMULA), 4)
    )


@good()
def bibliography(document):
    story(document, "<h2>References</h2>" + paragraphs(REFERENCES, 3), css="font-size: 9px;")


@good()
def white_on_dark(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.draw_rect(page.rect, fill=(0.05, 0.08, 0.2), color=None)
    story(document, paragraphs(ENGLISH, 2), css="color: white;", same_page=True)


@good()
def coloured_text_in_boxes(document):
    page = document.new_page(width=A4[0], height=A4[1])
    colours = (
        ("#c00000", (1, 1, 0.8)),
        ("#006000", (0.9, 1, 0.9)),
        ("#ffff00", (0.1, 0.1, 0.6)),
        ("#ff2020", (0, 0, 0)),
    )
    for i, (ink, paper) in enumerate(colours):
        rect = pymupdf.Rect(60, 60 + 170 * i, 535, 210 + 170 * i)
        page.draw_rect(rect, fill=paper, color=None)
        story(document, paragraphs(ENGLISH[i : i + 1], 2), css=f"color: {ink};", rect=rect, same_page=True)


@good()
def light_grey_text(document):
    story(document, paragraphs(ENGLISH, 2), css="color: #a0a0a0;")


@good()
def rotated_page(document):
    page = document.new_page(width=A4[1], height=A4[0])
    page.set_rotation(90)
    page.insert_htmlbox(pymupdf.Rect(60, 60, 780, 535), paragraphs(ENGLISH, 2), rotate=90)


@good()
def cropped_page(document):
    story(document, paragraphs(ENGLISH, 2)).set_cropbox(pymupdf.Rect(40, 40, 555, 500))


@good()
def photographs_and_captions(document):
    page = story(document, paragraphs(ENGLISH), rect=pymupdf.Rect(60, 60, 535, 290))
    for i in range(2):
        page.insert_image(pymupdf.Rect(60 + 240 * i, 300, 290 + 240 * i, 470), pixmap=photograph())
        page.insert_text((60 + 240 * i, 485), f"Figure {i + 1}: the harbour in the morning", fontsize=9)
    story(document, paragraphs(ENGLISH[2:]), rect=pymupdf.Rect(60, 500, 535, 780), same_page=True)


@good()
def large_photograph_with_a_caption(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_image(pymupdf.Rect(60, 60, 535, 380), pixmap=photograph(900, 600))
    story(document, paragraphs(ENGLISH[:1]), rect=pymupdf.Rect(60, 400, 535, 500), same_page=True)


@good()
def slide_on_a_picture(document):
    page = document.new_page(width=720, height=405)
    page.insert_image(page.rect, pixmap=pymupdf.Pixmap(pymupdf.csRGB, 8, 6, bytes([40, 60, 90] * 48), False))
    rect = pymupdf.Rect(60, 60, 660, 350)
    story(
        document,
        "<h1>Boats and nets</h1>" + paragraphs(ENGLISH[:2]),
        css="color: white; font-size: 16px;",
        rect=rect,
        same_page=True,
    )


@good()
def form(document):
    page = lines(
        document,
        ["Application for a mooring", "Name of the owner:", "Length of the boat:", "Date and signature:"],
        step=40,
    )
    for i, value in enumerate(["Maria Lindqvist", "9.5 metres", "3 May 2019"]):
        widget = pymupdf.Widget()
        widget.field_name, widget.field_type, widget.field_value = f"f{i}", pymupdf.PDF_WIDGET_TYPE_TEXT, value
        widget.rect = pymupdf.Rect(200, 105 + 40 * i, 420, 125 + 40 * i)
        page.add_widget(widget)
    page.add_highlight_annot(pymupdf.Rect(58, 68, 220, 86))


@good()
def title_page(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_text((90, 300), "A Short History", fontsize=38)
    page.insert_text((90, 350), "of the Harbour", fontsize=38)
    page.insert_text((90, 600), "Maria Lindqvist, 2019", fontsize=12)


@good()
def big_heading(document):
    page = story(document, paragraphs(ENGLISH), rect=pymupdf.Rect(60, 320, 535, 780))
    page.insert_text((50, 250), "Harbour", fontsize=120, fontname="hebo")


@good()
def watermark_over_text(document):
    page = story(document, paragraphs(ENGLISH, 2))
    page.insert_text(
        (90, 500), "DRAFT", fontsize=150, color=(0.85, 0.85, 0.85), morph=(pymupdf.Point(90, 500), pymupdf.Matrix(30))
    )


@good()
def transparent_logo_over_text(document):
    page = story(document, paragraphs(ENGLISH, 2))
    stamp = pymupdf.Pixmap(pymupdf.csRGB, 40, 40, bytes([200, 30, 30, 20] * 1600), True)
    page.insert_image(page.rect, pixmap=stamp)


@good()
def stencil_over_text(document):
    page = story(document, paragraphs(ENGLISH, 2))
    page.insert_image(pymupdf.Rect(*BODY), pixmap=pymupdf.Pixmap(pymupdf.csGRAY, 8, 8, bytes(64), False))
    xref = page.get_images()[0][0]  # an image becomes a stencil: one bit per pixel and no colours
    for key, value in {"ImageMask": "true", "BitsPerComponent": "1", "ColorSpace": "null"}.items():
        document.xref_set_key(xref, key, value)
    document.update_stream(xref, bytes([255, 255, 255, 0b11100111, 255, 255, 255, 255]))


@good()
def contents_with_leaders(document):
    names = ["Boats", "The market", "Nets and ropes", "Winter", "Three islands", "The road", "Return"] * 4
    story(
        document,
        "".join(f"<p>{i + 1} {name} {'. ' * (60 - len(name))} {i * 7 + 3}</p>" for i, name in enumerate(names)),
    )


@good()
def stamp_in_the_margin(document):
    page = story(document, paragraphs(ENGLISH, 2))
    page.insert_text((30, 500), "submitted on 3 May 2019", fontsize=14, rotate=90)


@good(max_hidden=1.0)
def scan_with_right_layer_where_allowed(document):
    scan(document, short_lines())
