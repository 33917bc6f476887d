"""The package as a wheel in an empty folder: its console command, its data files, its recipes by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = (
    *(f"{package}/py.typed" for package in ("varyforge", "datagen", "trainer", "pipelines")),
    "varyforge/data/prompts.toml",
    "varyforge/recipes/mixtures/toy_sft.yaml",
    "datagen/card/card.html.jinja",
    "datagen/markdown/data/template.typ",
    "datagen/markdown/data/formula_symbols.toml",
    "datagen/examples/data/page.css",
    "pipelines/view/view.js",
)
LOOKUP = """
from pathlib import Path
from varyforge.config import find_recipe, load, files_of
from trainer.settings import Recipe
names = ("toy_pretrain", "toy_pretrain.yaml", "recipes/toy_pretrain.yaml")
assert len({find_recipe(name) for name in names}) == 1
assert load(Recipe, Path("toy_pretrain")).out == "runs/toy_pretrain"
print(*files_of(Path("demo/tiny_plus")), sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    empty, site = tmp_path / "empty", tmp_path / "site"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: str | Path) -> str:
        done = subprocess.run(words, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = (sys.executable, "-m", "pip", "--quiet")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    run(*pip, "install", "--no-deps", "--target", site, next(tmp_path.glob("varyforge-*.whl")))
    assert not [name for name in FILES if not (site / name).is_file()]
    assert "whole runs:" in run(sys.executable, site / "bin" / "varyforge", "--help")
    assert "python -m datagen.pdf" in run(sys.executable, site / "bin" / "varyforge", "pdf", "--help")
    recipes = run(sys.executable, "-c", LOOKUP).split()
    assert len(recipes) > 1 and all(Path(path).is_relative_to(site / "varyforge" / "recipes") for path in recipes)
