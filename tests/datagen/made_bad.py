"""Bad pages with one defect each: the audit has to refuse them by the gate that is named."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

import pymupdf

from tests.datagen.made_good import chinese, german, slide_on_a_picture
from tests.datagen.made_pdfs import (
    A4,
    BODY,
    bad,
    lines,
    paragraphs,
    photograph,
    picture_of,
    respell,
    scan,
    short_lines,
    story,
)
from tests.datagen.made_texts import CHINESE, ENGLISH, FRENCH, GERMAN, HEBREW, POLISH, RUSSIAN


def letters_on(by: int) -> Callable[[str], str]:
    lower, upper = string.ascii_lowercase, string.ascii_uppercase
    table = str.maketrans(lower + upper, lower[by:] + lower[:by] + upper[by:] + upper[:by])
    return lambda text: text.translate(table)


# --- bad ones: nothing to read


@bad("min_chars")
def blank(document):
    document.new_page(width=A4[0], height=A4[1])


@bad("min_chars")
def scan_without_a_layer(document):
    scan(document, [])


@bad("min_chars")
def picture_with_three_words(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_image(BODY, pixmap=photograph())
    page.insert_text((60, 800), "View from north")


@bad("min_chars")
def letters_as_outlines(document):
    with pymupdf.open() as other:
        drawing = story(other, paragraphs(ENGLISH, 2)).get_svg_image(text_as_path=True)
    with pymupdf.open("svg", drawing.encode()) as vector, pymupdf.open("pdf", vector.convert_to_pdf()) as outlines:
        document.insert_pdf(outlines)


@bad("max_unread")
def letters_as_outlines_below_a_heading(document):
    letters_as_outlines(document)
    document[0].insert_text((60, 40), "Harbour Gazette, 3 May 2019, page 7", fontsize=9)


@bad("max_unread")
def every_second_line_drawn_as_outlines(document):
    page = story(document, "")
    with pymupdf.open() as other:
        outlines = other.new_page(width=A4[0], height=A4[1])
        for number, sentence in enumerate(ENGLISH * 2):
            (page, outlines)[number % 2].insert_text((60, 80 + 14 * number), sentence[:70], fontsize=11)
        drawing = outlines.get_svg_image(text_as_path=True)
    with pymupdf.open("svg", drawing.encode()) as vector, pymupdf.open("pdf", vector.convert_to_pdf()) as drawn:
        page.show_pdf_page(page.rect, drawn, 0)


@bad("min_ink_in_glyphs")
def rings_below_a_heading(document):
    page = document.new_page(width=A4[0], height=A4[1])
    for radius in range(20, 280, 12):
        page.draw_circle((297, 440), radius, width=5)
    page.insert_text((60, 40), "Harbour Gazette, 3 May 2019", fontsize=8)


@bad("max_text_in_images")
def scan_below_a_heading(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_image(pymupdf.Rect(0, 50, *A4), pixmap=picture_of(ENGLISH * 3))
    page.insert_text((60, 40), "Harbour Gazette, 3 May 2019", fontsize=8)


# --- bad ones: characters


@bad("max_garbled")
def private_use_characters(document):
    story(document, paragraphs(ENGLISH))
    respell(document, lambda text: "".join(chr(0xE000 + ord(char)) if char.isalpha() else char for char in text))


@bad("max_unreadable")
def a_few_private_use_characters(document):
    story(document, paragraphs(ENGLISH))
    respell(document, lambda text: text.replace("q", "\ue071"))


@bad("min_plausible")
def letters_one_on(document):
    story(document, paragraphs(ENGLISH))
    respell(document, letters_on(1))


@bad("min_plausible")
def letters_thirteen_on(document):
    story(document, paragraphs(ENGLISH))
    respell(document, letters_on(13))


@bad("min_plausible")
def letters_shuffled(document):
    story(document, paragraphs(ENGLISH))
    shuffled = list(string.ascii_lowercase)
    random.Random(1).shuffle(shuffled)
    respell(document, lambda text: text.translate(str.maketrans(string.ascii_lowercase, "".join(shuffled))))


@bad("min_plausible")
def cyrillic_shuffled(document):
    story(document, paragraphs(RUSSIAN))
    letters = "абвгдежзийклмнопрстуфхцчшщыэюя"
    shuffled = list(letters)
    random.Random(1).shuffle(shuffled)
    respell(document, lambda text: text.translate(str.maketrans(letters, "".join(shuffled))))


@bad("min_plausible")
def chinese_next_in_unicode(document):
    story(document, paragraphs(CHINESE))
    respell(document, lambda text: "".join(chr(ord(char) + 1) if "\u4e00" <= char else char for char in text))


@bad("min_plausible")
def chinese_next_in_gb2312(document):
    order = [bytes([row, cell]).decode("gb2312", "ignore") for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF)]
    following = dict(zip(order, order[5:], strict=False))
    story(document, paragraphs(CHINESE))
    respell(document, lambda text: "".join(following.get(char, char) for char in text))


@bad("max_torn")
def arabic_letters_apart(document):
    words = ("كتاب", "مدينة", "صباح", "قوارب", "تعود", "ميناء")
    story(document, f"<p dir='rtl'>{' '.join(f'{word[0]} {word[1:3]} {word[3:]}' for word in words * 4)}</p>")


@bad("max_mojibake")
def utf8_read_as_latin1(document):
    story(document, paragraphs(FRENCH))
    respell(document, lambda text: text.encode().decode("cp1252", "replace"))


@bad("max_mojibake")
def chinese_read_as_latin1(document):
    lines(
        document,
        [
            text.encode().decode("latin-1").translate({i: 0xA0 + i % 32 for i in range(0x80, 0xA0)})
            for text in short_lines(CHINESE, 20)
        ],
    )


@bad("min_forward")
def letters_reversed(document):
    lines(document, [text[::-1] for text in short_lines()])


@bad("min_forward")
def hebrew_from_left_to_right(document):
    story(document, f"<p dir='rtl'>{HEBREW[::-1]} {HEBREW[::-1]}</p>")


@bad("max_word_letters")
def words_without_spaces(document):
    lines(document, [text.replace(" ", "") for text in short_lines()])


@bad("max_lone")
def letters_apart(document):
    lines(document, [" ".join(text.replace(" ", "")) for text in short_lines(width=40)])


@bad("languages", languages=["en", "zh"])
def german_where_it_is_not_wanted(document):
    german(document)


@bad("languages", languages=["en"])
def chinese_where_it_is_not_wanted(document):
    chinese(document)


# --- bad ones: text that is not to be seen


@bad("max_hidden")
def hidden_over_nothing(document):
    lines(document, short_lines(), render_mode=3)


@bad("max_hidden")
def transparent(document):
    lines(document, short_lines(), fill_opacity=0, stroke_opacity=0)


@bad("max_hidden")
def a_third_hidden(document):
    page = story(document, paragraphs(ENGLISH[:2]), rect=pymupdf.Rect(60, 60, 535, 300))
    for i, text in enumerate(short_lines(ENGLISH[3:])):
        page.insert_text((60, 400 + 16 * i), text, render_mode=3)


@bad("max_hidden")
def scan_with_a_right_layer(document):
    scan(document, short_lines())


@bad("max_hidden")
def under_an_opaque_image(document):
    story(document, paragraphs(ENGLISH, 2)).insert_image(pymupdf.Rect(0, 0, *A4), pixmap=photograph())


@bad("max_hidden")
def under_a_scan_of_other_text(document):
    story(document, paragraphs(ENGLISH, 2)).insert_image(pymupdf.Rect(0, 0, *A4), pixmap=picture_of(FRENCH * 3))


@bad("min_glyphs_on_ink")
def under_a_white_box(document):
    story(document, paragraphs(ENGLISH, 2)).draw_rect(pymupdf.Rect(0, 0, *A4), fill=(1, 1, 1), color=None)


@bad("min_glyphs_on_ink")
def white_on_white(document):
    story(document, paragraphs(ENGLISH, 2), css="color: white;")


@bad("min_glyphs_on_ink")
def some_lines_white_on_white(document):
    story(document, paragraphs(ENGLISH[:3]) + f"<p style='color: white'>{ENGLISH[3]}</p>")


@bad("min_glyphs_on_ink")
def blue_on_blue(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.draw_rect(page.rect, fill=(0, 0, 1), color=None)
    story(document, paragraphs(ENGLISH, 2), css="color: #0000ff;", same_page=True)


@bad("min_chars")
def all_outside_the_crop_box(document):
    story(document, paragraphs(ENGLISH)).set_cropbox(pymupdf.Rect(60, 500, 535, 780))


@bad("min_font_px")
def print_of_one_point(document):
    story(document, paragraphs(ENGLISH, 4), css="font-size: 1px;", rect=pymupdf.Rect(60, 60, 200, 780))


# --- bad ones: text that is elsewhere, or too much of it


@bad("max_ink_beside", max_hidden=1.0)
def layer_half_a_line_down(document):
    scan(document, short_lines(), top=88)


@bad("max_ink_beside", max_hidden=1.0)
def layer_half_a_line_up(document):
    scan(document, short_lines(), top=72)


@bad("min_glyphs_on_ink", max_hidden=1.0)
def layer_far_to_the_right(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_image(page.rect, pixmap=picture_of())
    for number, text in enumerate(short_lines()):
        page.insert_text((180, 80 + 16 * number), text, fontsize=11, render_mode=3)


@bad("min_glyphs_on_ink", max_hidden=1.0)
def layer_of_another_page(document):
    scan(document, short_lines(FRENCH + POLISH, 70), top=92, step=19)


@bad("min_glyphs_on_ink", max_hidden=1.0)
def layer_over_a_blank_page(document):
    lines(document, short_lines(), render_mode=3)


@bad("max_ink_between", max_hidden=1.0)
def layer_of_another_text_in_the_same_lines(document):
    words = " ".join(GERMAN * 3).split()
    random.Random(2).shuffle(words)
    scan(document, [line.strip()[:74] for line in short_lines(tuple(words), 78)][: len(short_lines())])


@bad("max_turned")
def upside_down(document):
    story(document, paragraphs(ENGLISH, 2), rotate=180)


@bad("max_turned")
def page_turned_by_hand(document):
    story(document, paragraphs(ENGLISH, 2)).set_rotation(270)


@bad("max_doubled")
def printed_twice_for_bold(document):
    lines(document, short_lines())
    for number, text in enumerate(short_lines()):
        document[0].insert_text((60.4, 80 + 16 * number), text, fontsize=11)


@bad("max_doubled")
def page_laid_over_itself(document):
    story(document, paragraphs(ENGLISH, 2))
    story(document, paragraphs(ENGLISH, 2), same_page=True)


@bad("max_chars")
def too_long(document):
    story(document, paragraphs(ENGLISH, 36), css="font-size: 3.5px; margin: 0px;", rect=pymupdf.Rect(10, 10, 585, 832))


@bad("max_chars_per_mpx", max_chars=50_000, max_chars_per_mpx=12_000)
def too_dense(document):
    too_long(document)


@bad("max_on_images", max_on_images=0.5)
def slide_on_a_picture_where_not_wanted(document):
    slide_on_a_picture(document)


@bad("max_text_in_images")
def title_over_a_picture_of_text(document):
    page = document.new_page(width=A4[0], height=A4[1])
    page.insert_image(pymupdf.Rect(60, 120, 535, 792), pixmap=picture_of(ENGLISH * 3))
    page.insert_text((60, 100), "A long day at the harbour", fontsize=34)
