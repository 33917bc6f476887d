"""The commands as a user types them: help with examples, one clear line for a mistake, what is left behind."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from varyforge.shards import ShardSet

ROOT = Path(__file__).parents[1]


def run(*words: str, status: int = 0, cwd: Path = ROOT) -> str:
    """Runs `python WORDS`; returns stdout and stderr."""
    done = subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=240, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == status, output
    return output


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that does the same in this process, which has imported torch already."""

    def call(*words: str, status: int = 0) -> str:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
        monkeypatch.setattr(sys, "argv", list(words[1:] if words[0] == "-m" else words))
        with pytest.raises(SystemExit) as ended:
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(words[0], run_name="__main__")
        output = "".join(capfd.readouterr())
        assert (ended.value.code or 0) == status, output
        return output

    return call


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "datagen.pdf"),
        ("-m", "datagen.scan"),
        ("-m", "datagen.labelled"),
        ("-m", "datagen.markdown"),
        ("-m", "datagen.detection"),
        ("-m", "datagen.referring"),
        ("-m", "datagen.caption"),
        ("-m", "datagen.chat"),
        ("-m", "datagen.vqa"),
        ("-m", "datagen.chart"),
        ("-m", "datagen.guard"),
        ("-m", "datagen.examples"),
        ("-m", "trainer.tokenizer"),
        ("-m", "trainer.evaluate"),
        ("-m", "trainer.convert"),
        ("-m", "trainer.export"),
        ("-m", "pipelines.mix"),
        ("-m", "pipelines.run"),
        ("-m", "pipelines.report"),
        ("trainer/run.py",),
    ],
    ids=lambda words: words[-1],
)
def test_help_has_an_example(words: tuple[str, ...], here: Callable[..., str]) -> None:
    text = here(*words, "--help")
    assert words[-1] in text.split("usage:")[1].split("\n\n", 1)[1], "no example in the help"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("-m", "datagen.pdf", "gone/", "--out", "OUT"), ["gone: no such file or folder"]),
        (("-m", "datagen.pdf", "--out", "/proc/no"), ["/proc/no"]),
        (("-m", "datagen.pdf", "recipes", "--out", "OUT", "short_side_px=0"), ["short_side_px"]),
        (("-m", "pipelines.run", "recipes/demo.yaml", "out=x"), ["out", "change copies of the recipes"]),
        (("-m", "datagen.pdf", "recipes", "--out", "OUT", "jpeg_qualty=3"), ["jpeg_qualty", "jpeg_quality"]),
        (("-m", "datagen.pdf", "recipes", "--out", "OUT"), ["recipes", "no *.pdf"]),
        (("-m", "datagen.detection", "--coco", "x.json", "--images", ".", "--out", "OUT"), ["x.json: no such file"]),
        (("-m", "datagen.chat", "gone.json", "--out", "OUT"), ["gone.json: no such file"]),
        (("-m", "datagen.pdf", "memory://gone/date=2024", "--out", "OUT"), ["memory://gone/date=2024: no such file"]),
        (("-m", "datagen.pdf", "recipes", "--languages", "english", "--out", "OUT"), ["'english' is not recognised"]),
        (("-m", "pipelines.verify", "check", "gone"), ["gone: no such shard set"]),
        (("-m", "pipelines.mix", "show", "gone.yaml"), ["gone.yaml: no such recipe"]),
        (
            (
                "-m",
                "pipelines.mix",
                "write",
                "recipes/mixtures/toy_sft.yaml",
                "sources.llava_80k.shards=gone",
                "--out",
                "OUT",
            ),
            ["toy_sft.yaml: sources.llava_80k.shards", "gone: no such shard set"],
        ),
        (("-m", "pipelines.mix", "step", "recipes/mixtures/toy_sft.yaml", "1"), ["give a training recipe"]),
        (("-m", "trainer.tokenizer", "gone", "--out", "OUT"), ["gone: no such shard set"]),
        (("-m", "trainer.evaluate", "gone", "--shards", "gone", "--out", "OUT"), ["gone: no such shard set"]),
        (("-m", "pipelines.run", "recipes/gone.yaml"), ["recipes/gone.yaml: no such recipe"]),
        (("trainer/run.py", "toy_pretrian"), ["toy_pretrian: no such recipe", "did you mean 'toy_pretrain'?"]),
        (("-m", "pipelines.run", "recipes/demo.yaml", "stage=1"), ["command line", "stage"]),
        (("trainer/run.py", "recipes/tiny_plus.yaml", "optim.learning_rat=1"), ["optim.learning_rat", "learning_rate"]),
        (("trainer/run.py", "recipes/tiny_plus.yaml", "engine.precision=fp8"), ["engine.precision", "fp8", "bf16"]),
        (
            ("trainer/run.py", "recipes/tiny_plus.yaml", "data.mixture.sources.pdf_en.shards=gone"),
            ["data.mixture.sources.pdf_en.shards", "gone: no such shard set"],
        ),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_clear_line(
    words: tuple[str, ...], parts: list[str], tmp_path: Path, here: Callable[..., str]
) -> None:
    local = ("--runner", "local") if words[1] in ("datagen.pdf", "datagen.detection", "datagen.chat") else ()
    output = here(*(word.replace("OUT", str(tmp_path / "out")) for word in words), *local, status=2)
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert all(part in line for part in parts), line
    assert "Traceback" not in output


def test_pdf_alone_makes_its_own_documents(tmp_path: Path) -> None:
    out = tmp_path / "shards"
    output = run("-m", "datagen.pdf", "--out", str(out), "--limit", "10", "--units-per-shard", "4", "short_side_px=256")
    assert "no PDFs given: made" in output
    shards = ShardSet(out)
    assert sum(record.units for record in shards.records) == 10
    assert all(record.units <= 4 for record in shards.records)
    with tarfile.open(out / f"{shards.records[0].name}.tar") as tar:
        assert tar.getnames()[0].endswith(".json")
    samples = list(webdataset.WebDataset([str(path) for path in sorted(out.glob("*.tar"))], shardshuffle=False))
    assert len(samples) == shards.table().num_rows == 10
    assert all({"__key__", "json", "jpg"} <= set(sample) for sample in samples)


@pytest.mark.slow
def test_a_killed_ray_job_is_finished_by_the_same_command(tmp_path: Path, documents: Path) -> None:
    words = [
        "-m",
        "datagen.pdf",
        str(documents),
        "--units-per-shard",
        "1",
        "--workers",
        "2",
        "short_side_px=256",
        "--out",
    ]
    run(*words, str(tmp_path / "whole"), "--runner", "local")
    on_ray = [*words, str(tmp_path / "killed"), "--address", "local"]  # a job as small as this starts none by itself
    process = subprocess.Popen([sys.executable, *on_ray], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and len(list((tmp_path / "killed").glob("done/*.json"))) < 2:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # the driver and all it started
    process.wait()
    output = run(*on_ray)
    finished = int(re.search(r"(\d+) of \d+ shards are finished", output)[1])  # type: ignore[index]
    assert 2 <= finished < len(ShardSet(tmp_path / "whole").records)
    for made in sorted((tmp_path / "whole").glob("*.tar")):
        assert (tmp_path / "killed" / made.name).read_bytes() == made.read_bytes()


def test_a_file_of_the_wrong_form_is_named_and_may_be_mended(tmp_path: Path) -> None:
    words = ("-m", "datagen.chat", str(tmp_path / "bad.json"), "--out", str(tmp_path / "o"), "--runner", "local")
    (tmp_path / "bad.json").write_text("{}")
    output = run(*words, status=2)
    assert "error: bad.json: wrong_form: expected a list of records" in output
    (tmp_path / "bad.json").write_text('[{"instruction": "Hi.", "output": " "}]')
    assert "answer_chars" in run(*words, status=1)  # nothing was written
