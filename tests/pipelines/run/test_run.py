"""Stages of a pipeline: which are run, which are skipped, and what a mistake says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.run.__main__ import Pipeline, Stage, main, run
from varyforge.errors import UserError
from varyforge.files import locked


def pipeline(folder: Path, *, text: str = "hello", fail: bool = False) -> Pipeline:
    """Return two stages that copy a file and count it. Each adds a line to calls.txt."""
    out = folder / "out"
    call = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2] + chr(10));"
    copy = f"{call} pathlib.Path(sys.argv[4]).write_text(pathlib.Path(sys.argv[3]).read_text() + {text!r})"
    count = f"{call} {'sys.exit(3);' if fail else ''} pathlib.Path(sys.argv[4]).write_text('x')"
    return Pipeline(
        out=str(out),
        pdfs="",
        stages={
            "copy": Stage(
                command=["python", "-c", copy, f"{folder}/calls.txt", "copy", f"{folder}/in.txt", f"{out}/copied"],
                reads=[f"{folder}/in.txt"],
                writes=[f"{out}/copied"],
            ),
            "count": Stage(
                command=["python", "-c", count, f"{folder}/calls.txt", "count", f"{out}/copied", f"{out}/counted"],
                reads=[f"{out}/copied"],
                writes=[f"{out}/counted"],
            ),
        },
    )


def calls(folder: Path) -> list[str]:
    done = (folder / "calls.txt").read_text().split()
    (folder / "calls.txt").write_text("")
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("in ")
    (tmp_path / "calls.txt").write_text("")
    (tmp_path / "out").mkdir()
    return tmp_path


def test_what_is_done_is_skipped_and_what_changed_is_done_again(folder: Path) -> None:
    run(pipeline(folder))
    assert calls(folder) == ["copy", "count"]
    run(pipeline(folder))
    assert calls(folder) == []
    (folder / "in.txt").write_text("changed ")
    run(pipeline(folder))
    assert calls(folder) == ["copy", "count"]
    assert (folder / "out" / "copied").read_text() == "changed hello"
    (folder / "out" / "counted").unlink()
    run(pipeline(folder))
    assert calls(folder) == ["count"]
    run(pipeline(folder, text="other"))
    assert calls(folder) == ["copy", "count"]


def test_a_failed_stage_stops_the_run_and_goes_on_later(folder: Path) -> None:
    with pytest.raises(UserError, match="stage count ended with exit status 3"):
        run(pipeline(folder, fail=True))
    assert calls(folder) == ["copy", "count"]
    run(pipeline(folder))
    assert calls(folder) == ["count"]


def test_a_stopped_stage_keeps_what_it_had_written(folder: Path) -> None:
    stages = pipeline(folder)
    run(stages)
    calls(folder)
    record = folder / "out" / "stages" / "count.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "done": False}))
    (folder / "out" / "counted").write_text("half")
    run(stages)
    assert calls(folder) == ["count"]


def test_mistakes(folder: Path) -> None:
    stages = pipeline(folder)
    (folder / "in.txt").unlink()
    with pytest.raises(UserError, match=r"stages\.copy\.reads: .*in\.txt: no such file"):
        run(stages)
    outside = Stage(command=["true"], reads=[], writes=[str(folder / "calls.txt")])
    with pytest.raises(UserError, match="is not below out"):
        run(Pipeline(out=stages.out, pdfs="", stages={"bad": outside}))
    assert (folder / "calls.txt").exists()
    (Path(stages.out) / "mine").mkdir()
    taken = Stage(command=["true"], reads=[], writes=[f"{stages.out}/mine"])
    with pytest.raises(UserError, match="not from stage taken of this pipeline"):
        run(Pipeline(out=stages.out, pdfs="", stages={"taken": taken}))
    assert (Path(stages.out) / "mine").is_dir()
    with locked(Path(stages.out)), pytest.raises(UserError, match="another process"):
        run(stages)
    with pytest.raises(UserError, match="no program 'nosuchprogram'"):
        run(Pipeline(out=stages.out, pdfs="", stages={"odd": Stage(command=["nosuchprogram"], reads=[], writes=[])}))
    nothing = Stage(command=["true"], reads=[], writes=[f"{stages.out}/never"])
    with pytest.raises(UserError, match=r"did not write .*never"):
        run(Pipeline(out=stages.out, pdfs="", stages={"lazy": nothing}))


def test_the_command_runs_a_recipe_and_lists_missing_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["pipelines.run", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(str(ended.value.code))

    recipe = folder / "recipe.yaml"
    needs = {
        name: f"path: {folder}/{name}, what: {name} of the makers, page: 'https://example.org'"
        for name in ("in.txt", "gone.zip")
    }
    recipe.write_text(f"""
out: {folder}/data
sets:
  there: {{row: a, command: [touch, {folder}/built], writes: {folder}/built, needs: [{{{needs["in.txt"]}}}]}}
  missing: {{row: b, command: ["false"], writes: {folder}/never, needs: [{{{needs["gone.zip"]}}}]}}
""")
    assert status(recipe, "--root", folder, "--dry-run") == 0
    assert not (folder / "built").exists()
    assert status(recipe, "--root", folder) == 1  # one set is missing
    assert (folder / "built").exists()
    assert "missing: missing" in capsys.readouterr().err
    assert status(recipe, "--root", folder / "gone") == 2
    assert "--root" in capsys.readouterr().err
    file = folder / "out" / "a"
    recipe.write_text(f"out: {file.parent}\nstages:\n  a: {{command: [touch, {file}], reads: [], writes: [{file}]}}\n")
    assert status(recipe, "out=elsewhere") == 2
    assert status(recipe) == 0
    assert file.exists()
