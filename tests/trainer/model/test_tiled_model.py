"""Models whose images have different numbers of views: LLaVA-1.6's numbers, and the way from shards to an answer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    MistralConfig,
)

from pipelines.mix.__main__ import step_rows
from pipelines.mix.report import read_mixture_file, report_on
from tests.pipelines.shard_world import Entry, page_unit, talk, write_set
from tests.trainer.world import CLIP, QWEN, SAM, make_tokenizer, tiny_recipe
from trainer import run as entry
from trainer.assemble import assemble
from trainer.batch import Batch, Step, Unusable
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.evaluate.generate import answers
from trainer.exported import load_exported
from trainer.images.pixels import decode, pixels
from trainer.images.sizes import Size
from trainer.loader.packing import cost, empty_batch
from trainer.loader.step_loader import LoadSample, Share, StepLoader, load_sample, open_pool
from trainer.model.build import build
from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EncoderSettings, LanguageSettings, ModelSettings, PartSettings, Recipe
from trainer.text.encode import ConversationEncoder
from trainer.workers.tasks import InProcess
from varyforge.config import to_yaml
from varyforge.errors import UserError
from varyforge.outcome import Written
from varyforge.sample import Image, Sample, Turn

GRIDS = [[1, 2], [2, 1], [2, 2], [3, 1]]
ANY_RES = PartSettings(type="any_res", config={"grids": GRIDS})
THUMBNAIL = PartSettings(type="thumbnail", config={"max_tiles": 4})
SIZES: list[Size] = [(20, 60), (90, 28), (56, 56), (10, 9), (1, 200), (40, 30)]  # height, width
VOCABULARY, IMAGE = 300, 299


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)


def tiled(tokenizer: str = "-", language: str = "qwen2", tiling: PartSettings = ANY_RES) -> ModelSettings:
    """Return a small LLaVA-1.6 with 4 tokens per view."""
    clip = EncoderSettings(type="clip", config=CLIP, connector=PartSettings(type="mlp"))
    speaks = LanguageSettings(type=language, tokenizer=tokenizer, template="chatml_vary", config=QWEN)
    return ModelSettings(vision={"clip": clip}, language=speaks, tiling=tiling)


# --- the numbers of LLaVA-1.6


def released(model: VisionLanguageModel, kind: str) -> LlavaNextForConditionalGeneration:
    """Return transformers' model with the same sizes and weights."""
    of_text: Any = {"llama": LlamaConfig, "mistral": MistralConfig}[kind]
    text = of_text(**QWEN | {"pad_token_id": None})
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        text_config=text,
        image_token_index=IMAGE,
        image_grid_pinpoints=[[rows * 28, columns * 28] for rows, columns in GRIDS],
        vision_feature_layer=-2,
        tie_word_embeddings=False,
    )
    theirs = LlavaNextForConditionalGeneration(config).eval()
    names = {
        "encoders.clip.model.": "model.vision_tower.",
        "connectors.clip.0.": "model.multi_modal_projector.linear_1.",
        "connectors.clip.2.": "model.multi_modal_projector.linear_2.",
        "joint.separator": "model.image_newline",
        "language.model.model.": "model.language_model.",
        "language.model.lm_head.": "lm_head.",
    }
    state = {}
    for name, tensor in model.state_dict().items():
        ours = next(prefix for prefix in names if name.startswith(prefix))
        state[names[ours] + name.removeprefix(ours)] = tensor
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_logits_are_those_of_transformers_llava_next(kind: str) -> None:
    model, _ = build(
        tiled(language=kind),
        vocabulary=VOCABULARY,
        image_token_id=IMAGE,
        attention="sdpa",
        gradient_checkpointing=False,
        seed=0,
    )
    model.eval()
    model.language.head.data[: VOCABULARY // 2] *= 3
    layout = model.layout
    rows: list[list[Size]] = [[SIZES[0], SIZES[1]], [SIZES[2]], []]
    sizes = [size for row in rows for size in row]
    views = [layout.views(noise(*size))["clip"] for size in sizes]
    stacked = torch.from_numpy(np.concatenate(views))
    ids, mask = prompts([[layout.num_tokens(size) for size in row] for row in rows])

    with torch.no_grad():
        embeddings = model._embed(ids, {"clip": stacked}, sizes)
        lengths = tuple((int(row.sum()),) for row in mask)
        positions = torch.arange(ids.shape[1]).expand_as(ids)
        actual = model.language.hidden_states(embeddings, positions, lengths) @ model.language.head.T

        normalised = layout.preprocess["clip"].normalise(stacked, torch.float32).split([len(v) for v in views])
        padded = torch.nn.utils.rnn.pad_sequence([v.contiguous() for v in normalised], batch_first=True)
        expected = released(model, kind)(
            input_ids=ids, attention_mask=mask, pixel_values=padded, image_sizes=torch.tensor(sizes)
        ).logits
    saved = mask.bool()
    assert actual[saved].std() > 0.1
    torch.testing.assert_close(actual[saved], expected[saved], rtol=0, atol=1e-5 * float(expected[saved].abs().max()))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prompts(images: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return rows of text and images of so many tokens, padded on the right, and a mask of the tokens."""
    rows = []
    for number, counts in enumerate(images):
        ids = torch.randint(3, IMAGE, (5 + number,)).tolist()
        for count in counts:
            ids += [IMAGE] * count + torch.randint(3, IMAGE, (3,)).tolist()
        rows.append(torch.tensor(ids))
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.zeros_like(padded)
    for row, one in enumerate(rows):
        mask[row, : len(one)] = 1
    return padded, mask


# --- from shards to a batch


def picture(height: int, width: int) -> Image:
    out = io.BytesIO()
    PIL.Image.fromarray(noise(height, width)).save(out, "PNG")
    return Image(data=out.getvalue(), format="png", width=width, height=height)


def seen(number: int, *sizes: Size) -> Sample:
    marks = "<image>\n" * len(sizes)
    turns = (Turn(role="user", text=f"{marks}What is it?"), Turn(role="assistant", text=f"Number {number}."))
    images = tuple(picture(*size) for size in sizes)
    return Sample(key=f"seen-{number}", task="vqa", turns=turns, images=images, source="pdf")


def entries() -> list[Entry]:
    samples = [seen(number, size) for number, size in enumerate(SIZES)] + [seen(6, SIZES[0], SIZES[2])]
    pictures = [Entry(page_unit("a.pdf", n), Written(samples=(one,))) for n, one in enumerate(samples)]
    return pictures + [talk(number, f"question {number}", f"answer {number}") for number in range(5)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    write_set(folder / "shards", "mixed", [entries()])
    return folder


@pytest.fixture(params=[ANY_RES, THUMBNAIL], ids=["any_res", "thumbnail"])
def recipe(root: Path, request: pytest.FixtureRequest) -> Recipe:
    tokenizer = make_tokenizer([root / "shards"], root / "tokenizer")
    built = tiny_recipe(root / request.param.type, tokenizer, {"all": root / "shards"}, samples=12)
    data = replace(built.data, max_length=400, cache=str(root / "cache"), max_images=12)
    return replace(built, model=tiled(tokenizer, tiling=request.param), data=data)


def one_epoch(recipe: Recipe, load: LoadSample, workers: int, root: Path) -> list[Step]:
    data, corpus = replace(recipe.data, workers=workers), Corpus(recipe.data, open_cache(recipe.data))
    share = Share(global_batch_size=6, micro_batch_size=2)
    with open_pool(load, data, corpus, root) as pool:
        return list(StepLoader(corpus, load, pool, share, data).steps(0, 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_hold_the_pixels_sizes_and_tokens_of_their_images(recipe: Recipe, root: Path, workers: int) -> None:
    model, encoder, _ = assemble(recipe)
    load = load_sample(encoder, recipe.data, open_cache(recipe.data))
    samples = {sample.key: sample for one in entries() for sample in one.outcome.samples}
    steps = one_epoch(recipe, load, workers, root)
    assert sum(len(batch.keys) for step in steps for batch in step.batches) == 12 and not any(s.skipped for s in steps)
    for batch in (batch for step in steps for batch in step.batches):
        images = [image for key in batch.keys for image in samples[key].images]
        assert batch.image_sizes == tuple((image.height, image.width) for image in images)
        expected = [model.layout.views(decode(image.data))["clip"] for image in images]
        views = np.concatenate(expected) if expected else np.empty((0, 28, 28, 3), np.uint8)
        assert np.array_equal(batch.pixels["clip"].numpy(), views)
        tokens = sum(map(model.layout.num_tokens, batch.image_sizes))
        assert int((batch.input_ids == encoder.image_id).sum()) == tokens
        assert all(len(views_of) <= 12 for views_of in expected)
        gradients(model, batch)


def gradients(model: VisionLanguageModel, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    model(batch)[0].backward()
    actual = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in actual.values())
    return {name: gradient for name, gradient in actual.items() if gradient is not None}


def test_shared_memory_is_enough_for_the_most_views(recipe: Recipe) -> None:
    _, encoder, _ = assemble(recipe)
    load = load_sample(encoder, recipe.data, open_cache(recipe.data))
    for number in (1, 2):
        sample = seen(9, *[(84, 28), (56, 56)][:number])
        images = [pixels(image, encoder.layout) for image in sample.images]
        held = sum(views.nbytes for image in images for views in image.values())
        ids = encoder.encode(sample)
        assert held + ids.input_ids.nbytes + ids.labels.nbytes <= load.shared_bytes(number)


def test_views_count_against_max_images(recipe: Recipe, root: Path) -> None:
    _, encoder, _ = assemble(recipe)
    data = replace(recipe.data, max_images=4)
    steps = one_epoch(replace(recipe, data=data), load_sample(encoder, data, open_cache(data)), 0, root)
    skipped = dict(pair for step in steps for pair in step.skipped)
    assert skipped["seen-2"] == "1 images in 5 views, more than data.max_images 4"  # 56 × 56: 2 × 2 and the whole
    assert "seen-6" in skipped and "seen-3" not in skipped
    for batch in (batch for step in steps for batch in step.batches):
        assert len(batch.pixels["clip"]) <= 4 * len(batch.lengths)


def test_a_row_must_take_the_most_views_of_an_image(recipe: Recipe) -> None:
    few = replace(recipe, data=replace(recipe.data, max_images=4))
    with pytest.raises(
        UserError, match=r"^data\.max_images 4: model\.tiling cuts an image into up to 5 views, and each"
    ):
        assemble(few)


def test_a_row_must_take_the_most_tokens_of_an_image(recipe: Recipe) -> None:
    most = assemble(recipe)[1].planned_image.tokens
    assemble(replace(recipe, data=replace(recipe.data, max_length=most)))
    with pytest.raises(UserError, match=rf"^data\.max_length {most - 1}: an image and its marks have up to {most} tok"):
        assemble(replace(recipe, data=replace(recipe.data, max_length=most - 1)))


def test_planning_takes_an_image_for_the_most_views_it_can_have(recipe: Recipe, root: Path) -> None:
    _, encoder, _ = assemble(recipe)
    load, corpus = (
        load_sample(encoder, recipe.data, open_cache(recipe.data)),
        Corpus(recipe.data, open_cache(recipe.data)),
    )
    for item in corpus.items(range(12)):
        assert load.cost(item) == cost(item.tokens + item.images * encoder.planned_image.tokens, 5 * item.images)
    file = root / "recipe.yaml"
    file.write_text(to_yaml(recipe))
    rows = list(step_rows(read_mixture_file(file, ["engine.global_batch_size=6"]), range(1, 3), ranks=2))
    for rank in (0, 1):
        share = Share(rank=rank, world_size=2, global_batch_size=6, micro_batch_size=2)
        mine = StepLoader(corpus, load, InProcess(load, key_of=corpus.key), share, recipe.data)
        assert [row[1] for row in rows if row[-1] == rank] == [*mine.positions(0), *mine.positions(1)]


def test_a_row_is_planned_with_no_more_views_than_it_takes(recipe: Recipe, root: Path) -> None:
    file = root / "recipe.yaml"
    file.write_text(to_yaml(recipe))
    used = [report_on(read_mixture_file(file, [f"data.max_images={most}"])).utilisation for most in (5, 100)]
    assert used[0] is not None and used[1] is not None and used[0] < used[1]


def test_an_image_of_another_size_than_its_sample_says_is_refused(recipe: Recipe) -> None:
    _, encoder, _ = assemble(recipe)
    wrong = replace(picture(20, 60), width=61)
    with pytest.raises(Unusable, match=r"^image of 60x20 px, and its sample says 61x20$"):
        pixels(wrong, encoder.layout)


def test_text_alone_sends_zeros_to_the_separator(recipe: Recipe) -> None:
    model, encoder, _ = assemble(recipe)
    actual = gradients(model, empty_batch(encoder.pad_id, model.layout))
    assert not any(gradient.any() for gradient in actual.values())
    assert ("joint.separator" in actual) == (recipe.model.tiling == ANY_RES)


# --- from a run to answers


def answers_of(model: VisionLanguageModel, encoder: ConversationEncoder, samples: list[Sample], rows: int) -> list[str]:
    return [a.text for a in answers(model, encoder, samples, max_new_tokens=6, batch_size=rows)]


def test_a_run_trains_exports_and_answers(recipe: Recipe, tmp_path: Path) -> None:
    short = replace(recipe, out=str(tmp_path / "run"))
    model, encoder, loaded = load_exported(entry.train_recipe(short))
    assert model.layout == assemble(recipe)[0].layout and loaded.model.tiling == recipe.model.tiling
    start = assemble(recipe)[0].state_dict()
    moved = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, start[name])]
    assert {name.split(".")[0] for name in moved} == {"encoders", "connectors", "language"} | (
        {"joint"} if recipe.model.tiling == ANY_RES else set()
    )
    samples = [seen(number, size) for number, size in enumerate(SIZES)] + [seen(9, SIZES[1], SIZES[0])]
    assert answers_of(model, encoder, samples, 1) == answers_of(model, encoder, samples, 3)


def test_a_sample_that_cannot_be_answered_is_named(recipe: Recipe) -> None:
    model, encoder, _ = assemble(recipe)
    sample = seen(4, SIZES[0])
    wrong = replace(sample, images=(replace(sample.images[0], width=61),))
    with pytest.raises(UserError, match=r"^sample 'seen-4' cannot be answered: image of 60x20 px, and its sample says"):
        answers_of(model.eval(), encoder, [wrong], 1)


def test_only_what_could_have_been_loaded_is_warned_of(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> None:
    projected = replace(recipe, model=replace(recipe.model, projector=PartSettings(type="mlp")))
    corpus, parts = Corpus(recipe.data, open_cache(recipe.data)), assemble(projected)[2]
    capsys.readouterr()
    entry.introduce(projected, corpus, parts, 1, 1)
    warned = [line.split()[1] for line in capsys.readouterr().err.splitlines() if "RANDOM weights" in line]
    assert warned == ["encoders.clip:", "language:"]


def test_two_encoders_see_the_same_grid(root: Path) -> None:
    tokenizer = make_tokenizer([root / "shards"], root / "tokenizer")
    both = {"vary": EncoderSettings(type="sam", config=SAM), **tiled().vision}
    built = tiny_recipe(root / "two", tokenizer, {"all": root / "shards"})
    model, encoder, _ = assemble(replace(built, model=replace(tiled(tokenizer), vision=both)))
    sample = seen(0, SIZES[0])
    images = pixels(sample.images[0], model.layout)
    assert {name: views.shape[:2] for name, views in images.items()} == {"vary": (3, 64), "clip": (3, 28)}
    assert len(answers_of(model.eval(), encoder, [sample], 1)) == 1
