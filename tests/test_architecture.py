"""The shape of the code as rules: who imports whom, which library is known where, what may not stand in a file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from trainer import settings

ROOT = Path(__file__).parents[1]
FENCES = {
    "ray": {"datagen/job/ray_runner.py"},
    "omegaconf": {"varyforge/config.py"},
    "pymupdf": {"datagen/pdf/backends/mupdf.py", "datagen/examples/documents.py"},
    "pypdfium2": {"datagen/pdf/backends/pdfium.py"},
    "pypandoc": {"datagen/markdown/pandoc.py"},
    "typst": {"datagen/markdown/typeset.py"},
    "fontTools": {"datagen/markdown/typeset.py"},
    "deepspeed": {"trainer/train/engine.py"},
    "wandb": {"trainer/train/journal.py", "datagen/job/track.py"},
    "fsspec": {"varyforge/storage.py"},
    "matplotlib": {"pipelines/report/figures.py", "datagen/chart/draw.py", "datagen/chart/marks.py"},
    "jinja2": {"datagen/card/html.py"},
}
"""Libraries and the only files that know them."""


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def packages_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_datagen_knows_neither_trainer_nor_torch() -> None:
    for path in sources("datagen"):
        assert not packages_of(path) & {"torch", "transformers", "trainer", "pipelines"}, path


def test_the_contract_imports_nothing_of_ours() -> None:
    for path in sources("varyforge"):
        assert not packages_of(path) & {"torch", "transformers", "datagen", "trainer", "pipelines"}, path


def test_trainer_knows_neither_datagen_nor_pipelines() -> None:
    for path in sources("trainer"):
        assert not packages_of(path) & {"datagen", "pipelines"}, path


@pytest.mark.parametrize("library", sorted(FENCES))
def test_a_library_is_known_in_one_place(library: str) -> None:
    users = {
        str(path.relative_to(ROOT))
        for path in sources("varyforge", "datagen", "trainer", "pipelines")
        if library in packages_of(path)
    }
    assert users == FENCES[library]


def test_nothing_outside_the_model_asks_which_model_it_is() -> None:
    for path in sources("trainer", "pipelines"):
        if path.relative_to(ROOT).parts[:2] != ("trainer", "model"):
            deep = {name for name in imports(path) if re.match(r"trainer\.model\.(language|encoders)", name)}
            assert not deep, path


def test_loader_workers_import_no_model() -> None:
    """It would double the seconds until the first batch, and the memory of the process that forks them."""
    code = "import sys, trainer.loader.step_loader; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    names = loaded.stdout.split()
    assert "trainer.text.encode" in names
    assert not [name for name in names if re.match(r"deepspeed|trainer\.model|transformers\.models\.(clip|opt)", name)]


def test_evaluation_export_and_report_need_no_deepspeed() -> None:
    """Checked in a process that cannot import it, also of what the report imports only when it is needed."""
    commands = "trainer.evaluate.__main__, trainer.export.__main__, pipelines.report.__main__"
    lazy = "pipelines.report.runs, pipelines.report.scores"
    code = f"import sys; sys.modules['deepspeed'] = None; import {commands}, {lazy}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_precision_is_named_in_one_module() -> None:
    for path in sources("trainer"):
        if path.name != "precision.py":
            assert not re.search(r"torch\.(bfloat16|float16|half)\b|\.half\(\)|\.bfloat16\(\)", path.read_text()), path


def test_the_sample_is_light() -> None:
    code = "import sys, varyforge.sample; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"torch", "ray", "numpy", "pyarrow", "PIL", "omegaconf"}


def test_every_setting_is_used() -> None:
    code = "\n".join(path.read_text() for path in sources("trainer") if path.name != "settings.py")
    for name, schema in vars(settings).items():
        if is_dataclass(schema):
            for setting in fields(schema):
                assert re.search(rf"\.{setting.name}\b", code), f"{name}.{setting.name} is read nowhere"


def test_files_stay_small() -> None:
    for path in sources("varyforge", "datagen", "trainer", "pipelines"):
        assert len(path.read_text().splitlines()) <= 400, path


def test_nothing_personal() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    files = [ROOT / name for name in tracked] or list(sources("datagen", "trainer", "pipelines", "tests"))
    for path in files:
        if path.suffix in {".py", ".md", ".yaml", ".toml"} and path.name != "test_architecture.py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"/home/\w|/root/|/Users/|/work/|file:///", text), path
