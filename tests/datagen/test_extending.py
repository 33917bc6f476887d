"""The source that docs/extending.md shows works as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image

from varyforge.shards import ShardSet

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_page(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    (tmp_path / "scans.py").write_text(code)
    lines = tmp_path / "lines"
    lines.mkdir()
    for name, text in (("a", "Quarterly accounts of the society"), ("b", "  "), ("c", "第二行文字")):
        PIL.Image.new("RGB", (200, 30), (ord(name), 0, 0)).save(lines / f"{name}.png")
        (lines / f"{name}.txt").write_text(text)
    (lines / "d.png").write_bytes(b"broken")
    done = subprocess.run(
        [sys.executable, "scans.py", "lines", "--out", "out", "--runner", "local"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f".{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shards = ShardSet(tmp_path / "out")
    ledger = {row["unit"]: (row["outcome"], row["gate"] or row["reason"]) for row in shards.ledger().to_pylist()}
    assert ledger == {
        "a.png": ("written", ""),
        "b.png": ("rejected", "chars"),
        "c.png": ("written", ""),
        "d.png": ("failed", "broken_image"),
    }
    places = shards.table(["shard", "offset", "size"]).to_pylist()
    answers = {shards.read(**place).answer for place in places}
    assert answers == {"Quarterly accounts of the society", "第二行文字"}
