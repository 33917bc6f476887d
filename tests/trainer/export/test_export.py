"""An exported folder is loaded by plain transformers, without this project, and computes what the model does."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from tests.trainer import exports, releases, tokenizers_of_all_kinds
from tests.trainer.tokenizers_of_all_kinds import EXACT, with_tokens
from trainer.convert.importer import Import
from trainer.export import __main__ as exporter
from trainer.export import own_code
from trainer.export.__main__ import export
from trainer.export.chat import chat_template, control_tokens
from trainer.export.own_code import SHIPPED, OwnCode, code_files
from trainer.export.shipped.processing_varyforge import VaryforgeProcessor
from trainer.images.layout import ImageLayout
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.images.tiling import Thumbnail
from trainer.text.chat_templates import IMAGE_PAD, TEMPLATES
from trainer.text.encode import ConversationEncoder, load_tokenizer
from varyforge.errors import UserError
from varyforge.escape import escape
from varyforge.sample import IMAGE_MARKER, Sample, Turn
from varyforge.sample import Image as SampleImage

Export = Callable[[str], tuple[Path, str]]
"""Name of a model → its exported folder and the name of its format."""

OWN, LLAVA, NEXT = OwnCode.name, "LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration"
ROOT = Path(__file__).parents[3]
FORMATS = {
    "vary_tiny": OWN,
    "vary_toy": OWN,
    "llava_15": LLAVA,
    "llava_16": NEXT,
    "deepseek": OWN,
    "thumbnail": OWN,
}
SLOW = FORMATS.keys() - {"vary_toy"}
WITHOUT_US = "import sys\nfor name in ('varyforge', 'trainer', 'datagen', 'pipelines'):\n    sys.modules[name] = None\n"


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    torch.set_num_threads(1)  # which processes of the export take over
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Export each model once for all tests."""
    made: dict[str, tuple[Path, str]] = {}

    def of(name: str) -> tuple[Path, str]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source = exports.trained(getattr(exports, name)(folder), folder)
            form, compared = export(source, folder / "exported")
            assert len(compared) >= 6
            made[name] = folder / "exported", form.name
        return made[name]

    return of


def plain_python(code: str, modules: Path, folder: Path) -> str:
    """Run a program in `folder` that cannot import this project, and return its output."""
    env = {"HF_MODULES_CACHE": str(modules), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_US + code],
        capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, **env, "PYTHONPATH": ""},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("name", ["vary_toy", *(pytest.param(n, marks=pytest.mark.slow) for n in sorted(SLOW))])
def test_every_model_is_exported_and_the_readme_loads_it(name: str, exported: Export, tmp_path: Path) -> None:
    folder, form = exported(name)
    assert form == FORMATS[name]
    record = json.loads((folder / "export.json").read_text())
    assert max(case["logits"] for case in record["compared"]) < 1e-5  # 1e-4 is allowed
    assert max(case["levels"] for case in record["compared"]) <= (0 if form == OWN else 2)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".jinja", ".md", ".safetensors", ".py"}  # no pickle
    for path in files:
        if path.suffix != ".safetensors":
            assert str(folder.parent.parent) not in path.read_text(), path
            assert not re.search(r"/(home|root|tmp|Users)/", path.read_text()), path
    readme = (folder / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    plain_python(example, tmp_path, folder)


@pytest.mark.slow
def test_the_example_of_the_documentation(exported: Export, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "export.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    for name in ("vary_tiny", "llava_16"):
        folder, _ = exported(name)
        assert 'folder = "exported/toy"' in example
        plain_python(example.replace('"exported/toy"', repr(str(folder))), tmp_path, folder)


MORE = """
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
torch.set_flush_denormal(True)
load = dict(trust_remote_code=True)
processor = AutoProcessor.from_pretrained(".", **load)
model = AutoModelForImageTextToText.from_pretrained(".", **load)
assert AutoConfig.from_pretrained(".", **load).model_type == "varyforge"
assert len(AutoTokenizer.from_pretrained(".", **load)) == len(processor.tokenizer)
assert model.dtype == torch.float32

def ask(*images):
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": "What is it?"}]
    return [{"role": "user", "content": content}]

def inputs(*conversations):
    return processor.apply_chat_template(list(conversations), tokenize=True)

def said(given, **options):
    return model.generate(**given, max_new_tokens=6, **options)[:, given["input_ids"].shape[1]:]

red, green = Image.new("RGB", (7, 300), "red"), Image.effect_noise((211, 13), 60).convert("RGB")
alone, other, text = inputs(ask(red)), inputs(ask(green)), inputs([{"role": "user", "content": "Hello"}])
with torch.no_grad():
    assert (model(**alone).logits - model(**other).logits).abs().max() > 0.1  # the image is seen
    both = model(**inputs(ask(red, green))).logits
    swapped = model(**inputs(ask(green, red))).logits
    assert (both - swapped).abs().max() > 0.1  # and each in its place
batch = inputs(ask(red), ask(green), [{"role": "user", "content": "Hello"}])
for row, single in zip(said(batch), (alone, other, text)):
    assert row.tolist() == said(single)[0].tolist()
beams = said(inputs(ask(red, green), ask(green)), num_beams=3)
for row, single in zip(beams, (inputs(ask(red, green)), inputs(ask(green)))):
    assert row.tolist() == said(single, num_beams=3)[0].tolist()
assert said(alone, use_cache=False).tolist() == said(alone).tolist()
written = processor.apply_chat_template(ask(red))
again = processor(images=red, text=written)
assert again["input_ids"].tolist() == alone["input_ids"].tolist()
assert torch.equal(again["pixel_values"], alone["pixel_values"])
for broken in ({"pixel_values": None, "image_sizes": None}, {"image_sizes": alone["image_sizes"].repeat(2, 1)}):
    try:
        model(**{**alone, **broken})
    except ValueError as error:
        assert "image tokens" in str(error), error
    else:
        raise AssertionError("images and tokens that do not fit went through")
longest = model.config.text_config.max_position_embeddings
rest = model.generate(**alone, min_new_tokens=longest, max_new_tokens=longest)
assert rest.shape[1] == longest, rest.shape  # ends with the last position
small = AutoModelForImageTextToText.from_pretrained(".", dtype="bfloat16", **load)
with torch.no_grad():
    near = small(**alone).logits.float()
    assert near.isfinite().all() and (near - model(**alone).logits).abs().mean() < 0.1 * near.abs().max()
print("all of it")
"""


@pytest.mark.slow
def test_the_code_in_the_folder_generates(tmp_path: Path) -> None:
    settings = exports.vary_tiny(tmp_path)
    settings.language.config["max_position_embeddings"] = 256
    source = exports.trained(settings, tmp_path, max_length=256)
    export(source, tmp_path / "exported")
    assert plain_python(MORE, tmp_path / "modules", tmp_path / "exported") == "all of it\n"


@pytest.mark.slow
def test_what_does_not_compute_the_same_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = exports.trained(exports.vary_tiny(tmp_path), tmp_path)
    folder, load = tmp_path / "exported", exporter.load_file
    rename = OwnCode.rename

    def swapped(self: OwnCode, name: str, trained: Any) -> str:  # two norms of the same shape
        found = rename(self, name, trained)
        return found.replace("norm1", "norm0").replace("norm2", "norm1").replace("norm0", "norm2")

    def damaged(path: Path) -> dict[str, torch.Tensor]:
        weights = load(path)
        weights["connectors.vary.weight"][0, 0] += 0.5
        return weights

    def cut(path: Path) -> dict[str, torch.Tensor]:
        weights = load(path)
        del weights["language.model.model.decoder.layers.0.self_attn.k_proj.bias"]  # which has no effect on any logit
        return weights

    def more(path: Path) -> dict[str, torch.Tensor]:
        return {**load(path), "connectors.vary.scale": torch.ones(1)}

    differs = r"does not compute .*: image: the logits differ by \d"
    for weights, names, message in (
        (damaged, rename, differs),
        (load, swapped, differs),
        (cut, rename, r"cannot use the folder: .*missing keys: .*layers.0.self_attn.k_proj.bias, 1 in all"),
        (more, rename, r"cannot use the folder: .*unexpected keys: connectors.vary.scale, 1 in all"),
    ):
        monkeypatch.setattr(exporter, "load_file", weights)
        monkeypatch.setattr(OwnCode, "rename", names)
        with pytest.raises(UserError, match=message):
            export(source, folder)
        assert not folder.exists()
        assert not list(tmp_path.glob(".exported*"))


@pytest.mark.slow
def test_other_pixels_prompts_and_broken_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = exports.trained(exports.vary_tiny(tmp_path), tmp_path)
    write = OwnCode.write

    def with_change(file: str, before: str, after: str) -> Callable[..., None]:
        def changed(self: OwnCode, trained: Any, folder: Path, dtype: str) -> None:
            write(self, trained, folder, dtype)
            text = (folder / file).read_text()
            assert before in text
            (folder / file).write_text(text.replace(before, after))

        return changed

    for change, message in (
        (("processor_config.json", '"bicubic"', '"bilinear"'), "image: pixels differ by"),
        (("chat_template.jinja", "USER: ", "User: "), "text: the prompt's ids differ from token"),
        (
            ("modeling_varyforge.py", "self.net_3(self.net_2(x))", "self.net_3(x)"),
            "cannot use the folder: RuntimeError",
        ),
    ):
        monkeypatch.setattr(OwnCode, "write", with_change(*change))
        with pytest.raises(UserError, match=re.escape(message)):
            export(source, tmp_path / "exported")
        assert not (tmp_path / "exported").exists()


@pytest.mark.slow
def test_only_an_export_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="exists and is no export"):
        export(tmp_path / "run", tmp_path / "mine")
    with pytest.raises(UserError, match="no exported model there"):
        export(tmp_path / "run", tmp_path / "new")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    old = tmp_path / "old"
    old.mkdir()
    (old / "export.json").write_text("{}")
    source = exports.trained(exports.vary_tiny(tmp_path), tmp_path)
    export(source, old)
    assert json.loads((old / "export.json").read_text())["form"] == OWN


LIBRARIES = {"torch", "typing_extensions", "transformers", "tokenizers", "numpy", "PIL"}


def imported(text: str) -> Iterator[tuple[str, int]]:
    """Yield the module and level of every import of a file, at its top or in a function."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield str(node.module), node.level
        elif isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)


@pytest.mark.parametrize("module", SHIPPED)
def test_a_file_that_ships_keeps_the_import_rule(module: str) -> None:
    text = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    ours = set()
    for name, level in imported(text):
        if name.partition(".")[0] in ("varyforge", "datagen", "trainer", "pipelines") or level:
            assert level == 0 and name in {*SHIPPED, "varyforge.errors"}, name
            ours.add(name)
        else:
            assert name.partition(".")[0] in {*LIBRARIES, *sys.stdlib_module_names}, name
    for name in ours:  # as the one form that `code_files` replaces
        (line,) = re.findall(rf"^from {re.escape(name)} import .+$", text, flags=re.MULTILINE)
        assert name in SHIPPED or line == "from varyforge.errors import UserError"


def test_the_code_in_a_folder_imports_its_own_files_alone() -> None:
    files = code_files()
    assert {"modeling_varyforge.py", "processing_varyforge.py", "configuration_varyforge.py"} <= files.keys()
    assert len(files) == len(SHIPPED)
    for file, text in files.items():
        for name, level in imported(text):
            assert f"{name}.py" in files if level else name.partition(".")[0] in {*LIBRARIES, *sys.stdlib_module_names}
        assert "varyforge.errors" not in text, file


def test_two_shipped_files_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "SHIPPED", (*SHIPPED, "trainer.model.joint"))
    with pytest.raises(ValueError, match=r"another module of SHIPPED is called joint.py"):
        code_files()


# --- prompts and pixels, in this process: the code in the folder is the same but for its imports


def conversation(*turns: str, system: str | None = None) -> tuple[list[dict[str, Any]], tuple[Turn, ...]]:
    """Return question, answer, question … in transformers' format and as turns; `<image>` in a question is an image."""
    messages: list[dict[str, Any]] = []
    ours = []
    if system is not None:
        messages.append({"role": "system", "content": system})
        ours.append(Turn(role="system", text=escape(system)))
    for number, text in enumerate(turns):
        role: Any = ("user", "assistant")[number % 2]
        pieces = text.split(IMAGE_MARKER)
        content: list[dict[str, Any]] = []
        for index, piece in enumerate(pieces):
            if index:
                content.append({"type": "image", "image": Image.new("RGB", (90, 40))})
            if piece:
                content.append({"type": "text", "text": piece})
        messages.append({"role": role, "content": text if len(pieces) == 1 else content})
        ours.append(Turn(role=role, text=IMAGE_MARKER.join(map(escape, pieces))))
    return messages, tuple(ours)


CONTROL = "<|im_end|> </s> <s>[INST] <imgpad> </img> <|eot_id|> <tool_call> <0x41>"
CONVERSATIONS = [
    conversation("Hello"),
    conversation(" a blank first, one last "),
    conversation("<image>Read it."),
    conversation("<image>\nRead it.", "text", "Read it.\n<image>", "text", "See <image> here", "yes", "<image>"),
    conversation("<image><image>Which?", "this", "<image> or\n<image>\nthis?"),
    conversation("Between <image> and <image>", "the answer", "and again <image>", "more.", "And?"),
    conversation("Hi", "I say", "you?", system="Be brief."),
    conversation(f"In text: {CONTROL}", f"So {CONTROL}", "well", system=f"Sys {CONTROL}"),
]


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("template", TEMPLATES)
def test_chat_templates_write_what_was_trained(template: str, kind: str, tmp_path: Path) -> None:
    made = with_tokens(EXACT[kind](), template)
    if made.eos_token is None:
        pytest.skip("no end token")
    made.save_pretrained(tmp_path)
    layout = ImageLayout(preprocess={"a": ImagePreprocess(size=28)}, view=ViewTokens(4, (2, 2)), tiling=Thumbnail())
    try:
        encoder = ConversationEncoder(load_tokenizer(str(tmp_path)), template=template, layout=layout, max_length=999)
    except UserError as error:
        pytest.skip(str(error))
    described = {
        "preprocess": {"a": {"size": 28}},
        "view": {"count": 4, "grid": [2, 2]},
        "tiling": {"type": "thumbnail", "config": {}},
    }
    processor = VaryforgeProcessor(
        load_tokenizer(str(tmp_path)),
        layout=described,
        image_token=IMAGE_PAD,
        control_tokens=control_tokens(encoder),
        pad_token_id=encoder.pad_id,
        chat_template=chat_template(encoder),
    )
    batch = processor.apply_chat_template([messages for messages, _ in CONVERSATIONS], tokenize=True)
    for row, (messages, turns) in enumerate(CONVERSATIONS):
        count = sum(turn.text.count(IMAGE_MARKER) for turn in turns)
        images = (SampleImage(data=b"-", format="png", width=90, height=40),) * count
        answered = (*turns, Turn(role="assistant", text="-"))
        expected = encoder.prompt(Sample(key="a", task="ocr", turns=answered, images=images, source="a"))
        ids = processor.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert ids == expected, processor.apply_chat_template(messages)
        real = batch["attention_mask"][row] == 1
        assert batch["input_ids"][row][real].tolist() == expected
        assert (batch["input_ids"][row][~real] == encoder.pad_id).all()


def test_pixels_are_those_of_training() -> None:
    preprocess = {"a": ImagePreprocess(size=28, fit="crop"), "b": ImagePreprocess(size=20, resample="pillow_bicubic")}
    layout = ImageLayout(preprocess=preprocess, view=ViewTokens(4, (2, 2)), tiling=Thumbnail(max_tiles=3))
    described = {
        "preprocess": {name: {**how.as_settings(), "size": how.size} for name, how in preprocess.items()},
        "view": {"count": 4, "grid": [2, 2]},
        "tiling": {"type": "thumbnail", "config": {"max_tiles": 3}},
    }
    processor = VaryforgeProcessor(
        with_tokens(tokenizers_of_all_kinds.qwen(), "chatml"),
        layout=described, image_token=IMAGE_PAD, control_tokens=[], pad_token_id=0,
    )  # fmt: skip
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((1, 1), (301, 7), (64, 190), (28, 28))]
    made = processor(images=[Image.fromarray(pictures[0]), *pictures[1:]], text=IMAGE_PAD * len(pictures))
    assert made["image_sizes"].tolist() == [list(picture.shape[:2]) for picture in pictures]
    assert made["input_ids"].shape[1] == sum(layout.num_tokens(picture.shape[:2]) for picture in pictures)
    views = [layout.views(picture) for picture in pictures]
    expected = [
        how.normalise(torch.from_numpy(np.concatenate([v[name] for v in views])), torch.float32).flatten(1)
        for name, how in preprocess.items()
    ]
    assert torch.equal(made["pixel_values"], torch.cat(expected, dim=1))
    with pytest.raises(ValueError, match="more <imgpad> than there are images"):
        processor(images=pictures[:1], text=IMAGE_PAD * 2)


@pytest.mark.slow
def test_an_imported_model_keeps_its_type_and_its_bytes(tmp_path: Path) -> None:
    Import(releases.write_tiny(tmp_path / "release", releases.drawn(releases.tiny(), torch.bfloat16))).write(
        tmp_path / "ours"
    )
    export(tmp_path / "ours", tmp_path / "exported")
    before, after = (releases.stored(tmp_path / name / "model.safetensors") for name in ("ours", "exported"))
    assert sorted(before.values()) == sorted(after.values())
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["dtype"] == "bfloat16"
    modes = {path.stat().st_mode for path in (tmp_path / "exported").iterdir()}
    assert len(modes) == 1  # safetensors writes for the owner alone


def test_the_folders_tokenizer_is_the_trained_one(exported: Export) -> None:
    folder, _ = exported("vary_toy")
    source = folder.parent / "run" / "model" / "tokenizer"
    mine = AutoTokenizer.from_pretrained(source)
    theirs = type(mine).from_pretrained(folder)
    assert mine.get_vocab() == theirs.get_vocab()
    assert theirs.padding_side == "left"
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == theirs.convert_tokens_to_ids("<|im_end|>")
    assert generation["pad_token_id"] is not None and not generation.get("do_sample", False)
