"""Build the data sets of a recipe and run its stages in order. Each is a command that a user could type.

    python -m pipelines.run recipes/demo.yaml pdfs=my/papers
    python -m pipelines.run recipes/data/stage2.yaml --root /data

A finished stage is skipped and a stopped stage is resumed. A stage starts from scratch if its command, its recipes or
its inputs have changed. Data sets are built if their files are below the root. Missing files are listed with the page
that offers them, and the exit status is 1.
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
from dataclasses import dataclass, field
from pathlib import Path

import trainer
from pipelines.run.data_sets import DataSet, build
from trainer.settings import EXPORT_FILE
from varyforge.commands import program
from varyforge.config import files_of, find_recipe, load
from varyforge.console import say, show_table
from varyforge.errors import UserError, command
from varyforge.files import locked, sha256_file, write_text
from varyforge.shards import MANIFEST

RECORDS = "stages"
_SCRIPT = "trainer/run.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One command, its inputs and its outputs."""

    command: list[str]  # program and arguments, run in the pipeline's working folder
    reads: list[str]  # files and folders; a change of one repeats the stage
    writes: list[str]  # below `out`; removed before the stage is repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A recipe of stages."""

    out: str  # folder of everything that the stages write
    root: str = ""  # folder of published data sets
    pdfs: str = ""  # folder of PDFs to train on
    sets: dict[str, DataSet] = field(default_factory=dict)
    stages: dict[str, Stage] = field(default_factory=dict)


def run(pipeline: Pipeline) -> bool:
    """Build the data sets whose files are there, and run the stages that are not finished.

    Returns:
        Whether all data sets were built.

    Raises:
        UserError: a stage failed, would overwrite files that this pipeline did not write, reads a missing file, or
            writes outside `out`; or this pipeline is already running.
    """
    _check_root(pipeline)
    with locked(Path(pipeline.out)) as lock:
        whole = not pipeline.sets or build(pipeline.sets, lambda name, words: _run_command(name, words, lock))
        if pipeline.stages and whole:
            _run_stages(pipeline, lock)
    return whole


def _check_root(pipeline: Pipeline) -> None:
    if pipeline.sets and not (pipeline.root and Path(pipeline.root).is_dir()):  # Path("") is the working folder
        raise UserError(f"root: {pipeline.root or 'not given'}: no such folder; --root names that of the data sets")


def _run_stages(pipeline: Pipeline, lock: int) -> None:
    times: list[tuple[str, str]] = []
    for number, (name, stage) in enumerate(pipeline.stages.items(), start=1):
        title = f"[{number}/{len(pipeline.stages)}] {name}"
        record = Path(pipeline.out) / RECORDS / f"{name}.json"
        now = identity(name, stage)
        then = json.loads(record.read_bytes()) if record.is_file() else None
        if then == {"identity": now, "done": True} and all(Path(path).exists() for path in stage.writes):
            say(f"{title}: done before")
            times.append((name, "done before"))
            continue
        if then is None or then["identity"] != now:
            _clear(name, stage, pipeline.out, ours=then is not None)
            write_text(record, json.dumps({"identity": now, "done": False}) + "\n")
        say(f"{title}: {shlex.join(stage.command)}")
        started = time.monotonic()
        _run_command(name, stage.command, lock)
        missing = [path for path in stage.writes if not Path(path).exists()]
        if missing:
            files = ", ".join(missing)
            raise UserError(
                f"stage {name} did not write {files}; mend what it says above and run the same command again"
            )
        seconds = time.monotonic() - started
        write_text(record, json.dumps({"identity": now, "done": True}) + "\n")
        times.append((name, f"{seconds:.0f} s"))
    show_table("stages", ("stage", "time"), times)


def identity(name: str, stage: Stage) -> str:
    """Return the SHA-256 of a stage's command and of the content of its inputs."""
    files = {path: find_recipe(path) for path in stage.reads}
    for path, file in files.items():
        if not file.exists():
            raise UserError(f"stages.{name}.reads: {path}: no such file or folder")
    parts = [*stage.command, *(f"{path} {_fingerprint(file)}" for path, file in files.items())]
    return hashlib.sha256("\n".join(parts).encode(errors="backslashreplace")).hexdigest()


def _fingerprint(path: Path) -> str:
    """Hash a file's or folder's content, of shard sets, exported models and tokenizers only the main file."""
    if path.suffix == ".yaml":
        return " ".join(sha256_file(file) for file in files_of(path))
    for known in (MANIFEST, EXPORT_FILE, "tokenizer.json"):
        if (path / known).is_file():
            return sha256_file(path / known)
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    listing = "\n".join(f"{file} {sha256_file(file)}" for file in files)
    return hashlib.sha256(listing.encode(errors="backslashreplace")).hexdigest()


def _clear(name: str, stage: Stage, out: str, *, ours: bool) -> None:
    """Remove the outputs of an earlier run of a stage that starts from scratch."""
    for path in map(Path, stage.writes):
        if not path.resolve().is_relative_to(Path(out).resolve()):
            raise UserError(f"stages.{name}.writes: {path} is not below out: {out}")
        if path.exists() and not ours:
            raise UserError(f"{path}: is there already, but not from stage {name} of this pipeline; move it away")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _run_command(name: str, words: list[str], lock: int) -> None:
    """Run the command of a stage or a data set with this interpreter's programs first on the path.

    The command inherits the pipeline's lock. If the pipeline is killed, the stage therefore cannot be started again
    while its command is still running.

    Raises:
        UserError: there is no such program, or its exit status is not 0.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(words[0], path=path)
    if program is None:
        raise UserError(f"{name}.command: no program {words[0]!r} on the path")
    script = _SCRIPT if Path(_SCRIPT).is_file() else f"{trainer.__path__[0]}/run.py"  # the installed one
    words = [program, *(script if word == _SCRIPT else word for word in words[1:])]
    process = subprocess.Popen(words, env={**os.environ, "PATH": path}, pass_fds=[lock])
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal sent Ctrl-C to the command, too
        raise
    if status:
        raise UserError(
            f"stage {name} ended with exit status {status}; mend what it says above and run the same command again"
        )


@command
def main() -> int:
    """Parse the command line and run the pipeline."""
    parser = argparse.ArgumentParser(
        prog=program("pipelines.run"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path, help="YAML file with data sets or stages, e.g. recipes/demo.yaml")
    parser.add_argument("overrides", nargs="*", help="settings as key=value, e.g. pdfs=my/papers")
    parser.add_argument("--root", help="folder of the data sets (as root=FOLDER)")
    parser.add_argument("--dry-run", action="store_true", help="only list which data sets have their files")
    arguments = parser.parse_intermixed_args()
    inputs = {"root": arguments.root} if arguments.root else {}
    pipeline = load(Pipeline, arguments.recipe, arguments.overrides, inputs=inputs)
    if pipeline.stages and any(item.startswith("out=") for item in arguments.overrides):
        raise UserError(
            "command line: out: the recipes of the stages name the same folder; change copies of the recipes instead"
        )
    if arguments.dry_run:
        _check_root(pipeline)
        build(pipeline.sets, None)
        return 0
    return 0 if run(pipeline) else 1


if __name__ == "__main__":
    main()
