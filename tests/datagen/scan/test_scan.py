"""Scanned pages from end to end, read by a program that stands in for tesseract."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import PIL.Image
import pymupdf
import pytest

from datagen.job.isolate import Child, Limits
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.scan.__main__ import main
from datagen.scan.source import ScanSource
from datagen.source import Unit
from tests.datagen.command_lines import run_command
from tests.datagen.scan.made_scans import HEIGHT, LEFT, LINES, STEP, TOP, WIDTH, drawn, font, install, save, table
from varyforge.config import load
from varyforge.errors import UserError
from varyforge.outcome import Failed, Outcome, Rejected, Written
from varyforge.shards import ShardSet

TEXT = " ".join(LINES)


def source(*paths: str | Path, **settings: Any) -> ScanSource:
    return ScanSource(paths=[str(path) for path in paths], **{"read_px": HEIGHT, **settings})


def units(scans: ScanSource) -> list[Unit]:
    (path,) = scans.inputs()
    cut = scans.units(path, path)
    assert not isinstance(cut, Failed), cut
    return list(cut)


def outcome(scans: ScanSource, number: int = 0) -> Outcome:
    unit = units(scans)[number]
    return scans.make(unit, unit.files)


def scanned_pdf(path: Path, page: PIL.Image.Image, hidden: tuple[str, ...] = ()) -> Path:
    """A PDF of one picture, with a hidden text layer as OCR programs write it."""
    data = io.BytesIO()
    page.save(data, "PNG")
    with pymupdf.open() as document:
        sheet = document.new_page(width=WIDTH, height=HEIGHT)
        sheet.insert_image(sheet.rect, stream=data.getvalue())
        for number, line in enumerate(hidden):
            size = font().getlength(line) / pymupdf.get_text_length(line, fontsize=1)
            sheet.insert_text((LEFT, TOP + 28 + STEP * number), line, fontsize=size, render_mode=3)
        document.save(path)
    return path


def test_an_image_becomes_a_sample_with_its_confidence_in_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, words = drawn()
    folder = install(monkeypatch, tmp_path, table(words, road=71.0))
    save(page, tmp_path / "in" / "a.png")
    out = tmp_path / "out"
    assert run_command(monkeypatch, main, str(tmp_path / "in"), "--out", str(out), f"read_px={HEIGHT}") == 0
    shards = ShardSet(out)
    (row,) = shards.table().to_pylist()
    assert row["lines"] == 4 and 0.9 < row["confidence"] < 0.965 and 0.9 < row["line_confidence"] < row["confidence"]
    (sample,) = shards.samples()
    assert (sample.task, sample.answer, sample.origin["label"]) == ("ocr", TEXT, "ocr")
    assert sample.images[0].data == (tmp_path / "in" / "a.png").read_bytes()
    assert shards.job["config"]["versions"]["labels by OCR"] == "tesseract 9.8.7"
    assert shards.job["config"]["versions"]["tesseract"] == "9.8.7"
    assert "<b>Labels by OCR</b> (tesseract 9.8.7)" in (out / "card.html").read_text()
    assert "OMP_THREAD_LIMIT=1" in (folder / "environment").read_text().splitlines()
    assert PIL.Image.open(folder / "picture").size == (WIDTH, HEIGHT)


def test_a_doubtful_line_costs_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, words = drawn((*LINES, "Sqxv"))
    install(monkeypatch, tmp_path, table(words, Sqxv=31.0))
    refused = outcome(source(save(page, tmp_path / "a.png")))
    assert isinstance(refused, Rejected) and (refused.gate, refused.value) == ("min_line_confidence", 0.31)
    assert refused.measures["confidence"] > 0.9


def test_letters_that_were_not_read_cost_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, words = drawn((*LINES, *LINES))
    install(monkeypatch, tmp_path, table([word for word in words if word.line < 4]))
    refused = outcome(source(save(page, tmp_path / "a.png")))
    assert isinstance(refused, Rejected) and refused.gate == "max_text_in_images", refused


def test_a_drawing_read_as_signs_is_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, words = drawn((*LINES, "=|"))
    install(monkeypatch, tmp_path, table(words, **{"=|": 22.0}))
    written = outcome(source(save(page, tmp_path / "a.png")))
    assert isinstance(written, Written) and written.samples[0].answer == TEXT
    assert written.notes["drawings_read_as_text"] == 1


def test_a_page_with_a_text_layer_is_for_the_pdf_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install(monkeypatch, tmp_path, "")
    with pymupdf.open() as document:
        document.new_page().insert_text((60, 80), "\n".join(LINES))
        document.save(tmp_path / "a.pdf")
    refused = outcome(source(tmp_path / "a.pdf"))
    assert isinstance(refused, Rejected) and (refused.gate, refused.value) == ("max_layer", 1)
    assert not (folder / "picture").exists()  # the engine was not asked


@pytest.mark.parametrize(
    ("hidden", "label"),
    [
        ((), "ocr"),
        (LINES, "confirmed text layer"),
        (("Another page altogether,", "with words of its own", "and nothing in common", "but its length."), "ocr"),
    ],
    ids=["no layer", "a layer that agrees", "the layer of another page"],
)
def test_a_hidden_layer_is_taken_where_ocr_confirms_it(
    hidden: tuple[str, ...], label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, words = drawn()
    install(monkeypatch, tmp_path, table([word for word in words if word.text != "narrow"]))
    written = outcome(source(scanned_pdf(tmp_path / "a.pdf", page, hidden), short_side_px=HEIGHT))
    assert isinstance(written, Written), written
    assert written.samples[0].origin["label"] == label
    assert ("narrow" in written.samples[0].answer) == (label != "ocr")
    assert written.measures["confirmed"] == (label != "ocr") == (written.measures["agreement"] > 0.95)


def test_a_confirmed_layer_needs_no_confidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, words = drawn()
    install(monkeypatch, tmp_path, table(words, confidence=30.0))
    pdf = scanned_pdf(tmp_path / "a.pdf", page, LINES)
    assert isinstance(outcome(source(pdf, short_side_px=HEIGHT)), Written)
    refused = outcome(source(scanned_pdf(tmp_path / "b.pdf", page), short_side_px=HEIGHT))
    assert isinstance(refused, Rejected) and refused.gate == "min_confidence"


def test_every_picture_of_a_tiff_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, words = drawn()
    install(monkeypatch, tmp_path, table(words))
    fax = [page.convert("1"), page.transpose(PIL.Image.Transpose.ROTATE_180).convert("1")]
    scans = source(save(fax[0], tmp_path / "fax.tif", save_all=True, append_images=fax[1:], compression="group4"))
    assert [unit.id for unit in units(scans)] == ["fax.tif#0000", "fax.tif#0001"]
    first, second = outcome(scans), outcome(scans, 1)
    assert isinstance(first, Written) and first.samples[0].answer == TEXT
    assert first.samples[0].origin == {**first.samples[0].origin, "document": "fax.tif", "page": 0}
    assert isinstance(second, Rejected)  # the words are not where the program says


def test_files_that_are_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, "")
    for name in ("a.png", "b.tiff", "c.pdf"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"II*\0 no picture")
    run_job(source(tmp_path / "in"), tmp_path / "out", JobSettings(), LocalRunner())
    rows = {row["unit"]: row["reason"] for row in ShardSet(tmp_path / "out").ledger().to_pylist()}
    assert rows == {"a.png": "broken_image", "b.tiff": "broken_image", "c.pdf": "unreadable"}


def test_a_program_that_fails_or_hangs_costs_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, _ = drawn()
    picture = save(page, tmp_path / "a.png")
    folder = install(monkeypatch, tmp_path, command="echo 'Image too  large' >&2; exit 1")
    assert outcome(source(picture)) == Failed(reason="ocr", detail="Image too large")
    (folder / "tesseract").write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec sleep 600\n")
    scans = source(picture)
    with Child(scans, Limits(deadline_s=3)) as child:
        (unit,) = units(scans)
        ended = child.make(unit, unit.files)
    assert isinstance(ended, Failed) and ended.reason == "timeout"
    state = Path(f"/proc/{(folder / 'pid').read_text().strip()}/stat")
    assert (
        not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    )  # killed, perhaps not yet reaped


def test_an_engine_or_a_language_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = source(save(drawn()[0], tmp_path / "a.png"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="tesseract is not installed; type: apt install tesseract-ocr"):
        scans.versions  # noqa: B018
    install(monkeypatch, tmp_path, "")
    wrong = source(*scans.paths, languages=["eng", "chi_sim"])
    with pytest.raises(
        UserError, match=r"no data for 'chi_sim'; type: apt install tesseract-ocr-chi-sim, or .* eng, deu"
    ):
        wrong.versions  # noqa: B018


@pytest.mark.parametrize(
    "setting",
    ["engine=abbyy", "read_px=1", "confirmed=0", "gates.min_confidence=nan", "backend=poppler", "short_side_px=0"],
)
def test_wrong_settings_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match=setting.partition("=")[0].rpartition(".")[2]):
        load(ScanSource, None, [setting], inputs={"paths": ["in"]})
    with pytest.raises(UserError, match="languages are tesseract's"):
        load(ScanSource, None, ["engine=rapidocr", "languages=[eng]"], inputs={"paths": ["in"]})


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("tesseract"), reason="needs tesseract")
@pytest.mark.parametrize("turn", [None, PIL.Image.Transpose.ROTATE_90], ids=["upright", "sideways"])
def test_the_real_program_reads_a_page(turn: PIL.Image.Transpose | None, tmp_path: Path) -> None:
    page, _ = drawn()
    picture = save(page.transpose(turn) if turn is not None else page, tmp_path / "a.png")
    written = outcome(source(picture))
    assert isinstance(written, Written), written
    assert written.samples[0].answer == TEXT
    assert written.notes.get("turned_pages", 0) == int(turn is not None)
    assert (written.samples[0].images[0].width, written.samples[0].images[0].height) == (WIDTH, HEIGHT)


@pytest.mark.slow
def test_rapidocr_reads_a_page(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    page, _ = drawn()
    scans = source(save(page, tmp_path / "a.png"), engine="rapidocr")
    assert scans.versions["labels by OCR"].startswith("rapidocr ")
    written = outcome(scans)
    assert isinstance(written, Written), written
    assert written.samples[0].answer == TEXT


def test_answers_of_a_refused_page_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, words = drawn()
    install(monkeypatch, tmp_path, table(words, confidence=20.0))
    scans = source(save(page, tmp_path / "a.png"))
    (unit,) = units(scans)
    view = scans.view(unit, unit.files)
    assert view.picture is not None and view.text == TEXT
