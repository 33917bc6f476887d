"""Dependencies by use: each kind of node runs without the libraries of the others, and a missing one is named."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = """
import importlib.metadata, sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
version = importlib.metadata.version
def of_installed(name):
    if name in {names}:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = of_installed
"""
DATA = ["ray", "pymupdf", "fitz", "pypdfium2"]
LATEX = ["pypandoc", "typst", "fontTools"]
CHARTS = ["matplotlib"]
TRAIN = ["torch", "deepspeed", "transformers", "tokenizers", "safetensors", "rapidfuzz", "webdataset"]
CONSOLE = "from varyforge.commands import main; main()"


def without(names: list[str], code: str, *words: str, status: int = 0) -> str:
    """Runs `code` where `names` cannot be imported, in the children of the process either."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(BLOCK.format(names=names))
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([folder, str(ROOT)])},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def modules_of(package: str) -> list[str]:
    paths = (path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / package).rglob("*.py")))
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if ".shipped." not in name]  # they are run from an exported folder


def test_a_node_that_trains_needs_no_library_of_data() -> None:
    """Neither what makes data nor what draws: the trainer's modules load, and with them the model takes a step."""
    code = (
        f"import importlib\nfor name in {modules_of('trainer')}: importlib.import_module(name)\n"
        "import torch\nfrom trainer.model.connectors import *\n"
        "from tests.trainer.world import *\n"
    )
    without(DATA + LATEX + CHARTS, code)


def test_a_node_that_makes_data_needs_no_library_of_training(tmp_path: Path) -> None:
    (tmp_path / "chats.json").write_text('[{"instruction": "Name a colour.", "output": "Blue, for example."}]')
    words = ("chat", str(tmp_path / "chats.json"), "--out", str(tmp_path / "out"), "--runner", "local")
    without(TRAIN + DATA + LATEX + CHARTS, CONSOLE, *words)
    reading = (
        f"from varyforge import open_set; print(*(s.answer for s in open_set({str(tmp_path / 'out')!r}).samples()))"
    )
    assert "Blue, for example." in without(TRAIN + DATA + LATEX + CHARTS, reading)


def test_data_modules_need_no_library_of_training() -> None:
    without(TRAIN, f"import importlib\nfor name in {modules_of('datagen')}: importlib.import_module(name)")


@pytest.mark.parametrize("words", [("view", "--help"), ("verify", "check", "gone")], ids=lambda words: words[0])
def test_sets_are_looked_at_and_checked_without_any_extra(words: tuple[str, ...]) -> None:
    output = without(TRAIN + DATA + LATEX + CHARTS, CONSOLE, *words, status=0 if words[-1] == "--help" else 2)
    assert "not installed" not in output


@pytest.mark.parametrize(
    ("words", "library", "extra"),
    [
        (("evaluate", "--help"), "torch", "train"),
        (("train", "recipe.yaml"), "deepspeed", "train"),
        (("pdf", ".", "--out", "OUT", "--runner", "local"), "pymupdf", "data"),
        (("chat", "CHATS", "--out", "OUT", "--address", "auto"), "ray", "data"),
        (("chart", "--charts", "1", "--out", "OUT", "--runner", "local"), "matplotlib", "charts"),
        (("scan", ".", "--out", "OUT", "--runner", "local", "engine=rapidocr"), "rapidocr", "ocr"),
        (("markdown", "README.md", "--out", "OUT", "--runner", "local"), "pypandoc_binary", "latex"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    words: tuple[str, ...], library: str, extra: str, tmp_path: Path
) -> None:
    (tmp_path / "chats.json").write_text('[{"instruction": "Name a colour.", "output": "Blue, for example."}]')
    places = {"OUT": str(tmp_path / "out"), "CHATS": str(tmp_path / "chats.json")}
    output = without([library], CONSOLE, *(places.get(word, word) for word in words), status=2)
    assert f"error: {library} is not installed; type: pip install 'varyforge[{extra}]'" in output
    assert "Traceback" not in output


def test_it_is_named_by_python_m_too() -> None:
    """There the import fails before `main`: Python's hook for uncaught exceptions prints the line."""
    code = "import sys; sys.orig_argv = ['python', '-m', 'trainer.evaluate']; import trainer; import torch"
    assert "error: torch is not installed; type: pip install 'varyforge[train]'" in without(["torch"], code, status=2)
