"""The command lines of all sources: options, settings, the dry run, the summary, the exit status."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from datagen.cli import job_parser, paths_and_settings, run_source
from tests.datagen.sources import FaultySource, LinesSource
from varyforge.errors import UserError
from varyforge.shards import ShardSet

ENGLISH = "\n".join(f"The society met for the {n}th time and heard a report on its accounts." for n in range(6))


def arguments_of(out: Path, *words: str, source: type = LinesSource) -> argparse.Namespace:
    parser = job_parser("tests.lines", "Lines.", source, examples="\n  lines in/ --out x")
    return parser.parse_args(["--out", str(out), "--runner", "local", "--workers", "1", *words])


@pytest.fixture
def lines(tmp_path: Path) -> dict[str, list[str]]:
    """Two documents of six lines, one that cannot be read."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "en.txt").write_text(ENGLISH)
    (tmp_path / "in" / "zh.txt").write_text("\n".join(["ab", "中文的第一行文字", "中文的第二行文字", "x", "y", "z"]))
    (tmp_path / "in" / "bad.txt").write_bytes(b"\xff\xfe")
    return {"paths": [str(tmp_path / "in")]}


def run(lines: dict[str, list[str]], out: Path, *words: str, settings: tuple[str, ...] = ()) -> int:
    return run_source(LinesSource, lines, settings, arguments_of(out, *words))


def cells(text: str) -> dict[str, str]:
    """First and last cell of each row of the printed tables."""
    rows = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in text.splitlines() if "│" in line]
    return {row[0]: row[-1] for row in rows}


def test_the_summary_counts_outcomes_causes_languages_and_splits(
    lines: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(lines, tmp_path / "out", "--validation-share", "0") == 0
    text = capfd.readouterr().err
    table = cells(text)
    assert (table["units"], table["written"], table["rejected"], table["failed"]) == ("13", "8", "4", "1")
    assert (table["min_length"], table["unreadable"]) == ("4", "1")
    assert (table["samples"], table["en"], table["zh"], table["train"]) == ("8", "6", "2", "8")
    assert table["near duplicates of another"] == "0"
    assert "failed: bad.txt: unreadable: " in text
    assert f"data card: {tmp_path / 'out'}/card.html" in text.replace("\n", "")
    assert (tmp_path / "out" / "card.html").exists()


def test_a_held_out_document_that_the_share_does_not_give_is_named(
    lines: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    message = "documents are few: "
    assert run(lines, tmp_path / "few", "--validation-share", "0.0001") == 0
    assert message in capfd.readouterr().err
    assert run(lines, tmp_path / "none", "--validation-share", "0") == 0  # as the user wants it
    assert message not in capfd.readouterr().err


def test_no_sample_is_exit_status_1(
    lines: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(lines, tmp_path / "out", settings=("gates.min_length=500",)) == 1
    text = capfd.readouterr().err
    table = cells(text)
    assert (table["written"], table["rejected"], table["samples"]) == ("0", "12", "0")
    assert "warning: no sample was written; see why: " in text


def test_a_dry_run_shows_work_and_costs_and_makes_nothing(
    lines: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "again.txt").write_text(ENGLISH.splitlines()[0])
    out = tmp_path / "out"
    assert run(lines, out, "--dry-run", "--units-per-shard", "4") == 0
    table = cells(capfd.readouterr().err)
    assert (table["units"], table["inputs that cannot be read"], table["duplicates"]) == ("14", "1", "1")
    assert table["finished"] == "0" and table["shards"] == table["to make"] != "0"
    assert table["units of the shards to make"] == "14" and "bytes on disk" in table
    assert not out.exists()


def test_an_error_leaves_no_folder(lines: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unreadable"):
        run({"paths": [str(tmp_path / "in" / "bad.txt")]}, tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_shard_sets_is_no_shard_set(lines: dict[str, list[str]], tmp_path: Path) -> None:
    assert run(lines, tmp_path / "shards" / "lines") == 0
    with pytest.raises(UserError, match=r"holds shard sets \(lines\); name a folder of its own"):
        run(lines, tmp_path / "shards")
    assert [path.name for path in (tmp_path / "shards").iterdir() if not path.name.startswith(".")] == ["lines"]


def test_shards_do_not_lie_among_the_inputs(lines: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the inputs lie there; name a folder of its own, such as .*in-shards"):
        run(lines, tmp_path / "in")
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == ["bad.txt", "en.txt", "zh.txt"]


def test_a_number_and_a_share_held_out_exclude_each_other(
    lines: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(lines, tmp_path / "out", "--validation", "5", "--validation-share", "0.5")
    assert "not allowed with argument" in capfd.readouterr().err


def test_a_small_job_starts_no_ray(
    lines: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # its import fails
    monkeypatch.delitem(sys.modules, "datagen.job.ray_runner", raising=False)
    assert run(lines, tmp_path / "out", "--runner", "ray") == 0
    with pytest.raises(ImportError):
        run(lines, tmp_path / "other", "--runner", "ray", "--address", "auto")


def test_a_dry_run_of_a_finished_set_names_the_change(
    lines: dict[str, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(lines, out, "--units-per-shard", "4") == 0
    shards = ShardSet(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    capfd.readouterr()
    words = ("--dry-run", "--units-per-shard", "4")
    assert run(lines, out, *words) == 0
    table = cells(capfd.readouterr().err)
    assert (table["to make"], table["finished"]) == ("0", str(len(shards.records)))
    assert "bytes on disk" not in table  # nothing to try
    assert run(lines, out, *words, settings=("style=fancy",)) == 0
    text = capfd.readouterr().err
    assert 'changed: settings.style "plain" → "fancy"' in text
    assert f"{len(shards.records)} of {len(shards.records)} shards would be made again with --update" in text
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_address_is_for_ray(lines: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--address is for Ray; leave out --runner local"):
        run(lines, tmp_path / "out", "--address", "auto")
    assert not (tmp_path / "out").exists()


def test_options_reach_the_job(lines: dict[str, list[str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (
        "--limit",
        "5",
        "--units-per-shard",
        "2",
        "--validation-share",
        "0.25",
        "--deadline",
        "9",
        "--memory",
        "700",
    )
    assert run(lines, out, *words) == 0
    shards = ShardSet(out)
    assert shards.job["job"] == {"units_per_shard": 2, "validation_share": 0.25, "limit": 5}
    assert len(shards.ledger()) == 5
    assert run(lines, out, *words, "--update", settings=("gates.max_length=300",)) == 0
    assert ShardSet(out).job["config"]["settings"]["gates"] == {"min_length": 3, "max_length": 300}


@pytest.mark.parametrize("word", ["0", "-1", "1.5", "two", ""])
@pytest.mark.parametrize("option", ["--workers", "--limit", "--units-per-shard", "--memory"])
def test_counts_are_whole_numbers_above_0(
    option: str, word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments_of(tmp_path, f"{option}={word}")
    assert f"{option}: {word!r} is no whole number above 0" in capfd.readouterr().err


def test_help_lists_settings_with_defaults_and_not_what_has_an_option(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        job_parser("tests.lines", "Lines.", LinesSource, examples="\n  lines in/ --out x").parse_args(["--help"])
    text = capfd.readouterr().out
    for line in ("  gates.min_length=3", "  gates.max_length=10000", "  style=plain", "  lines in/ --out x"):
        assert line in text.splitlines()
    assert "  paths=" not in text and "usage: python -m tests.lines" in text
    assert "settings (key=value, with their defaults):" in text


def test_a_source_without_a_place_lists_all_of_its_settings() -> None:
    text = job_parser("tests.faulty", "", FaultySource, examples="").format_help()
    assert "  units_per_input=6" in text and "  nap_s=0.0" in text


@pytest.mark.parametrize(
    ("words", "paths", "settings"),
    [
        (["a/", "b.pdf", "gates.min_chars=5"], ["a/", "b.pdf"], ["gates.min_chars=5"]),
        (["s3://bucket/date=2024/x.pdf", "k="], ["s3://bucket/date=2024/x.pdf"], ["k="]),
        (["a=b.pdf", "text=two\nlines"], ["a=b.pdf"], ["text=two\nlines"]),  # the first is a file
        (["5=five", "-x=1", "=", "é=1"], ["5=five", "-x=1", "=", "é=1"], []),
        ([], [], []),
    ],
)
def test_paths_and_settings_stand_in_any_order(
    words: list[str], paths: list[str], settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.pdf").write_bytes(b"")
    assert paths_and_settings(words) == (paths, settings)
    assert paths_and_settings(words[::-1]) == (paths[::-1], settings[::-1])


def test_an_unknown_setting_is_named(lines: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="min_lenght"):
        run(lines, tmp_path / "out", settings=("gates.min_lenght=5",))
