"""The shape of the code as rules: who imports whom, which library is known where, what may not stand in a file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

from trainer import settings

ROOT = Path(__file__).parents[1]
PACKAGES = ("varyforge", "datagen", "trainer", "pipelines")
MAY_IMPORT = {
    "varyforge": set(),
    "datagen": {"varyforge"},
    "trainer": {"varyforge"},
    "pipelines": {"varyforge", "datagen", "trainer"},
}
"""Our packages → those of ours that they may import."""

FENCES = {
    "ray": {"datagen/job/ray_runner.py"},
    "omegaconf": {"varyforge/config.py"},
    "pymupdf": {
        "datagen/pdf/backends/mupdf.py",
        "datagen/pdf/backends/mupdf_blocks.py",
        "datagen/pdf/backends/mupdf_text.py",
        "datagen/examples/documents.py",
    },
    "pypdfium2": {"datagen/pdf/backends/pdfium.py"},
    "rapidocr": {"datagen/scan/rapid.py"},
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

BUSY_INIT = {"varyforge", "trainer"}
"""One offers names to programs, one says which extra brings a library that is missing."""

MOST_ROOMS, LONGEST_CHAIN, MOST_LINES, MEDIAN_LINES = 20, 11, 400, 160


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(path: Path, at_start: bool = False) -> frozenset[str]:
    """Dotted names that a file imports: anywhere in it, or only those that are imported when it is."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        if at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if at_start and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
    return frozenset(names)


def packages_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def longest_chain() -> list[str]:
    """The longest chain of modules that import each other when they are imported; fails where there is a circle."""
    modules = {name_of(path): imports(path, at_start=True) for path in sources(*PACKAGES)}
    graph = {name: (names & modules.keys()) - {name} for name, names in modules.items()}
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        chains[name] = [name, *max((chains[other] for other in graph[name]), key=len, default=[])]
    return max(chains.values(), key=len)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    forbidden = set(PACKAGES) - MAY_IMPORT[package] - {package}
    forbidden |= set() if package in ("trainer", "pipelines") else {"torch", "transformers"}
    for path in sources(package):
        assert not packages_of(path) & forbidden, path


def test_there_are_no_circles_and_no_long_chains_of_imports() -> None:
    chain = longest_chain()
    assert len(chain) <= LONGEST_CHAIN, " > ".join(chain)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_can_be_seen_at_a_glance(package: str) -> None:
    rooms = {path.relative_to(ROOT / package).parts[0] for path in sources(package)} - {"__init__.py"}
    assert len(rooms) <= MOST_ROOMS, sorted(rooms)


def test_files_stay_small_and_init_files_hold_a_docstring_alone() -> None:
    lengths = []
    for path in sources(*PACKAGES):
        if path.name == "__init__.py" and path.parent.name not in BUSY_INIT:
            assert len(ast.parse(path.read_text()).body) == 1, path
        else:
            lengths.append(len(path.read_text().splitlines()))
            assert lengths[-1] <= MOST_LINES, path
    assert median(lengths) <= MEDIAN_LINES


@pytest.mark.parametrize("library", sorted(FENCES))
def test_a_library_is_known_in_one_place(library: str) -> None:
    users = {str(path.relative_to(ROOT)) for path in sources(*PACKAGES) if library in packages_of(path)}
    assert users == FENCES[library]


def modules_after(code: str) -> set[str]:
    """Names of the modules that are loaded after some imports in a fresh interpreter."""
    words = [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"]
    return set(subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split())


def test_loader_workers_import_no_model() -> None:
    """It would double the seconds until the first batch, and the memory of the process that forks them."""
    names = modules_after("import trainer.loader.step_loader")
    assert "trainer.text.encode" in names
    assert not [name for name in names if re.match(r"deepspeed|trainer\.model|transformers\.models\.(clip|opt)", name)]


def test_evaluation_export_and_report_import_no_deepspeed() -> None:
    modules = (
        "trainer.evaluate.__main__",
        "trainer.export.__main__",
        "pipelines.report.runs",
        "pipelines.report.scores",
    )
    names = modules_after(f"import {', '.join(modules)}")
    assert not [name for name in names if name.partition(".")[0] == "deepspeed"]


def test_the_sample_is_light() -> None:
    heavy = {"torch", "ray", "numpy", "pyarrow", "PIL", "omegaconf"}
    assert not {name.partition(".")[0] for name in modules_after("import varyforge.sample")} & heavy


def test_nothing_outside_the_model_asks_which_model_it_is() -> None:
    for path in sources("trainer", "pipelines"):
        if path.relative_to(ROOT).parts[:2] != ("trainer", "model"):
            assert not [name for name in imports(path) if re.match(r"trainer\.model\.(language|encoders)", name)], path


def test_precision_is_named_in_one_module() -> None:
    for path in sources("trainer"):
        if path.name != "precision.py":
            assert not re.search(r"torch\.(bfloat16|float16|half)\b|\.half\(\)|\.bfloat16\(\)", path.read_text()), path


def test_every_setting_is_used() -> None:
    code = "\n".join(path.read_text() for path in sources("trainer") if path.name != "settings.py")
    for name, schema in vars(settings).items():
        if is_dataclass(schema):
            for setting in fields(schema):
                assert re.search(rf"\.{setting.name}\b", code), f"{name}.{setting.name} is read nowhere"


def test_nothing_personal() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    files = [ROOT / name for name in tracked] or list(sources(*PACKAGES, "tests"))
    for path in files:
        if path.suffix in {".py", ".md", ".yaml", ".toml"} and path.name != "test_architecture.py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"/home/\w|/root/|/Users/|/work/|file:///", text), path
