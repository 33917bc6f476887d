"""Optional packages: their kernels are used if they are installed, and the project works without them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.trainer.model.test_attention import CONFIGS
from trainer.model.liger import apply_liger
from trainer.model.registry import LANGUAGE_MODELS

ROOT = Path(__file__).parents[3]
ABSENT = ("flash_attn", "flash_attn_2_cuda", "xformers", "triton", "liger_kernel")


def without(code: str) -> str:
    """Run `code` in a process that cannot import the optional packages. Return its output."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"  # None: an import of it fails
    done = subprocess.run([sys.executable, "-c", blocked + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def entry_points() -> list[str]:
    """Return the modules that are started as commands."""
    paths = [path for package in ("datagen", "trainer", "pipelines") for path in sorted((ROOT / package).rglob("*.py"))]
    started = [path.relative_to(ROOT) for path in paths if '\nif __name__ == "__main__":' in path.read_text()]
    return [".".join(path.with_suffix("").parts) for path in started]


@pytest.mark.slow
def test_every_entry_point_imports_without_what_is_optional() -> None:
    names = entry_points()
    assert {
        "trainer.run",
        *(f"{name}.__main__" for name in ("trainer.evaluate", "pipelines.run", "datagen.pdf")),
    } <= set(names)
    message = without(f"import importlib\nfor name in {names}: importlib.import_module(name)\nprint('all')")
    assert message.splitlines()[-1] == "all"


@pytest.mark.slow
def test_a_step_runs_without_what_is_optional() -> None:
    message = without(
        "import torch\n"
        "from tests.trainer.ranks import make_model, micro_batches\n"
        "model = make_model('untied')\n"
        "for batch in micro_batches(0, 0, 1, model.layout): model(batch)[0].backward()\n"
        "print(all(p.grad is not None for p in model.parameters() if p.requires_grad))"
    )
    assert message.splitlines()[-1] == "True"


def test_nothing_is_compiled_by_default() -> None:
    for package in ("datagen", "trainer", "pipelines"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"torch\.compile\b|\.compile\(\)", path.read_text()), path


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Install a stand-in for the package and a pretended CUDA device. Return the calls of the stand-in."""
    calls: list[tuple[str, dict[str, Any]]] = []
    package, transformers = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    for family in ("llama", "mistral", "qwen2"):
        name = f"apply_liger_kernel_to_{family}"
        setattr(transformers, name, lambda name=name, **options: calls.append((name, options)))
    package.__spec__ = transformers.__spec__ = __spec__
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", transformers)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    return calls


def model_of(family: str) -> Any:
    return LANGUAGE_MODELS[family].build(CONFIGS[family], None, "sdpa", vocabulary=60)[0].model


def test_liger_is_asked_for_its_kernels_and_not_for_its_loss(requested: list[tuple[str, dict[str, Any]]]) -> None:
    model = model_of("qwen2")
    assert apply_liger(model)
    ((name, options),) = requested
    assert name == "apply_liger_kernel_to_qwen2"
    assert options.pop("model") is model
    assert options == {
        "rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False,
    }  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_liger_knows_three_architectures(requested: list[tuple[str, dict[str, Any]]], family: str) -> None:
    model = model_of("qwen2")
    model.config.model_type = family
    assert apply_liger(model)
    assert [name for name, _ in requested] == [f"apply_liger_kernel_to_{family}"]


def test_others_do_without(requested: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not apply_liger(model_of("opt"))  # LayerNorm, GELU and learned positions
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))  # a GTX 1080 Ti, which Triton is not for
    assert not apply_liger(model_of("qwen2"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not apply_liger(model_of("qwen2"))
    assert requested == []


@pytest.mark.parametrize("forbidden", [True, False])
def test_without_the_package_nothing_happens(monkeypatch: pytest.MonkeyPatch, forbidden: bool) -> None:
    model = model_of("qwen2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    if forbidden:
        monkeypatch.setitem(sys.modules, "liger_kernel", None)
    elif "liger_kernel" in sys.modules:
        pytest.skip("Liger is installed")
    assert not apply_liger(model)
