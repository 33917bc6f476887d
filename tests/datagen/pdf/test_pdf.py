from __future__ import annotations

from pathlib import Path

import PIL.Image
import pymupdf
import pytest

from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.audit.gates import PageGates
from datagen.pdf.source import PdfSource
from tests.trainer.text.test_encode import TOKENIZER
from varyforge.errors import UserError
from varyforge.outcome import Failed, Rejected, Written
from varyforge.sample import IMAGE_MARKER
from varyforge.shards import ShardSet

LINES = ("The quick brown fox", "jumps over the lazy dog.")


def document(path: Path, *, pages: int = 1, text: tuple[str, ...] = LINES, rotation: int = 0, **save: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pymupdf.open() as made:
        for _ in range(pages):
            page = made.new_page(width=200, height=300)
            for number, line in enumerate(text):
                page.insert_text((20, 40 + 14 * number), line)
            page.set_rotation(rotation)
        made.save(path, **save)
    return path


def only_sample(path: Path, **settings: object) -> Written:
    source = PdfSource(paths=[str(path)], **settings)  # type: ignore[arg-type]
    units = list(source.units(str(path), str(path)))
    made = source.make(units[0], [str(path)])
    assert isinstance(made, Written)
    return made


def test_a_page_becomes_picture_prompt_and_text(tmp_path: Path) -> None:
    (sample,) = only_sample(document(tmp_path / "a.pdf")).samples
    assert sample.task == "ocr"
    assert sample.turns[0].text.startswith(IMAGE_MARKER)
    assert sample.answer == " ".join(LINES)  # a paragraph
    assert (sample.images[0].width, sample.images[0].height) == (1024, 1536)
    origin = {"document": "a.pdf", "page": 0, "language": "en"}
    assert {**sample.origin, "prompt": ""} == {**origin, "prompt": ""}
    assert str(sample.origin["prompt"]).startswith("ocr.en.")


def test_size_follows_rotation_and_both_limits(tmp_path: Path) -> None:
    sideways = document(tmp_path / "turned.pdf", rotation=90)
    (turned,) = only_sample(sideways, short_side_px=100, gates=PageGates(max_turned=1), upright=False).samples
    assert (turned.images[0].width, turned.images[0].height) == (150, 100)
    (upright,) = only_sample(sideways, short_side_px=100).samples
    assert (upright.images[0].width, upright.images[0].height) == (100, 150)
    (thin,) = only_sample(document(tmp_path / "a.pdf"), short_side_px=500, long_side_px=600).samples
    assert (thin.images[0].width, thin.images[0].height) == (500, 600)  # 400 of them are the page


def test_every_kind_of_document_ends_in_the_ledger(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    document(folder / "good.pdf", pages=2)
    document(folder / "deep" / "copy.pdf", pages=2, text=("The same number", "of other lines of text"))
    (folder / "deep" / "again.pdf").write_bytes((folder / "good.pdf").read_bytes())
    document(folder / "blank.pdf", text=())
    document(folder / "garbled.pdf", text=("\ue000\ue001 private \ue002\ue003\ue004\ue005 use",))
    document(folder / "loop" / "x.pdf", text=("A document behind a link", "that is read once"))
    (folder / "loop" / "back").symlink_to(folder, target_is_directory=True)
    document(folder / "locked.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="secret")
    (folder / "cut.pdf").write_bytes((folder / "good.pdf").read_bytes()[:300])
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "prose.PDF").write_text("this is no PDF")
    out = tmp_path / "out"
    summary = run_job(PdfSource(paths=[str(folder)], short_side_px=256), out, JobSettings(), LocalRunner())
    rows = {row["unit"]: row for row in ShardSet(out).ledger().to_pylist()}
    found = {unit.removeprefix(f"{folder}/"): row["outcome"] for unit, row in rows.items()}
    causes = {unit.removeprefix(f"{folder}/"): row["gate"] or row["reason"] for unit, row in rows.items()}
    assert sum(summary.by_outcome.values()) == summary.units == len(rows)
    assert sorted(causes[f"{name}#0000"] for name in ("good.pdf", "deep/again.pdf")) == ["", "duplicate"]
    assert found["deep/copy.pdf#0000"] == "written"
    assert causes["blank.pdf#0000"] == "min_chars"
    assert causes["locked.pdf"] == "encrypted"
    assert {found[name] for name in ("cut.pdf", "empty.pdf", "prose.PDF")} == {"failed"}
    assert {causes[name] for name in ("cut.pdf", "empty.pdf", "prose.PDF")} <= {"unreadable", "empty"}


def test_glyphs_without_unicode_values_are_rejected_not_guessed(tmp_path: Path) -> None:
    path = document(tmp_path / "a.pdf")
    with pymupdf.open() as made:  # a subset font whose map from glyphs to letters is taken away
        page = made.new_page(width=300, height=100)
        page.insert_htmlbox(page.rect, "<p>The secret answer is forty two, said the machine.</p>")
        made.subset_fonts()
        for xref in range(1, made.xref_length()):
            if made.xref_get_key(xref, "ToUnicode")[0] != "null":
                made.xref_set_key(xref, "ToUnicode", "null")
        made.save(path)
    source = PdfSource(paths=[str(path)], backend="pdfium")  # knows no names of glyphs
    units = list(source.units(str(path), str(path)))
    rejected = source.make(units[0], [str(path)])
    assert isinstance(rejected, Rejected), rejected
    assert (rejected.gate, rejected.value > 0.9) == ("max_garbled", True)


def test_either_backend_makes_the_same_samples(tmp_path: Path, documents: Path) -> None:
    read: dict[str, dict[str, str]] = {}
    for backend in ("pymupdf", "pdfium"):
        source = PdfSource(paths=[str(documents)], backend=backend, short_side_px=256)  # type: ignore[arg-type]
        run_job(source, tmp_path / backend, JobSettings(), LocalRunner())
        shards = ShardSet(tmp_path / backend)
        rows = shards.table(["unit", "shard", "offset", "size"]).to_pylist()
        read[backend] = {row["unit"]: shards.read(row["shard"], row["offset"], row["size"]).answer for row in rows}
        assert backend.removeprefix("py")[:3] in str(shards.job["config"]["versions"])
    assert read["pymupdf"].keys() == read["pdfium"].keys()
    same = sum("".join(text.split()) == "".join(read["pdfium"][unit].split()) for unit, text in read["pymupdf"].items())
    assert same >= 0.9 * len(read["pymupdf"])


def test_a_gate_is_judged_again_from_the_ledger(tmp_path: Path, documents: Path) -> None:
    def run(**gates: float) -> tuple[dict[str, int], dict[str, int]]:
        source = PdfSource(paths=[str(documents)], short_side_px=256, gates=PageGates(**gates))  # type: ignore[arg-type]
        settings = JobSettings(units_per_shard=4, update=True)
        outcome = run_job(source, tmp_path / "out", settings, LocalRunner()).by_outcome
        return outcome, {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}

    _, before = run()
    _, same = run(max_word_letters=40.0)  # no page comes near
    assert same == before
    lengths = sorted(row["printed_chars"] for row in ShardSet(tmp_path / "out").ledger().to_pylist())
    outcome, after = run(min_chars=int(lengths[0]) + 1)
    assert outcome["rejected"] == 1
    assert sum(after[name] != before[name] for name in before) == 1


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_what_is_only_called_pdf_is_none(tmp_path: Path, backend: str) -> None:
    (tmp_path / "page.pdf").write_text("<html><body><h1>404 Not Found</h1><p>nothing here but this</p></body></html>")
    PIL.Image.new("RGB", (40, 40)).save(tmp_path / "picture.pdf", "PNG")
    (tmp_path / "notes.pdf").write_text("# Notes\n\nthat some library would typeset")
    source = PdfSource(paths=[str(tmp_path)], backend=backend)  # type: ignore[arg-type]
    for path in source.inputs():
        failed = source.units(path, path)
        assert isinstance(failed, Failed) and failed.reason == "unreadable", path


def test_gates_that_make_no_sense_are_refused() -> None:
    for wrong, message in (
        ({"languages": ["english"]}, "'english' is not recognised; choose from ar"),
        ({"max_hidden": float("nan")}, "max_hidden is not a number"),
        ({"min_glyphs_on_ink": 95}, "a share is from 0 to 1"),
        ({"max_chars": 10}, "min_chars 20 is above max_chars 10"),
    ):
        with pytest.raises(ValueError, match=message):
            PageGates(**wrong)  # type: ignore[arg-type]


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        list(PdfSource(paths=[str(tmp_path / "gone")]).inputs())
    with pytest.raises(UserError, match=r"no \*\.pdf"):
        list(PdfSource(paths=[str(tmp_path)]).inputs())


def test_chinese_survives_from_document_to_ids(pdf_shards: Path) -> None:
    shards = ShardSet(pdf_shards)
    rows = [row for row in shards.table().to_pylist() if row["language"] == "zh"]
    sample = shards.read(rows[0]["shard"], rows[0]["offset"], rows[0]["size"])
    assert any("\u4e00" <= char <= "\u9fff" for char in sample.answer)
    assert TOKENIZER.decode(TOKENIZER(sample.answer).input_ids) == sample.answer
