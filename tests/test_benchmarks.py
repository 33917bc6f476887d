"""The benchmarks of the model run, at sizes where their figures mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import mix_stream, model_step, pair
from benchmarks.released import ToySizes
from varyforge.errors import UserError


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("case", "sides"),
    [("toy", 2), pytest.param("sam", 2, marks=pytest.mark.slow), pytest.param("tiny", 4, marks=pytest.mark.slow)],
)
def test_a_step_is_timed_and_weighed_on_both_sides(case: str, sides: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It fails by itself where the two sides do not have the same loss."""
    model_step.main([case, "--quick", "--rounds", "1", "--supervised", "0.6"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + sides
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    assert head[:3] == ["supervised", "side", "wall s"]
    assert all(float(row[2]) > 0 and len(row) == len(head) for row in rows)


@pytest.mark.gpu
def test_a_gpu_is_measured(tmp_path: Path) -> None:
    model_step.main(["gpu", "--quick", "--out", str(tmp_path / "gpu.md")])
    rows = [line for line in (tmp_path / "gpu.md").read_text().splitlines() if line.startswith(("| tiny", "| toy"))]
    assert len(rows) == 3 * 2 * 2 * 2 and "out of memory" not in "".join(rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    with pytest.raises(UserError, match="gpu: torch sees no CUDA device"):
        model_step.main(["gpu"])


def test_different_losses_are_no_result() -> None:
    with pytest.raises(AssertionError, match="different losses"):
        pair.agree({"released": 2.0, "ours": 2.001})


def test_the_stream_is_the_same_on_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    mix_stream.main(["--quick", "--rounds", "1"])
    out = capsys.readouterr().out
    assert "times less" in out and "| ours, packed |" in out


def test_packed_rows_cost_less_than_padded_batches_whatever_the_machine() -> None:
    sizes = mix_stream.stream(512, np.random.default_rng(0))
    ours, released = mix_stream.flops(pair.ours(ToySizes(), device="meta"), sizes)
    assert released / ours > 1.7
