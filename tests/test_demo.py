"""The demo as a whole, killed in the middle. Some minutes: `make test-slow`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.train.journal import read_log

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_survives_a_kill_and_reports(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copytree(ROOT / "trainer", tmp_path / "trainer")  # the launcher is given the script's path
    command = [sys.executable, "-m", "pipelines.run", "recipes/demo.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    first = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    out = tmp_path / "runs" / "demo"
    while first.poll() is None and not (out / "tiny_plus" / "log.jsonl").exists():
        time.sleep(0.5)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(5)  # the launcher's children notice

    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr[-3000:]
    assert second.stderr.count("done before") >= 5
    for name in ("tiny_plus", "toy_pretrain", "toy_sft"):
        losses = [line["loss"] for line in read_log(out / name)]
        assert sum(losses[-5:]) < sum(losses[:5]), name
    page = (out / "report.html").read_text()
    assert "not expected to read" in page and page.count("<svg") == 3

    third = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert third.stderr.count(": done before") == 11
