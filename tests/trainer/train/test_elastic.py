"""A run that is killed with -9 and resumed on another number of ranks and workers reads the same samples."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainer.world import make_tokenizer, tiny_recipe
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.settings import Recipe
from trainer.train.checkpoint import checkpoints
from trainer.train.journal import read_log
from varyforge.config import to_yaml

ROOT = Path(__file__).parents[3]
STEPS, KILLED = 200, 73

PROGRAM = """
import json, sys, torch
from pathlib import Path
from varyforge.config import load
from trainer import run
from trainer.train import loop
from trainer.settings import Recipe

recipe, seen = load(Recipe, Path(sys.argv[1]), sys.argv[3:]), open(sys.argv[2], "a")
torch.set_flush_denormal(True)
real = loop.train_step

def train_step(engine, step, rate, empty):
    result = real(engine, step, rate, empty)
    print(json.dumps([key for batch in step.batches for key in batch.keys]), file=seen, flush=True)
    return result

loop.train_step = train_step
run.train_recipe(recipe)
"""
"""A program that trains as trainer/run.py does and logs the samples of each step of a rank."""


def start(recipe: Path, seen: Path, ranks: int, *overrides: str) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(recipe), f"{seen}-{rank}", *overrides],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONHASHSEED": str(rank + ranks)},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for rank in range(ranks)
    ]


def steps_seen(seen: Path, ranks: int) -> list[Counter[str]]:
    """Return the samples of each step over all ranks, up to the last step that all ranks have logged."""
    parts = []
    for rank in range(ranks):
        path = Path(f"{seen}-{rank}")
        lines = path.read_text().splitlines() if path.exists() else []
        parts.append([json.loads(line) for line in lines])
    return [Counter(key for keys in step for key in keys) for step in zip(*parts, strict=False)]


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    assert [process.wait(timeout=250) for process in processes] == [0] * len(processes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_and_resumed_on_other_ranks_and_workers(pdf_shards: Path, chat_shards: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer([pdf_shards, chat_shards], tmp_path / "tokenizer")
    shards = {"pdf": pdf_shards, "chat": chat_shards}
    recipe = tiny_recipe(tmp_path / "run", tokenizer, shards, samples=STEPS * 4 // 2)
    assert recipe.engine.zero_stage == 2
    recipe = replace(recipe, checkpoint=replace(recipe.checkpoint, every_steps=20))
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe))

    straight = tmp_path / "straight"
    finish(start(path, tmp_path / "seen-straight", 1, f"out={straight}", "data.workers=0"))
    expected = steps_seen(tmp_path / "seen-straight", 1)
    assert expected == from_the_mixture(recipe)

    first = tmp_path / "seen-first"
    killed = start(path, first, 2, "data.workers=1")
    while len(steps_seen(first, 2)) < KILLED:
        assert all(process.poll() is None for process in killed), "a rank ended by itself"
        time.sleep(0.02)
    for process in killed:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = steps_seen(first, 2)
    assert before == expected[: len(before)]
    done = int(checkpoints(tmp_path / "run")[-1].name.removeprefix("step-"))
    assert 0 < done <= len(before) < STEPS

    finish(start(path, tmp_path / "seen-second", 1, "data.workers=3"))
    after = steps_seen(tmp_path / "seen-second", 1)
    assert before[:done] + after == expected  # none repeated, none lost

    losses = [[line["loss"] for line in read_log(out)] for out in (straight, tmp_path / "run")]
    assert len(losses[1]) == STEPS
    assert losses[1] == pytest.approx(losses[0], rel=2e-2)  # sums in another order, over 200 updates


def from_the_mixture(recipe: Recipe) -> list[Counter[str]]:
    """Return the samples of each step, from the recipe alone."""
    corpus, size = Corpus(recipe.data, open_cache(recipe.data)), recipe.engine.global_batch_size
    return [Counter(corpus.key(step * size + n) for n in range(size)) for step in range(STEPS)]
