"""The paper's data from one file: what is there is built, what is missing is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.run.__main__ import Pipeline, run
from pipelines.run.data_sets import DataSet, Need
from tests.pipelines.paper_root import write_paper_root
from varyforge.config import load
from varyforge.errors import UserError
from varyforge.shards import ShardSet

RECIPES = Path(__file__).parents[3] / "recipes"
QUICK = ["--runner", "local", "--workers", "1", "--units-per-shard", "8", "--validation-share", "0"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_paper_root(tmp_path_factory.mktemp("root") / "data")


def recipe(name: str, root: Path, out: Path) -> Pipeline:
    """A recipe of the paper's data, its jobs without Ray and with small shards."""
    pipeline = load(Pipeline, RECIPES / "data" / f"{name}.yaml", [f"out={out}"], inputs={"root": str(root)})
    quick = {
        name: of if name == "guard" else replace(of, command=[*of.command, *QUICK])
        for name, of in pipeline.sets.items()
    }
    return replace(pipeline, sets=quick)


SAMPLES = {  # written, and ledger rows by gate or reason
    "pdf_en": ({"ocr"}, {"languages"}),
    "pdf_zh": ({"ocr"}, {"languages"}),
    "objects365": ({"detection"}, set()),
    "openimages": ({"detection"}, set()),
    "laion_coco": ({"caption"}, set()),
    "blip_558k": ({"caption"}, set()),
    "pdf": ({"ocr"}, set()),
    "markdown": ({"markdown"}, set()),
    "coco": ({"detection"}, set()),
    "refcoco": ({"referring"}, {"split"}),
    "sharegpt": ({"text"}, None),
    "baize": ({"text"}, None),
    "alpaca": ({"text"}, set()),
    "docvqa": ({"vqa"}, set()),
    "chartqa": ({"vqa"}, set()),
    "llava_80k": ({"instruct"}, set()),
    "cc3m_595k": ({"caption"}, set()),
    "llava_150k": ({"instruct"}, set()),
    "llava_665k": ({"instruct"}, set()),
    "llava_next": ({"instruct"}, set()),
    "llava_643k": ({"instruct"}, {"left_out"}),
    "sharegpt4v": ({"instruct"}, set()),
    "laion_gpt4v": ({"caption"}, set()),
    "docvqa_16": ({"vqa"}, set()),
    "chartqa_16": ({"vqa"}, set()),
    "dvqa": ({"vqa"}, set()),
    "ai2d": ({"instruct"}, {"splits"}),
    "synthdog_en": ({"ocr"}, set()),
    "funsd": ({"vqa"}, set()),
    "sroie": ({"vqa"}, set()),
    "cord": ({"vqa"}, set()),
}


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("stage1", "stage2", "llava_16")), "sft", "llava"]
)
def test_every_row_is_built_from_a_miniature_of_its_set(
    name: str, root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pipeline = recipe(name, root, tmp_path / "out")
    assert run(pipeline), capfd.readouterr().err
    for row in pipeline.sets.keys() - {"guard"}:
        shards = ShardSet(tmp_path / "out" / row)
        tasks, causes = SAMPLES[row]
        assert set(shards.table(["task"]).column("task").to_pylist()) == tasks, row
        found = {r["gate"] or r["reason"] for r in shards.ledger().to_pylist() if r["outcome"] != "written"}
        assert causes is None or found == causes, row
        assert (tmp_path / "out" / row / "card.html").is_file()


def test_the_recipes_name_every_row_that_training_reads(root: Path, tmp_path: Path) -> None:
    from trainer.settings import Recipe

    for data, training in (("stage1", "tiny_plus"), ("stage2", "toy_pretrain"), ("sft", "toy_sft")):
        sets = recipe(data, root, tmp_path).sets
        asked = load(Recipe, RECIPES / f"{training}.yaml").data.mixture.sources
        used = {name: source.samples for name, source in asked.items() if source.samples != 0}
        assert used == {name: of.samples for name, of in sets.items() if name != "guard"}
    made = {name for data in ("stage2", "sft", "llava", "llava_16") for name in recipe(data, root, tmp_path).sets}
    for training in (
        "llava_pretrain",
        "llava_sft",
        "llava_15_pretrain",
        "llava_15_sft",
        "llava_16_sft",
        "vary_base_sft",
    ):
        assert load(Recipe, RECIPES / f"{training}.yaml").data.mixture.sources.keys() <= made


def test_what_is_missing_is_named_with_its_page(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "data"
    for name in ("alpaca", "docvqa"):
        shutil.copytree(root / name, small / name)
    (small / "alpaca" / "alpaca_data.json").write_text("no JSON")
    assert not run(recipe("stage2", small, tmp_path / "out"))
    said = capfd.readouterr().err
    assert (tmp_path / "out" / "docvqa" / "card.json").is_file()
    assert f"blip_558k: missing {small}/blip_558k/images: LLaVA-Pretrain's images.zip" in said
    assert f"guard: missing {small}/chartqa: ChartQA" in said
    assert "https://github.com/lichengunc/refer" in said
    states = {line.split("│")[1].strip(): line.split("│")[-2].strip() for line in said.splitlines() if "│" in line}
    assert (states["alpaca"], states["docvqa"], states["coco"], states["guard"]) == (
        "failed",
        "built",
        "missing",
        "built in part",
    )


def test_a_benchmarks_image_gets_into_no_set(root: Path, tmp_path: Path) -> None:
    """An image of RefCOCO's val, under its name of COCO 2017, and one of DocVQA's test, renamed and smaller."""
    data = tmp_path / "data"
    for name in ("coco", "refcoco", "docvqa", "llava"):
        shutil.copytree(root / name, data / name)
    shutil.copy(
        data / "coco" / "train2014" / "COCO_train2014_000000581858.jpg", data / "coco/train2017/000000581858.jpg"
    )
    llava = data / "llava" / "llava_instruct_80k.json"
    records = json.loads(llava.read_text())
    llava.write_text(json.dumps([*records, records[0] | {"image": "000000581858.jpg"}]))
    assert not run(recipe("sft", data, tmp_path / "out"))  # ChartQA is missing
    ledger = ShardSet(tmp_path / "out" / "llava_80k").ledger().to_pylist()
    assert [(row["outcome"], row["gate"]) for row in sorted(ledger, key=lambda row: str(row["unit"]))] == [
        ("written", ""),
        ("rejected", "benchmark"),
    ]


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    sets = {"a": DataSet(row="a", command=["true"], writes="a", needs=[Need(path="a", what="a", page="a")])}
    with pytest.raises(UserError, match="no such folder; --root"):
        run(Pipeline(out=str(tmp_path / "out"), root=str(tmp_path / "gone"), sets=sets))
    with pytest.raises(UserError, match="root: not given: no such folder; --root"):
        run(Pipeline(out=str(tmp_path / "out"), sets=sets))
    assert not (tmp_path / "out").exists()
