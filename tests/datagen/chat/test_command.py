"""`python -m datagen.chat`."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.chat.__main__ import main
from tests.datagen.made_talk import BAIZE, SHAREGPT, write_json
from varyforge.shards import ShardSet


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["datagen.chat", *words, "--runner", "local", "--workers", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_files_folders_and_settings_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sharegpt = write_json(tmp_path / "sharegpt.json", SHAREGPT)
    write_json(tmp_path / "more" / "baize.json", BAIZE)
    out = str(tmp_path / "out")
    assert run(monkeypatch, str(sharegpt), "licence=apache-2.0", "--out", out, str(tmp_path / "more")) == 0
    rows = ShardSet(out).table().to_pylist()
    assert {row["licence"] for row in rows} == {"apache-2.0"}
    assert {row["unit"].partition("#")[0] for row in rows} == {"sharegpt.json", "baize.json"}


def test_a_limit_and_then_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = str(write_json(tmp_path / "sharegpt.json", SHAREGPT)), str(tmp_path / "out")
    assert run(monkeypatch, path, "--out", out, "--limit", "2") == 0
    assert ShardSet(out).ledger().num_rows == 2
    assert run(monkeypatch, path, "--out", out, "--update") == 0
    assert ShardSet(out).ledger().num_rows == len(SHAREGPT)


def test_a_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(write_json(tmp_path / "sharegpt.json", SHAREGPT))
    assert run(monkeypatch, path, "--out", str(tmp_path / "out"), "--dry-run") == 0
    captured = capfd.readouterr()
    assert "dry run" in captured.out + captured.err and not list((tmp_path / "out").glob("*.tar"))


def test_user_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert run(monkeypatch, "--out", out) == 2
    assert run(monkeypatch, str(tmp_path / "gone.json"), "--out", out) == 2
    assert "gone.json: no such file or folder" in capsys.readouterr().err
    path = str(write_json(tmp_path / "sharegpt.json", SHAREGPT))
    assert run(monkeypatch, path, "form=baize", "--out", out) == 2
    assert "form" in capsys.readouterr().err


def test_a_set_without_a_sample_has_exit_status_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(write_json(tmp_path / "empty.json", [{"id": "a_0", "conversations": []}]))
    assert run(monkeypatch, path, "--out", str(tmp_path / "out")) == 1
