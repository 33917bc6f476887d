"""PDFs made to do harm: each costs its own ledger rows and nobody else's."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.source import PdfSource
from tests.datagen.pdf.test_pdf import document
from varyforge.shards import ShardSet

CATALOG = "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
PAGE = "/Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]"


def write(path: Path, *objects: str | bytes) -> None:
    """A PDF without cross-reference table: the library repairs it, as it does with what is found in the wild."""
    data = b"%PDF-1.7\n" + b"".join(one.encode() if isinstance(one, str) else one for one in objects)
    path.write_bytes(data + b"trailer<</Root 1 0 R>>\n")


def stream(number: int, entries: str, data: bytes) -> bytes:
    packed = zlib.compress(data, 9)
    head = f"{number} 0 obj<<{entries}/Filter/FlateDecode/Length {len(packed)}>>stream\n"
    return head.encode() + packed + b"\nendstream endobj\n"


def billion_laughs(path: Path) -> None:
    """Forms that paint forms that paint forms: 20 to the 8th power of lines."""
    pages = f"2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n3 0 obj<<{PAGE}/Contents 5 0 R"
    pages += "/Resources<</XObject<</F 10 0 R>>>>>>endobj\n"
    forms = []
    for level in range(8):
        resources = f"/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</XObject<</F {11 + level} 0 R>>>>"
        forms.append(stream(10 + level, resources, b"/F Do " * 20))
    last = stream(18, "/Type/XObject/Subtype/Form/BBox[0 0 600 800]", b"0 0 m 600 800 l S " * 20)
    write(path, CATALOG, pages, stream(5, "", b"/F Do"), *forms, last)


def huge_picture(path: Path) -> None:
    """A picture of 60,000 x 60,000 pixels in a few megabytes."""
    pages = f"2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n3 0 obj<<{PAGE}/Contents 5 0 R"
    pages += "/Resources<</XObject<</I 6 0 R>>>>>>endobj\n"
    size = "/Type/XObject/Subtype/Image/Width 60000/Height 60000/BitsPerComponent 8/ColorSpace/DeviceRGB"
    packer = zlib.compressobj(9)
    zeros = bytes(60000 * 3)
    packed = b"".join(packer.compress(zeros) for _ in range(600))  # the rest is not there + packer.flush()
    picture = f"6 0 obj<<{size}/Filter/FlateDecode/Length {len(packed)}>>stream\n".encode()
    write(path, CATALOG, pages, stream(5, "", b"600 0 0 800 0 0 cm /I Do"), picture + packed + b"\nendstream endobj\n")


def deep_nesting(path: Path) -> None:
    """A page tree of 50,000 levels, and arrays as deep."""
    nodes = "".join(
        f"{n} 0 obj<</Type/Pages/Parent {n - 1} 0 R/Count 1/Kids[{n + 1} 0 R]>>endobj\n" for n in range(2, 50_000)
    )
    write(path, CATALOG, nodes, f"50000 0 obj<<{PAGE}/Annots {'[' * 50_000}{']' * 50_000}>>endobj\n")


def a_page_that_calls_itself(path: Path) -> None:
    pages = f"2 0 obj<</Type/Pages/Count 2/Kids[3 0 R 2 0 R]>>endobj\n3 0 obj<<{PAGE}/Contents 5 0 R"
    pages += "/Resources<</XObject<</F 6 0 R>>>>>>endobj\n"
    form = "/Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</XObject<</F 6 0 R>>>>"
    write(path, CATALOG, pages, stream(5, "", b"/F Do"), stream(6, form, b"/F Do /F Do"))


def flate_bomb(path: Path) -> None:
    """Contents that unpack to 1.5 GB."""
    pages = f"2 0 obj<</Type/Pages/Count 1/Kids[3 0 R]>>endobj\n3 0 obj<<{PAGE}/Contents 5 0 R>>endobj\n"
    packer = zlib.compressobj(9)
    block = b"0 0 m 1 1 l S\n" * 100_000
    packed = b"".join(packer.compress(block) for _ in range(1100)) + packer.flush()
    head = f"5 0 obj<</Filter/FlateDecode/Length {len(packed)}>>stream\n".encode()
    write(path, CATALOG, pages, head + packed + b"\nendstream endobj\n")


BOMBS = (billion_laughs, huge_picture, deep_nesting, a_page_that_calls_itself, flate_bomb)


def hundred_thousand_pages(path: Path) -> None:
    font = "/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    numbers = range(1000, 101_000)
    root = f"2 0 obj<</Type/Pages/Count 100000/Kids[{' '.join(f'{n} 0 R' for n in numbers)}]>>endobj\n"
    pages = "".join(f"{n} 0 obj<<{PAGE}/Contents 5 0 R{font}>>endobj\n" for n in numbers)
    words = b"BT /F 12 Tf 50 700 Td (The same page, a hundred thousand times) Tj ET"
    write(path, CATALOG, root, pages, stream(5, "", words))


def test_bombs_cost_themselves_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for bomb in BOMBS:
        bomb(folder / f"{bomb.__name__}.pdf")
    words = ("A page like any other page, with words", "enough for the audit to be content with it.")
    for number in range(6):
        document(folder / f"good{number}.pdf", text=(*words, f"It is number {number}."))
    settings = JobSettings(limits=Limits(deadline_s=4, memory_mb=1200))
    run_job(PdfSource(paths=[str(folder)]), tmp_path / "out", settings, LocalRunner(2))
    outcomes: dict[str, set[str]] = {}
    for row in ShardSet(tmp_path / "out").ledger().to_pylist():
        outcomes.setdefault(row["document"], set()).add(row["outcome"])
    assert all(outcomes[f"good{number}.pdf"] == {"written"} for number in range(6))
    assert all("written" not in outcomes[f"{bomb.__name__}.pdf"] for bomb in BOMBS)


@pytest.mark.parametrize("limit", [40])
def test_a_hundred_thousand_pages_are_planned_and_the_first_are_made(tmp_path: Path, limit: int) -> None:
    hundred_thousand_pages(tmp_path / "a.pdf")
    source = PdfSource(paths=[str(tmp_path / "a.pdf")], short_side_px=512)
    assert sum(1 for _ in source.units(str(tmp_path / "a.pdf"), str(tmp_path / "a.pdf"))) == 100_000  # type: ignore[union-attr]
    summary = run_job(source, tmp_path / "out", JobSettings(limit=limit), LocalRunner())
    assert summary.by_outcome == {"written": limit, "rejected": 0, "failed": 0}
