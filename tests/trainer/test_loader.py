from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datagen.errors import UserError
from datagen.shards import ShardSet
from tests.trainer.world import make_tokenizer, tiny_recipe
from trainer.assemble import assemble
from trainer.batch import IGNORE_INDEX
from trainer.loader import Corpus, MicroBatches, Share, steps
from trainer.settings import Recipe


@pytest.fixture(scope="module")
def recipe(pdf_shards: Path, chat_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    tokenizer = make_tokenizer([pdf_shards, chat_shards], tmp_path_factory.mktemp("tokenizer"))
    made = tiny_recipe(Path("unused"), tokenizer, {"pdf": pdf_shards, "chat": chat_shards}, samples=12)
    return replace(made, data=replace(made.data, max_length=512))


def keys(recipe: Recipe, ranks: int, *, micro: int, workers: int, first: int = 0, last: int = 3) -> list[Counter[str]]:
    """Sample keys of each step, over all ranks."""
    model, encoder, _ = assemble(recipe)
    found = [Counter[str]() for _ in range(first, last)]
    for rank in range(ranks):
        share = Share(rank=rank, world_size=ranks, global_batch_size=8, micro_batch_size=micro)
        data = MicroBatches(Corpus(recipe.data, recipe.seed), share, encoder, model.preprocess)
        for step, batches in enumerate(steps(data, share, first=first, last=last, workers=workers)):
            assert len(batches) == share.micro_steps
            found[step].update(key for batch in batches for key in batch.keys)
    return found


def test_a_steps_samples_do_not_depend_on_ranks_micro_batches_or_workers(recipe: Recipe) -> None:
    expected = keys(recipe, 1, micro=8, workers=0)
    assert [sum(step.values()) for step in expected] == [8, 8, 8]
    assert keys(recipe, 1, micro=2, workers=2) == expected
    assert keys(recipe, 2, micro=2, workers=0) == expected
    assert keys(recipe, 4, micro=1, workers=1) == expected
    assert keys(recipe, 2, micro=4, workers=0, first=1) == expected[1:]


def test_the_batch_is_what_the_samples_say(recipe: Recipe) -> None:
    model, encoder, _ = assemble(recipe)
    corpus = Corpus(recipe.data, recipe.seed)
    share = Share(rank=0, world_size=1, global_batch_size=8, micro_batch_size=8)
    batch = MicroBatches(corpus, share, encoder, model.preprocess)[0]
    samples = [corpus.read(position) for position in range(8)]
    assert batch.keys == tuple(sample.key for sample in samples) == tuple(corpus.key(position) for position in range(8))
    assert set(batch.tasks) == {"ocr", "text"}
    images = sum(len(sample.images) for sample in samples)
    assert batch.pixels["vary"].shape == (images, 3, 64, 64)
    assert batch.pixels["vary"].dtype == torch.uint8
    assert int((batch.input_ids == encoder.image_id).sum()) == images * model.num_image_tokens
    for row, sample in enumerate(samples):
        length = int(batch.attention_mask[row].sum())
        assert batch.attention_mask[row, length:].sum() == 0
        assert (batch.labels[row, length:] == IGNORE_INDEX).all()
        answer = batch.labels[row][batch.labels[row] != IGNORE_INDEX]
        assert sample.answer.startswith(encoder.decode(answer.tolist()).rstrip("\ufffd"))  # a cut may halve a character


def test_training_never_sees_what_is_held_out(recipe: Recipe, pdf_shards: Path) -> None:
    corpus = Corpus(recipe.data, recipe.seed)
    held_out = {row["key"] for row in ShardSet(pdf_shards).table().to_pylist() if row["split"] == "validation"}
    assert held_out
    assert not held_out & {corpus.key(position) for position in range(corpus.mixture.per_epoch * 3)}


def test_batch_sizes_that_do_not_divide() -> None:
    with pytest.raises(
        UserError, match=r"global_batch_size 8 is not a multiple of 3 ranks x engine\.micro_batch_size 2"
    ):
        _ = Share(rank=0, world_size=3, global_batch_size=8, micro_batch_size=2).micro_steps
