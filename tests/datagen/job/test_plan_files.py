from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from datagen.detection.source import DetectionSource
from datagen.job.isolate import Limits
from datagen.job.job import run_job
from datagen.job.plan import RUNS_PER_SHARD, plan_shards
from datagen.job.runner import LocalRunner
from datagen.job.scan import Scan, batches, find_unit, read_runs, read_units
from datagen.job.settings import JobSettings
from tests.datagen.sources import LinesSource
from varyforge.shards import ShardSet
from varyforge.storage import folder_at


def test_a_plan_of_many_documents_of_one_unit(tmp_path: Path) -> None:
    """Rows lie in several groups of the parquet file, in order of place, and each is found again by its number."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in range(2500)]
    form = {"images": images, "annotations": [], "categories": []}
    (tmp_path / "instances.json").write_text(json.dumps(form))
    source = DetectionSource(format="coco", annotations=str(tmp_path / "instances.json"), images=str(tmp_path))
    folder = folder_at(tmp_path / "out")
    (batch,) = batches(source, "", 100, None)
    assert batch.run_units == 100 // RUNS_PER_SHARD
    Scan(source, folder, Limits())(batch, lambda _: None)
    assert pq.ParquetFile(tmp_path / "out" / batch.name).num_row_groups == 3
    runs, failed, _ = read_runs(folder, batch.name)
    assert (failed, list(runs.position)) == (0, sorted(runs.position))
    shards = list(plan_shards("detection", runs, 100))
    units = [unit for shard in shards for run in read_units(folder, shard.runs) for unit in run]
    assert sorted(unit.id for unit in units) == sorted(f"{n}.jpg#{n}" for n in range(2500))
    middle = [(batch.name, row) for row in (2499, 1023, 1024, 0)]
    assert [run[0].id for run in read_units(folder, middle)] == [units[row].id for _, row in middle]
    assert find_unit(folder, units[1234].id) == units[1234]
    assert find_unit(folder, "gone.jpg#1") is None


def test_an_input_that_turns_out_to_be_no_good_leaves_no_unit(tmp_path: Path) -> None:
    """Not even those that were planned before it did, nor those behind."""
    inputs = tmp_path / "texts"
    inputs.mkdir()
    (inputs / "bad.txt").write_text("".join(f"line {n}\n" for n in range(2500)) + "no good\nmore\n")
    (inputs / "good.txt").write_text("one line\nanother line\n")
    run_job(LinesSource(paths=[str(inputs)]), tmp_path / "out", JobSettings(units_per_shard=4), LocalRunner())
    rows = ShardSet(tmp_path / "out").ledger().to_pylist()
    assert sorted((row["unit"], row["outcome"], row["reason"], row["detail"]) for row in rows) == [
        ("bad.txt", "failed", "wrong_form", "line 2500 is no good"),
        ("good.txt#0", "written", "", ""),
        ("good.txt#1", "written", "", ""),
    ]
