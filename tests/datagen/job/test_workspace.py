"""A shard set under construction: records survive a kill at any step, and only one writer is at work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datagen.job.workspace import Workspace, open_workspace
from varyforge.errors import UserError
from varyforge.shards import IndexRow, ShardRecord, read_manifest
from varyforge.storage import LocalFolder, folder_at
from varyforge.tables import read_table, schema_of

JOB: dict[str, Any] = {"source": "pdf", "config": {"settings": {}}, "inputs": {"paths": ["ä"]}}
HASH = "0" * 64


def record(name: str, **changes: Any) -> ShardRecord:
    counts = dict.fromkeys(("units", "samples", "written", "rejected", "failed", "tar_bytes"), 0)
    hashes = dict.fromkeys(("tar", "index", "ledger", "config", "units"), HASH)
    return ShardRecord(**{"name": name, **counts, **{f"{name}_sha256": sha for name, sha in hashes.items()}, **changes})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(LocalFolder(tmp_path))


def names(workspace: Workspace) -> list[str]:
    assert isinstance(workspace.folder, LocalFolder)
    root = workspace.folder.path
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_empty_folder_has_no_job_and_no_shard(workspace: Workspace) -> None:
    assert workspace.job("pdf") is None
    assert workspace.finished() == []
    assert not workspace.is_closed


def test_the_life_of_a_set(workspace: Workspace) -> None:
    workspace.begin(JOB, [])
    assert workspace.job("pdf") == JOB
    workspace.put(record("pdf-1"))
    workspace.put(record("pdf-0"))
    assert workspace.finished() == [record("pdf-0"), record("pdf-1")]
    assert names(workspace) == ["done/pdf-0.json", "done/pdf-1.json", "job.json", "unfinished.jsonl"]
    workspace.close(workspace.finished())
    assert workspace.is_closed
    assert names(workspace) == ["job.json", "manifest.jsonl"]
    assert read_manifest(workspace.folder) == workspace.finished() == [record("pdf-0"), record("pdf-1")]


def test_a_set_that_begins_again_keeps_what_is_finished(workspace: Workspace) -> None:
    workspace.begin(JOB, [])
    workspace.close([record("pdf-0"), record("pdf-1")])
    workspace.begin(JOB, workspace.finished())
    assert not workspace.is_closed
    workspace.put(record("pdf-1", units=7))
    assert workspace.finished() == [record("pdf-0"), record("pdf-1", units=7)]  # the newest of each name
    workspace.begin(JOB, workspace.finished())
    assert names(workspace) == ["job.json", "unfinished.jsonl"]
    assert [each.units for each in workspace.finished()] == [0, 7]


def test_a_record_that_was_cut_is_none(workspace: Workspace, tmp_path: Path) -> None:
    workspace.begin(JOB, [record("pdf-0")])
    workspace.put(record("pdf-1"))
    for content in ("", '{"name": "pdf-1"', '{"name": "pdf-1"}', "[]"):
        (tmp_path / "done" / "pdf-1.json").write_text(content)
        assert workspace.finished() == [record("pdf-0")]


def test_a_broken_list_of_records_is_named(workspace: Workspace, tmp_path: Path) -> None:
    workspace.begin(JOB, [record("pdf-0")])
    (tmp_path / "unfinished.jsonl").write_text("{")
    with pytest.raises(UserError, match=r"unfinished\.jsonl: broken .*; delete it and run the datagen command again"):
        workspace.finished()


def test_a_set_closed_before_its_records_were_removed_is_tidied(workspace: Workspace, tmp_path: Path) -> None:
    workspace.begin(JOB, [])
    workspace.put(record("pdf-0", units=1))
    (tmp_path / "manifest.jsonl").write_text(json.dumps(vars_of(record("pdf-0"))) + "\n")  # and then a kill
    assert workspace.finished() == [record("pdf-0")]
    workspace.tidy()
    assert names(workspace) == ["job.json", "manifest.jsonl"]


def vars_of(one: ShardRecord) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def test_an_unfinished_set_loses_no_record_by_tidying(workspace: Workspace, tmp_path: Path) -> None:
    workspace.begin(JOB, [record("pdf-0")])
    workspace.put(record("pdf-1"))
    (tmp_path / ".pdf-2.tar.99-aa.tmp").write_bytes(b"half")
    workspace.tidy()
    assert names(workspace) == ["done/pdf-1.json", "job.json", "unfinished.jsonl"]


def test_a_set_of_another_source_is_refused(workspace: Workspace) -> None:
    workspace.begin(JOB, [])
    with pytest.raises(UserError, match="holds a set made by 'pdf'; choose another --out"):
        workspace.job("chat")


@pytest.mark.parametrize("name", ["a.tar", "index/a.parquet", "ledger/anything"])
def test_files_of_others_are_refused(workspace: Workspace, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="no job of ours wrote; choose an empty folder for --out"):
        workspace.job("pdf")


def test_files_of_no_importance_are_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert workspace.job("pdf") is None
    workspace.begin(JOB, [])
    workspace.close([])
    assert "notes.txt" in names(workspace)


def test_strays_are_removed_from_four_folders_alone(workspace: Workspace, tmp_path: Path) -> None:
    files = ["pdf-0.tar", "index/pdf-0.parquet", "ledger/pdf-0.parquet", "plan/all-0.parquet"]
    others = ["pdf-0.txt", "index/pdf-0.txt", "deep/pdf-0.tar", "pdf-0.parquet"]
    for name in files + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    seen: list[str] = []
    workspace.remove(lambda name: bool(seen.append(name)))
    assert sorted(seen) == sorted(files) and len(names(workspace)) == 8
    workspace.remove(lambda name: not name.startswith("plan/"))
    assert names(workspace) == sorted(["plan/all-0.parquet", *others])


def test_tables_and_their_record(workspace: Workspace) -> None:
    row = {
        name: {"int": 0, "bytes": b""}.get(str(kind.type), "") for name, kind in IndexRow.__dataclass_fields__.items()
    }
    schema = schema_of(IndexRow)
    ledger = [{**row, "outcome": kind} for kind in ("written", "rejected", "failed", "failed")]
    wide = schema.append(schema.field("key").with_name("outcome"))
    made_of = ("settings", "units")
    done = workspace.write_tables("pdf-0", ([row], ledger), (schema, wide), tar=(10, HASH), made_of=made_of)
    assert (done.units, done.samples, done.written, done.rejected, done.failed) == (4, 1, 1, 1, 2)
    assert (done.tar_bytes, done.tar_sha256, done.config_sha256, done.units_sha256) == (10, HASH, "settings", "units")
    assert read_table(workspace.folder, "index/pdf-0.parquet").to_pylist() == [row]
    again = workspace.write_tables("pdf-0", ([row], ledger), (schema, wide), tar=(10, HASH), made_of=made_of)
    assert again == done != replace(done, index_sha256="")
    assert workspace.finished() == []  # not before its record is put


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".x.tar.1-aa.tmp").write_bytes(b"of a writer that was killed")
    with open_workspace(tmp_path / "out") as workspace:
        assert names(workspace) == [".lock"]
        with pytest.raises(UserError, match="another process is writing there"), open_workspace(tmp_path / "out"):
            pass
    with open_workspace(str(tmp_path / "out")) as workspace:
        assert workspace.finished() == []


def test_an_object_store_is_a_workspace_too(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/set"
    with open_workspace(url) as workspace:
        workspace.begin(JOB, [])
        workspace.put(record("pdf-0"))
        assert Workspace(folder_at(url)).finished() == [record("pdf-0")]
        workspace.close([record("pdf-0")])
    assert Workspace(folder_at(url)).is_closed
    assert folder_at(url).names(".json") == ["job.json"]
