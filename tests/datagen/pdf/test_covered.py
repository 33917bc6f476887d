from __future__ import annotations

import pymupdf
import pytest

from datagen.pdf.backends.mupdf import open_document

TEXTS = {"corner": (30, 40), "centre": (85, 102)}  # text, and where it begins on a page of 200 x 200


def visible(painting: str, state: str = "<< >>") -> set[str]:
    """Return the texts of a page that are visible below the picture /Im, painted by PDF operators."""
    with pymupdf.open() as document:
        page = document.new_page(width=200, height=200)
        for text, point in TEXTS.items():
            page.insert_text(point, text, fontsize=10)
        pixmap = pymupdf.Pixmap(pymupdf.csRGB, pymupdf.IRect(0, 0, 8, 8), False)
        pixmap.clear_with(90)
        page.insert_image(pymupdf.Rect(0, 0, 1, 1), pixmap=pixmap)
        (name,) = (image[7] for image in page.get_images())
        resources = int(document.xref_get_key(page.xref, "Resources")[1].split()[0])
        document.xref_set_key(resources, "ExtGState", f"<< /State {state} >>")
        stream = document.get_new_xref()
        document.update_object(stream, "<< >>")
        document.update_stream(stream, f"q {painting} Q".replace("/Im", f"/{name}").encode())
        parts = [*page.get_contents(), stream]
        document.xref_set_key(page.xref, "Contents", "[" + " ".join(f"{part} 0 R" for part in parts) + "]")
        data = document.tobytes()
    with open_document(data) as opened:
        lines = opened.page(0, short_side_px=400, long_side_px=4000).lines
    return {span.text for line in lines for span in line.spans if span.visible}


@pytest.mark.parametrize(
    ("painting", "state", "texts"),
    [
        ("160 0 0 160 20 20 cm /Im Do", "<< >>", set()),
        ("80 80 -80 80 100 20 cm /Im Do", "<< >>", {"corner"}),  # its bounding box is that of the first
        ("20 20 160 100 re W n 160 0 0 160 20 20 cm /Im Do", "<< >>", {"corner"}),
        ("100 20 m 180 100 l 100 180 l 20 100 l W n 160 0 0 160 20 20 cm /Im Do", "<< >>", {"corner"}),
        ("/State gs 160 0 0 160 20 20 cm /Im Do", "<< /BM /Multiply >>", {"corner", "centre"}),
        ("/State gs 160 0 0 160 20 20 cm /Im Do", "<< /ca 0.6 >>", {"corner", "centre"}),
        ("160 0 0 160 200 20 cm /Im Do", "<< >>", {"corner", "centre"}),  # beside the page
        ("160 0 0 0 20 100 cm /Im Do", "<< >>", {"corner", "centre"}),  # without height
    ],
    ids=["upright", "tilted", "clipped", "clipped_to_a_rhomb", "multiplied", "transparent", "outside", "flat"],
)
def test_a_picture_hides_the_text_under_its_own_outline(painting: str, state: str, texts: set[str]) -> None:
    assert visible(painting, state) == texts


@pytest.mark.parametrize(
    ("matrix", "seen"),
    [
        ("1 0 0 1 20 100", True),
        ("0 1 -1 0 90 20", True),
        ("-1 0 0 -1 180 100", True),
        ("-1 0 0 1 180 100", False),
        ("1 0 0 -1 20 100", False),
    ],
    ids=["upright", "sideways", "upside_down", "mirrored", "flipped"],
)
def test_mirrored_text_counts_as_hidden(matrix: str, seen: bool) -> None:
    assert ("mirror" in visible(f"BT /helv 10 Tf {matrix} Tm (mirror) Tj ET")) is seen
