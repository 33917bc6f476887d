"""The report says what the files say, escapes what documents and models say, and is the same page each time."""

import base64
import html
import io
import json
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import PIL.Image
import pytest

from datagen.card.card import spread
from datagen.card.pictures import COLOURS, Outline, thumbnail
from datagen.chat.source import ChatSource
from datagen.detection.source import DetectionSource
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from pipelines.report.figures import loss_curves, thin
from pipelines.report.page import write_report
from pipelines.report.runs import Trend, read_run
from pipelines.report.scores import PREDICTED_COLOUR, TRUE_COLOUR
from trainer.data.mixture import MixtureSource
from trainer.evaluate.scores import Prediction, Score, normalised_edit_distance
from trainer.model.weights import PartReport
from varyforge.boxes import Box
from varyforge.errors import UserError
from varyforge.shards import ShardSet

HOSTILE = "<script>alert(1)</script>"
SIZE = {"parameters": 1_234_567, "trainable": 1_000_000}
TRUE_BOX = Box(x1=0.1, y1=0.2, x2=0.6, y2=0.9)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shard sets with rejected and failed units, a chain of two runs, and scores."""
    root = tmp_path_factory.mktemp("world")
    _make_chat(root)
    _make_detection(root)
    _make_run(root / "first", PartReport(part="language", source="RANDOM", tensors_loaded=0, tensors_random=5, **SIZE))
    later = str(root / "first" / "model")
    _make_run(root / "second", PartReport(part="language", source=later, tensors_loaded=5, tensors_random=0, **SIZE))
    _make_scores(root)
    return root


@pytest.fixture(scope="module")
def page(world: Path) -> str:
    return _write(world).read_text()


def _write(root: Path, name: str = "report.html") -> Path:
    shards, runs = [root / "chat", root / "detection"], [root / "first", root / "second"]
    return write_report(root / name, shards=shards, runs=runs, scores=[root / "scores"], title="a <title>")


def _make_chat(root: Path) -> None:
    records: list[object] = [{"instruction": f"question {n}", "output": f"answer {n}"} for n in range(5)]
    records += [
        {"instruction": HOSTILE, "output": HOSTILE * 50},
        {"instruction": "用中文回答", "output": "好的，没有问题"},
    ]
    records += [{"instruction": "no answer", "output": " "}, {"instruction": 1, "output": "wrong type"}, "no object"]
    (root / "chat.json").write_text(json.dumps(records))
    source = ChatSource(paths=[str(root / "chat.json")])
    run_job(source, root / "chat", JobSettings(validation_share=0.4), LocalRunner())


def _make_detection(root: Path) -> None:
    (root / "images").mkdir()
    PIL.Image.new("RGB", (800, 400), "white").save(root / "images" / "a.png")
    x1, y1, x2, y2 = TRUE_BOX.to_xyxy_px(width=800, height=400)
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 800, "height": 400}],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [x1, y1, x2 - x1, y2 - y1]},
            {"image_id": 1, "category_id": 7, "bbox": [5, 5, 0, 0]},
        ],
        "categories": [{"id": 7, "name": "浣熊"}],
    }
    (root / "coco.json").write_text(json.dumps(coco))
    source = DetectionSource(format="coco", annotations=str(root / "coco.json"), images=str(root / "images"))
    run_job(source, root / "detection", JobSettings(validation_share=0.0), LocalRunner())


def _make_run(folder: Path, part: PartReport, steps: int = 20) -> None:
    folder.mkdir()
    source = MixtureSource(name="talk", available=5, asked=60)
    about = {"parts": [asdict(part)], "mixture": [asdict(source)], "asked_by_task": {"text": 80}, "epochs": 1}
    about["total_steps"] = 20
    (folder / "about.json").write_text(json.dumps(about | {"global_batch_size": 3, "world_size": 1}))
    lines = [_log_line(step, {"text": 2.0} if step % 2 else {"text": 2.0, "ocr": 4.0}) for step in range(1, steps + 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _log_line(step: int, task_losses: dict[str, float]) -> dict[str, object]:
    return {
        "step": step,
        "loss": 10.0 - step / 4,
        "task_losses": task_losses,
        "task_samples": {"text": 3 - (len(task_losses) - 1), "ocr": 1} if "ocr" in task_losses else {"text": 3},
        "samples": 3 * step,
        "skipped": 1,
        "dropped": 5,
        "truncated": 17,
        "seconds": 5.0,
    }


def _make_scores(root: Path) -> None:
    shards = ShardSet(root / "detection")
    row = shards.table().to_pylist()[0]
    truth = shards.read(row["shard"], row["offset"], row["size"]).answer
    said = {"recipes/first.yaml": HOSTILE, "runs/first/model": "浣熊: [200, 300, 700, 800]."}
    predictions, scores = [], []
    for model, answer in said.items():
        distance = normalised_edit_distance(answer, truth)
        place = {"model": model, "shards": "detection", "task": "detection", "split": "train"}
        text = {"key": row["key"], "truth": truth, "prediction": answer, "finished": False}
        predictions.append(Prediction(**place, **text, edit_distance=distance))
        counts = {"n": 321, "n_empty": 12, "n_unfinished": 45}
        scores.append(Score(**place, weights_sha256="", edit_distance=distance, **counts))
    (root / "scores").mkdir()
    (root / "scores" / "scores.json").write_text(json.dumps([asdict(score) for score in scores]))
    (root / "scores" / "predictions.jsonl").write_text("".join(json.dumps(asdict(p)) + "\n" for p in predictions))


def _text(page: str) -> str:
    """Return the text that a reader sees as one line."""
    body = page[page.index("<body>") :]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def _pictures(page: str) -> list[PIL.Image.Image]:
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [PIL.Image.open(io.BytesIO(base64.b64decode(one))) for one in encoded]


def _close(found: object, colour: str) -> bool:
    wanted = bytes.fromhex(colour[1:])
    return all(abs(a - b) < 40 for a, b in zip(found, wanted, strict=True))  # JPEG


def test_data_card_repeats_the_ledger(world: Path, page: str) -> None:
    text = _text(page)
    assert f"{world / 'chat'} chat 10 7 1 2 7 {world / 'detection'} detection 1 1 0 0 1" in text
    assert "failed, wrong_form: 2; rejected, answer_chars: 1" in text
    assert "units that were not written: 3 of 3" in text
    assert "answer_chars: 0, threshold 1" in text
    assert "key 'instruction' is a number, expected text" in text
    assert "degenerate_boxes 1" in text
    for split, count in Counter(ShardSet(world / "chat").table().column("split").to_pylist()).items():
        assert f"{split} {count}" in text
    assert "answer length median 8 characters, longest 1,250" in text


def test_text_of_documents_and_models_is_escaped_and_visibly_cut(page: str) -> None:
    assert "<script" not in page
    assert page.count(html.escape(HOSTILE)) > 24  # 600 characters of the answer, the question, the prediction
    assert "… and 650 more characters" in page
    assert "好的，没有问题" in page and 'lang="zh"' in page
    assert "<title>a &lt;title&gt;</title>" in page


def test_page_needs_nothing_else(page: str) -> None:
    assert not re.search(r"""(src|href)=["'](?!data:|#)|@import|url\((?!#)""", page)


def test_boxes_are_drawn_from_the_answer(page: str) -> None:
    sheet, beside = _pictures(page)
    assert sheet.size == (420, 210)
    left_edge, middle = (round(0.1 * 420), round(0.55 * 210)), (round(0.35 * 420), round(0.55 * 210))
    assert _close(sheet.getpixel(left_edge), COLOURS[0])
    assert _close(sheet.getpixel(middle), "#ffffff")
    assert "浣熊 × 1" in _text(page)
    assert _close(beside.getpixel(left_edge), TRUE_COLOUR)
    assert _close(beside.getpixel((round(0.2 * 420), round(0.5 * 210))), PREDICTED_COLOUR)


def test_runs_say_what_started_from_random_weights(world: Path, page: str) -> None:
    text = _text(page)
    assert "These models show that the software works; they are not expected to read." in text
    assert f"{world / 'first'} : 20 of 20 steps, 60 samples, 1,234,567 parameters. language from random weights" in text
    assert f"language from {world / 'first' / 'model'}, which goes back to random weights in {world / 'first'}" in text


def test_weights_from_elsewhere_give_no_warning(tmp_path: Path) -> None:
    part = PartReport(part="language", source="facebook/opt-125m", tensors_loaded=5, tensors_random=0, **SIZE)
    _make_run(tmp_path / "run", part)
    text = _text(write_report(tmp_path / "out.html", shards=[], runs=[tmp_path / "run"], scores=[]).read_text())
    assert "No encoder and no language model is known to have started from random weights" in text
    assert "software works" not in text


def test_training_is_summed_over_the_log(page: str) -> None:
    text = _text(page)
    assert "Loss over all tasks: 9.250 in the first 5 steps, 5.500 in the last 5 steps (means)" in text
    assert "took 1 min 40 s" in text
    assert "all tasks 80 60 20 9.250 5.500 -3.750" in text
    assert "ocr 0 10 10 4.000 4.000 +0.000 text 80 50 20" in text
    assert "Samples skipped: 1. Truncated: 17. Dropped for their length: 5." in text
    assert "talk 60 5 12.00" in text
    assert page.count("<svg") == 2


def test_a_run_without_a_step_is_shown_as_such(tmp_path: Path) -> None:
    part = PartReport(part="language", source="RANDOM", tensors_loaded=0, tensors_random=5, **SIZE)
    _make_run(tmp_path / "run", part, steps=0)
    page = write_report(tmp_path / "out.html", shards=[], runs=[tmp_path / "run"], scores=[]).read_text()
    assert "No step is in the log yet." in page and "0 of 20 steps" in page
    assert "<svg" not in page


def test_a_run_whose_weights_come_from_itself_ends_the_search(tmp_path: Path) -> None:
    source = str(tmp_path / "run" / "model" / "model.safetensors")
    _make_run(tmp_path / "run", PartReport(part="language", source=source, tensors_loaded=5, tensors_random=0, **SIZE))
    assert read_run(tmp_path / "run").random_parts == []


def test_scores_and_predictions_stand_side_by_side(page: str) -> None:
    text = _text(page)
    training = "detection training samples, no held-out set"
    before, after = text.index("recipes/first.yaml before training"), text.index("runs/first/model after training")
    assert before < after
    assert training in text
    assert text.count("321 12 45") == 2
    assert "truth 浣熊: [100, 200, 600, 900]. after training: distance 0." in text
    assert ", cut 浣熊: [200, 300, 700, 800]." in text
    assert re.search(r"before training: distance [01]\.\d+, cut <script>", text)


def test_equal_inputs_give_an_equal_page(world: Path, page: str) -> None:
    assert _write(world, "again.html").read_text() == page


@pytest.mark.parametrize("kind", ["shards", "runs", "scores"])
def test_a_missing_folder_is_named_with_a_remedy(tmp_path: Path, kind: str) -> None:
    folders = {"shards": [], "runs": [], "scores": []} | {kind: [tmp_path / "nowhere"]}
    with pytest.raises(UserError, match=r"nowhere: no such .* makes (one|it)"):
        write_report(tmp_path / "out.html", **folders)
    assert not (tmp_path / "out.html").exists()


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "about.json").write_text('{"parts": []')
    with pytest.raises(UserError, match=r"about\.json: broken"):
        write_report(tmp_path / "out.html", shards=[], runs=[tmp_path], scores=[])
    _make_run(tmp_path / "old", PartReport(part="p", source="s", tensors_loaded=1, tensors_random=0, **SIZE), steps=0)
    (tmp_path / "old" / "log.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"log\.jsonl: a line has another version's format"):
        write_report(tmp_path / "out.html", shards=[], runs=[tmp_path / "old"], scores=[])
    (tmp_path / "scores.json").write_text('[{"model": "m"}]')
    with pytest.raises(UserError, match=r"scores\.json: broken"):
        write_report(tmp_path / "out.html", shards=[], runs=[], scores=[tmp_path])
    with pytest.raises(UserError, match="nothing to report on"):
        write_report(tmp_path / "out.html", shards=[], runs=[], scores=[])


def test_trend_windows_do_not_overlap() -> None:
    assert Trend.of("ocr", [(1, 4.0)]).window == 1
    short = Trend.of("ocr", [(step, float(step)) for step in range(1, 7)])
    assert (short.window, short.first, short.last) == (3, 2.0, 5.0)


def test_long_curves_are_thinned_to_means() -> None:
    points = thin([(step, 2.0 * step) for step in range(1000)])
    assert len(points) == 334
    assert points[0] == (1.0, 2.0) and points[-1] == (999.0, 1998.0)
    assert "a$b&lt;c" in loss_curves({"a$b<c": [(1, 2.0)]})


def test_samples_are_spread_over_the_index() -> None:
    assert spread(100, 4) == [12, 37, 62, 87]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(0, 8) == []


def test_a_box_at_the_border_and_a_long_label_can_be_drawn() -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (2000, 10)).save(out, "PNG")
    sliver = Outline(box=Box(x1=0.999, y1=0.0, x2=1.0, y2=1.0), colour="#ff0000", label="x" * 500)
    assert thumbnail(out.getvalue(), [sliver]).startswith("data:image/jpeg;base64,")
