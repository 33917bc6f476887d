"""Whole runs: the stages of a recipe in order, each a command that a user could type.

    python -m pipelines.run recipes/demo.yaml pdfs=my/papers

A stage that is done is skipped; one that was stopped goes on where it was; one whose command, recipes or inputs have
changed is done again from the start.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from datagen.config import files_of, load
from datagen.console import say, show_table
from datagen.errors import UserError, command
from datagen.files import sha256_file, write_text
from datagen.shards import MANIFEST
from trainer.model.weights import EXPORT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One command, what it reads and what it leaves."""

    command: str  # as typed in a shell from the repository's root; no pipes or variables of the shell
    reads: list[str]  # files and folders; when one of them changes, the stage is done again
    writes: list[str]  # there when the stage is done; removed before it is done again, so only below `out`


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A recipe of stages."""

    out: str  # everything the stages write is below it
    pdfs: str  # folder of PDFs to train on
    stages: dict[str, Stage]


def run(pipeline: Pipeline) -> None:
    """Runs the stages that are not done.

    Raises:
        UserError: a stage failed, or names something that is not there or not below `out`.
    """
    times: list[tuple[str, str]] = []
    for number, (name, stage) in enumerate(pipeline.stages.items(), start=1):
        title = f"[{number}/{len(pipeline.stages)}] {name}"
        record = Path(pipeline.out) / "stages" / f"{name}.json"
        now = identity(name, stage)
        then = json.loads(record.read_bytes()) if record.is_file() else {}
        if then.get("identity") == now and then.get("done") and all(Path(path).exists() for path in stage.writes):
            say(f"{title}: done before")
            times.append((name, "done before"))
            continue
        if then.get("identity") != now:
            for path in stage.writes:
                _remove(path, pipeline.out, name)
            write_text(record, json.dumps({"identity": now, "done": False}) + "\n")
        say(f"{title}: {stage.command}")
        seconds = _run_command(name, stage)
        write_text(record, json.dumps({"identity": now, "done": True, "seconds": round(seconds, 1)}) + "\n")
        times.append((name, f"{seconds:.0f} s"))
    show_table("stages", ("stage", "time"), times)


def identity(name: str, stage: Stage) -> str:
    """SHA-256 of a stage's command and of what it reads."""
    for path in stage.reads:
        if not Path(path).exists():
            raise UserError(f"stages.{name}.reads: {path}: no such file or folder")
    parts = [stage.command, *(f"{path} {_fingerprint(Path(path))}" for path in stage.reads)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fingerprint(path: Path) -> str:
    """Of content where that is cheap to know (recipes, shard sets, exported models), else of names, sizes and times."""
    if path.suffix == ".yaml":
        return " ".join(sha256_file(file) for file in files_of(path))
    for known in (MANIFEST, EXPORT_FILE, "tokenizer.json"):
        if (path / known).is_file():
            return sha256_file(path / known)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    listing = "\n".join(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _run_command(name: str, stage: Stage) -> float:
    """Runs the command with this interpreter's programs first on the path.

    Returns:
        Seconds taken.
    """
    started = time.monotonic()
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    status = subprocess.run(shlex.split(stage.command), env={**os.environ, "PATH": programs}, check=False).returncode
    if status in (130, -2):
        raise KeyboardInterrupt
    missing = [path for path in stage.writes if not Path(path).exists()]
    if status or missing:
        what = f"ended with exit status {status}" if status else f"did not write {', '.join(missing)}"
        raise UserError(f"stage {name} {what}; mend what it says above and run the same command again")
    return time.monotonic() - started


def _remove(path: str, out: str, stage: str) -> None:
    if not Path(path).resolve().is_relative_to(Path(out).resolve()):
        raise UserError(f"stages.{stage}.writes: {path} is not below out: {out}")
    if Path(path).is_dir():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


@command
def main() -> int:
    """Parses the command line and runs the pipeline."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="YAML with stages; see recipes/demo.yaml")
    parser.add_argument("overrides", nargs="*", help="key=value, e.g. pdfs=my/papers")
    arguments = parser.parse_args()
    run(load(Pipeline, arguments.recipe, arguments.overrides))
    return 0


if __name__ == "__main__":
    main()
