from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from datagen.detection import DetectionSource
from datagen.isolate import Limits
from datagen.plan import RUNS_PER_SHARD, plan_shards
from datagen.scan import Scan, batches, find_unit, read_runs, read_units
from datagen.storage import folder_at


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
    assert (failed, list(runs.place)) == (0, sorted(runs.place))
    shards = list(plan_shards("detection", runs, 100))
    units = [unit for shard in shards for run in read_units(folder, shard.runs) for unit in run]
    assert sorted(unit.id for unit in units) == sorted(f"{n}.jpg#{n}" for n in range(2500))
    middle = [(batch.name, row) for row in (2499, 1023, 1024, 0)]
    assert [run[0].id for run in read_units(folder, middle)] == [units[row].id for _, row in middle]
    assert find_unit(folder, units[1234].id) == units[1234]
    assert find_unit(folder, "gone.jpg#1") is None
