"""The console command `varyforge`: its own words, and that each command is the code of its `python -m`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from varyforge.commands import COMMANDS, completion

ROOT = Path(__file__).parents[2]
CONSOLE = "from varyforge.commands import main; main()"


def console(*words: str, status: int = 0, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CONSOLE, *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_command_of_the_packages_has_a_name_here() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).parent.parts)
        for package in ("datagen", "trainer", "pipelines")
        for path in (ROOT / package).rglob("__main__.py")
    }
    assert {item.module for item in COMMANDS} == modules | {"trainer.run", "trainer.tokenizer"}


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_the_commands_in_groups(words: tuple[str, ...]) -> None:
    lines = console(*words).splitlines()
    assert [line for line in lines if line.endswith(":") and not line.startswith(" ")] == [
        "data:",
        "training:",
        "whole runs:",
    ]
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == [item.name for item in COMMANDS]
    assert max(map(len, lines)) <= 110


def test_help_imports_none_of_our_packages_nor_a_library() -> None:
    code = f"import sys, atexit; atexit.register(lambda: print(*sys.modules)); {CONSOLE}"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    loaded = set(out.splitlines()[-1].split())
    assert not {"numpy", "pyarrow", "rich", "torch", "omegaconf", "datagen", "trainer", "pipelines"} & loaded


@pytest.mark.parametrize(
    ("word", "hint"),
    [("pfd", "did you mean 'pdf'?"), ("evalute", "did you mean 'evaluate'?"), ("zzz", "`varyforge --help` lists")],
)
def test_a_typo_gets_the_most_similar_command(word: str, hint: str) -> None:
    output = console(word, status=2)
    assert output.startswith(f"error: no command {word!r}; ") and hint in output
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize("item", [item for item in COMMANDS if item.name in ("pdf", "verify")], ids=str)
def test_a_command_is_the_code_of_its_module(item: object) -> None:
    module = subprocess.run(
        [sys.executable, "-m", item.module, "--help"],  # type: ignore[attr-defined]
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    ours, theirs = console(item.name, "--help"), module.stdout + module.stderr  # type: ignore[attr-defined]
    usage = [text.partition("\n\n")[0].split() for text in (ours, theirs)]
    assert usage[0][:3] == ["usage:", "varyforge", item.name]  # type: ignore[attr-defined]  # as the user typed it
    assert usage[0][3:] == usage[1][4:]
    assert ours.split("\n\n", 1)[1] == theirs.split("\n\n", 1)[1]


def test_a_mistake_in_a_command_is_one_line_with_status_2(tmp_path: Path) -> None:
    output = console("verify", "check", "gone", status=2, cwd=tmp_path)
    assert "gone: no such shard set" in output and "Traceback" not in output


def test_training_starts_under_the_launcher_with_its_options(tmp_path: Path) -> None:
    """The recipe is found by name in an empty folder; what stands before is the launcher's."""
    output = console("train", "--num_gpus", "1", "toy_pretrain", "engine.precision=fp8", status=2, cwd=tmp_path)
    assert "--world_info" in output and "trainer/run.py toy_pretrain engine.precision=fp8" in output
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert "engine.precision" in line and "fp8" in line


def test_bash_completes_names(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(completion(["bash"]))
    ask = 'source ./script; COMP_WORDS=(varyforge "$1"); COMP_CWORD=1; _varyforge; echo "${COMPREPLY[@]}"'
    out = subprocess.run(["bash", "-c", ask, "-", "ex"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["examples", "export"]
    assert "compdef _varyforge varyforge" in completion(["zsh"])
    assert "varyforge completion bash" in console("completion", "fish", status=2)
