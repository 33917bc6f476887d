"""From positions to steps: the same samples on any number of shards, ranks and workers, and none of them twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.datagen.web import web_server
from tests.pipelines.shard_world import Entry, page, page_picture, page_unit, talk, write_set
from tests.trainer.world import make_tokenizer, tiny_recipe, toy_model
from trainer.assemble import assemble
from trainer.batch import IGNORE_INDEX, Step
from trainer.data import catalog
from trainer.data.cache import open_cache
from trainer.data.catalog import read_item
from trainer.data.corpus import Corpus
from trainer.loader.step_loader import LoadSample, Share, StepLoader, load_sample, open_pool
from trainer.settings import DataSettings, MixtureSettings, Recipe, SourceSettings
from trainer.workers.tasks import InProcess, Pool
from varyforge.errors import UserError
from varyforge.outcome import Written
from varyforge.sample import Sample, Turn
from varyforge.shards import ShardSet

ROOT = Path(__file__).parents[3]
GLOBAL = 6  # samples of a step
STEPS = 8  # of which the last ones are of the second epoch


def entries() -> list[Entry]:
    """Pages and conversations of many lengths."""
    pages = [page(number, text=f"page {number} " * (1 + number % 7)) for number in range(14)]
    return pages + [talk(number, f"question {number}", f"answer {number} " * (1 + number % 5)) for number in range(16)]


def data_of(shards: Path, cache: Path, **changes: Any) -> DataSettings:
    source = SourceSettings(shards=str(shards))
    settings: dict[str, Any] = {"max_length": 300, "cache": str(cache), "cache_gb": 0.0} | changes
    return DataSettings(mixture=MixtureSettings(sources={"all": source}), **settings)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loader")


@pytest.fixture(scope="module")
def shards(root: Path) -> dict[int, Path]:
    """The same samples, in the same order, in so many shards."""
    everything = entries()
    for count in (1, 3, 7):
        ends = [number * len(everything) // count for number in range(count + 1)]
        write_set(root / f"{count}", "mixed", [everything[start:end] for start, end in pairwise(ends)])
    return {count: root / f"{count}" for count in (1, 3, 7)}


@pytest.fixture(scope="module")
def recipe(root: Path, shards: dict[int, Path]) -> Recipe:
    tokenizer = make_tokenizer([shards[1]], root / "tokenizer")
    toy = tiny_recipe(root / "run", tokenizer, {"all": shards[1]})
    return replace(toy, model=toy_model(tokenizer, None), data=data_of(shards[1], root / "cache"))


@pytest.fixture(scope="module")
def load(recipe: Recipe) -> LoadSample:
    _, encoder, _ = assemble(recipe)
    return load_sample(encoder, recipe.data, open_cache(recipe.data))


@pytest.fixture(scope="module")
def pools(recipe: Recipe, load: LoadSample, root: Path) -> Iterator[dict[int, Pool]]:
    """By number of workers. They start once for all tests, as importing a tokenizer takes seconds."""
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    settings = {number: replace(recipe.data, workers=number) for number in (0, 1, 3)}
    with ExitStack() as stack:
        yield {n: stack.enter_context(open_pool(load, how, corpus, root)) for n, how in settings.items()}


def part(rank: int = 0, ranks: int = 1, rows: int = 2) -> Share:
    return Share(rank=rank, world_size=ranks, global_batch_size=GLOBAL, micro_batch_size=rows)


def keys_of(step: Step) -> Counter[str]:
    return Counter(key for batch in step.batches for key in batch.keys)


def due(corpus: Corpus, first: int = 0, last: int = STEPS) -> list[Counter[str]]:
    """Keys of each step, from the mixture alone."""
    return [Counter(corpus.key(step * GLOBAL + n) for n in range(GLOBAL)) for step in range(first, last)]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_steps_do_not_depend_on_shards_ranks_or_workers(
    load: LoadSample, pools: dict[int, Pool], shards: dict[int, Path], root: Path, count: int, workers: int
) -> None:
    data = data_of(shards[count], root / "cache", epochs=2)
    corpus = Corpus(data, open_cache(data))
    one_shard = data_of(shards[1], root / "cache", epochs=2)
    expected = due(Corpus(one_shard, open_cache(one_shard)))
    assert due(corpus) == expected
    assert sum(expected[:5], Counter()) == Counter({key: 1 for step in expected[:5] for key in step})  # one epoch
    for ranks in (1, 2, 4):
        loaders = [StepLoader(corpus, load, pools[workers], part(rank, ranks), data) for rank in range(ranks)]
        parts = [list(loader.steps(0, STEPS)) for loader in loaders]
        assert [len(steps) for steps in parts] == [STEPS] * ranks
        assert [sum(map(keys_of, steps), Counter()) for steps in zip(*parts, strict=True)] == expected
        assert not any(step.skipped for steps in parts for step in steps)
        for loader, steps in zip(loaders, parts, strict=True):
            theirs = [{corpus.key(position) for position in loader.positions(step)} for step in range(STEPS)]
            assert [set(keys_of(step)) for step in steps] == theirs


@pytest.mark.parametrize("batching", ["packed", "bucketed", "padded"])
def test_batches_are_the_same_to_the_byte_with_and_without_workers(
    load: LoadSample, pools: dict[int, Pool], shards: dict[int, Path], root: Path, batching: str
) -> None:
    data = data_of(shards[3], root / "cache", batching=batching)
    corpus = Corpus(data, open_cache(data))
    alone, by_three = (list(StepLoader(corpus, load, pools[n], part(), data).steps(1, 4)) for n in (0, 3))
    assert sum(batch.pixels["vary"].any() for step in alone for batch in step.batches)
    for a, b in zip(alone, by_three, strict=True):
        assert len(a.batches) == len(b.batches)
        for one, other in zip(a.batches, b.batches, strict=True):
            assert (one.keys, one.tasks, one.lengths) == (other.keys, other.tasks, other.lengths)
            for name in ("input_ids", "labels", "positions", "sample_of"):
                assert torch.equal(getattr(one, name), getattr(other, name))
            for name in ("clip", "vary"):
                assert torch.equal(one.pixels[name], other.pixels[name])


def test_the_batch_is_what_the_samples_say(load: LoadSample, pools: dict[int, Pool], recipe: Recipe) -> None:
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    (step,) = StepLoader(corpus, load, pools[1], part(), recipe.data).steps(0, 1)
    samples = {sample.key: sample for sample in map(read_item, corpus.items(range(GLOBAL)))}
    assert {"ocr", "instruct"} == {sample.task for sample in samples.values()}
    for batch in step.batches:
        images = sum(len(samples[key].images) for key in batch.keys)
        assert batch.pixels["vary"].shape == (images, 64, 64, 3)
        assert batch.pixels["clip"].dtype == torch.uint8
        assert (batch.input_ids == load.encoder.image_id).sum() == images * load.encoder.layout.planned_tokens
        for number, key in enumerate(batch.keys):
            labels = batch.labels[(batch.sample_of == number) & (batch.labels != IGNORE_INDEX)]
            answer = load.encoder.decode(labels.tolist()).rstrip("\ufffd")  # a cut may halve a character
            assert answer
            assert samples[key].answer.startswith(answer)


def test_workers_read_behind_a_url_what_they_read_on_this_disk(
    load: LoadSample, pools: dict[int, Pool], shards: dict[int, Path], root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp")
    with web_server(root) as url:
        local, remote = (data_of(place, tmp_path) for place in (shards[3], f"{url}/3"))  # type: ignore[arg-type]
        steps = [
            list(StepLoader(Corpus(how, open_cache(how)), load, pools[3], part(), how).steps(0, STEPS))
            for how in (local, remote)
        ]
    for here, there in zip(*steps, strict=True):
        assert not there.skipped
        assert [batch.keys for batch in here.batches] == [batch.keys for batch in there.batches]
        assert all(
            torch.equal(a.pixels["vary"], b.pixels["vary"]) for a, b in zip(here.batches, there.batches, strict=True)
        )


# --- resuming


@pytest.mark.parametrize("workers", [0, 3])
def test_resuming_is_the_rest_of_the_same_sequence(
    load: LoadSample, pools: dict[int, Pool], recipe: Recipe, workers: int
) -> None:
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    steps = [
        [keys_of(step) for step in StepLoader(corpus, load, pools[workers], part(rank, 2), recipe.data).steps(3, 7)]
        for rank in range(2)
    ]
    assert [sum(parts, Counter()) for parts in zip(*steps, strict=True)] == due(corpus, 3, 7)


def test_resuming_reads_no_skipped_byte(load: LoadSample, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, int, int]] = []
    real = catalog.read_exactly

    def noted(folder: Any, name: str, offset: int, size: int) -> bytes:
        read.append((name, offset, size))
        return real(folder, name, offset, size)

    monkeypatch.setattr(catalog, "read_exactly", noted)
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    with open_pool(load, replace(recipe.data, workers=0), corpus, Path("unused")) as pool:
        list(StepLoader(corpus, load, pool, part(), recipe.data).steps(3, 5))
    items = corpus.items(range(3 * GLOBAL, 5 * GLOBAL))
    assert Counter(read) == Counter((item.shard, item.offset, item.size) for item in items)


PROGRAM = """
import json, sys
from dataclasses import replace
from pathlib import Path
from varyforge.config import load
from trainer.assemble import assemble
from trainer.data.cache import open_cache
from trainer.data.corpus import Corpus
from trainer.loader.step_loader import Share, StepLoader, load_sample, open_pool
from trainer.settings import Recipe

recipe, rank, ranks, workers, first, last = Path(sys.argv[1]), *map(int, sys.argv[2:])
recipe = load(Recipe, recipe)
data = replace(recipe.data, workers=workers)
model, encoder, _ = assemble(recipe)
read = load_sample(encoder, data, open_cache(data))
corpus = Corpus(data, open_cache(data))
share = Share(rank=rank, world_size=ranks, global_batch_size=6, micro_batch_size=2)
with open_pool(read, data, corpus, Path(recipe.out)) as pool:
    for number, step in enumerate(StepLoader(corpus, read, pool, share, data).steps(first, last), start=first):
        print(json.dumps([number, sorted(key for batch in step.batches for key in batch.keys)]), flush=True)
"""


def start(recipe: Path, seed: int, *arguments: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": str(seed)}
    command = [sys.executable, "-c", PROGRAM, str(recipe), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str]) -> Iterator[tuple[int, list[str]]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield tuple(json.loads(line))


@pytest.mark.slow
def test_killed_ranks_resume_on_another_number_of_ranks_and_workers(recipe: Recipe, root: Path) -> None:
    """And of shards in use and hash seeds; real processes, 40 steps over eight epochs."""
    from varyforge.config import to_yaml

    path = root / "recipe.yaml"
    path.write_text(to_yaml(replace(recipe, data=replace(recipe.data, epochs=8))))
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    actual: list[Counter[str]] = [Counter() for _ in range(40)]
    first = 0
    for ranks, workers, last in ((2, 3, 13), (1, 1, 22), (3, 0, 40)):
        processes = [start(path, rank, rank, ranks, workers, first, 40) for rank in range(ranks)]
        for process in processes:
            for number, keys in lines(process):
                actual[number].update(keys)
                if number == last - 1:
                    break
            process.kill()
            process.communicate()
        first = last
    assert actual == due(corpus, 0, 40)


# --- samples that cannot be used


def test_bad_samples_are_counted_and_never_replaced(
    load: LoadSample, pools: dict[int, Pool], root: Path, tmp_path: Path
) -> None:
    write_set(tmp_path / "bad", "pages", [[page(n) for n in range(start, start + 50)] for start in (0, 50)])
    table = ShardSet(tmp_path / "bad").table().to_pylist()
    broken = {table[n]["key"]: n for n in (3, 30, 60, 77, 99)}
    for how, number in enumerate(broken.values()):
        spoil(tmp_path / "bad" / table[number]["shard"], table[number]["offset"], how)
    data = data_of(tmp_path / "bad", root / "cache")
    corpus = Corpus(data, open_cache(data))
    share = replace(part(), global_batch_size=20)
    steps = list(StepLoader(corpus, load, pools[3], share, data).steps(0, 5))
    seen = sum(map(keys_of, steps), Counter())
    assert seen == Counter({row["key"] for row in table} - set(broken))
    skipped = [entry for step in steps for entry in step.skipped]
    assert {key for key, _ in skipped} == set(broken)
    assert len(skipped) == 5
    assert [sum(keys_of(step).values()) + len(step.skipped) for step in steps] == [20] * 5
    for key, reason in skipped:
        assert "image cannot be decoded" in reason or ".tar at byte" in reason, (key, reason)


def spoil(tar: Path, offset: int, how: int) -> None:
    """Overwrites some of a sample: of its image, its JSON, or its headers."""
    data = bytearray(tar.read_bytes())
    image = data.index(b"\xff\xd8\xff", offset)
    start, length = ((image, 3), (image + 20, 300), (offset, 100), (offset + 512, 4), (image - 512, 100))[how]
    data[start : start + length] = b"\x01" * length
    tar.write_bytes(data)


def test_more_images_than_a_row_takes_are_a_reason_and_many_are_none(
    load: LoadSample, pools: dict[int, Pool], root: Path, tmp_path: Path
) -> None:
    def album(number: int, images: int) -> Entry:
        turns = (Turn(role="user", text="<image>" * images + "Compare."), Turn(role="assistant", text="They differ."))
        pictures = tuple(page_picture(f"{number} {n}", width=90, height=80) for n in range(images))
        sample = Sample(key=f"album-{images}", task="vqa", turns=turns, images=pictures, source="chat")
        return Entry(page_unit("album", number), Written(samples=(sample,)))

    write_set(tmp_path / "albums", "chat", [[album(n, images) for n, images in enumerate((1, 2, 16, 17, 0))]])
    data = data_of(tmp_path / "albums", root / "cache")
    corpus = Corpus(data, open_cache(data))
    (step,) = StepLoader(corpus, load, pools[1], replace(part(), global_batch_size=5), data).steps(0, 1)
    assert set(keys_of(step)) == {"album-0", "album-1", "album-2", "album-16"}
    assert step.skipped == (("album-17", "17 images, more than data.max_images 16"),)
    assert sum(len(batch.pixels["vary"]) for batch in step.batches) == 19


def test_a_sample_that_hangs_is_skipped_and_the_next_steps_come(
    load: LoadSample, pools: dict[int, Pool], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path / "hangs", "mixed", [entries()[:11], entries()[11:12]])
    data = data_of(tmp_path / "hangs", root / "cache")
    corpus = Corpus(data, open_cache(data))
    (stuck,) = (sample["key"] for sample in ShardSet(tmp_path / "hangs").table().to_pylist()[11:])
    (tar,) = (tmp_path / "hangs").glob("*-0001.tar")
    tar.unlink()
    os.mkfifo(tar)  # opening it waits for somebody to write
    monkeypatch.setattr(pools[3], "_deadline_s", 3.0)
    monkeypatch.setattr(pools[3], "_stuck", tmp_path / "stuck")
    monkeypatch.setattr(pools[3], "_key_of", corpus.key)
    steps = list(StepLoader(corpus, load, pools[3], part(), data).steps(0, 2))
    assert [entry for step in steps for entry in step.skipped] == [(stuck, "no answer within 3 s")]
    assert sum(map(keys_of, steps), Counter()) == sum(due(corpus, 0, 2), Counter()) - Counter([stuck])
    assert "read_item" in (tmp_path / "stuck" / f"{stuck}.txt").read_text()


def test_too_long_samples_can_be_left_out(recipe: Recipe, tmp_path: Path) -> None:
    data = replace(recipe.data, max_length=60, too_long="drop")
    _, encoder, _ = assemble(replace(recipe, data=data))
    corpus, load = Corpus(data, open_cache(data)), load_sample(encoder, data, open_cache(data))
    with open_pool(load, replace(data, workers=1), corpus, tmp_path) as pool:
        steps = list(StepLoader(corpus, load, pool, part(), data).steps(0, 5))
    dropped = Counter(key for step in steps for key, _ in step.dropped)
    assert dropped and all("data.max_length 60" in reason for step in steps for _, reason in step.dropped)
    assert sum(map(keys_of, steps), dropped) == sum(due(corpus, 0, 5), Counter())
    assert not any(step.skipped or step.truncated for step in steps)


def test_too_long_can_be_an_error(recipe: Recipe, tmp_path: Path) -> None:
    data = replace(recipe.data, max_length=40, too_long="error")
    _, encoder, _ = assemble(replace(recipe, data=data))
    corpus, load = Corpus(data, open_cache(data)), load_sample(encoder, data, open_cache(data))
    with open_pool(load, replace(data, workers=0), corpus, tmp_path) as pool:
        steps = StepLoader(corpus, load, pool, part(), data).steps(0, 5)
        with pytest.raises(UserError, match="max_length 40: sample "):
            list(steps)


# --- the pool underneath


def test_no_more_than_one_step_waits(load: LoadSample, recipe: Recipe) -> None:
    loaded: list[Any] = []

    def counted(item: catalog.Item) -> Any:
        loaded.append(item)
        return load(item)

    corpus = Corpus(recipe.data, open_cache(recipe.data))
    with InProcess(counted, key_of=corpus.key) as pool:
        steps = StepLoader(corpus, load, pool, part(), recipe.data).steps(0, 100)
        for taken in (1, 2, 3):
            next(steps)
            while len(loaded) < (taken + 1) * GLOBAL:
                time.sleep(0.01)
            time.sleep(0.1)
            assert len(loaded) == (taken + 1) * GLOBAL
        steps.close()  # type: ignore[attr-defined]


def test_steps_left_early_stop_the_pool(load: LoadSample, recipe: Recipe, tmp_path: Path) -> None:
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    pool = InProcess(load, key_of=corpus.key)
    with pytest.raises(RuntimeError, match="enough"):
        for _ in StepLoader(corpus, load, pool, part(), recipe.data).steps(0, 1000):
            raise RuntimeError("enough")


def test_the_process_that_forks_has_one_thread(pools: dict[int, Pool], load: LoadSample, recipe: Recipe) -> None:
    """With all that a real loading function imports: another thread's locks would be copied as they stand."""
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    list(StepLoader(corpus, load, pools[3], part(), recipe.data).steps(0, 1))
    server: int = pools[3]._server.pid  # type: ignore[attr-defined]
    assert len(os.listdir(f"/proc/{server}/task")) == 1


@pytest.mark.slow
def test_memory_is_flat_over_epochs(load: LoadSample, pools: dict[int, Pool], recipe: Recipe) -> None:
    """6,000 samples of the real path after 1,200: less than 1 MB per 1,000, over this process and the pool's."""
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    server: int = pools[3]._server.pid  # type: ignore[attr-defined]

    def memory_kib() -> int:
        workers = [int(p) for p in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        assert len(workers) == 3
        status = [Path(f"/proc/{pid}/status").read_text() for pid in (os.getpid(), server, *workers)]
        return sum(int(text.split("VmRSS:")[1].split()[0]) for text in status)

    loader = StepLoader(corpus, load, pools[3], replace(part(), global_batch_size=30), recipe.data)
    assert sum(len(step.batches) for step in loader.steps(0, 40))
    before = memory_kib()
    assert sum(len(step.batches) for step in loader.steps(40, 240))
    assert memory_kib() - before < 6 * 1024


def test_room_in_shared_memory_is_what_a_sample_takes(load: LoadSample, recipe: Recipe) -> None:
    corpus = Corpus(recipe.data, open_cache(recipe.data))
    for item in corpus.items(range(corpus.mixture.per_epoch)):
        encoded, images = load(item)
        arrays = [encoded.input_ids, encoded.labels, *(array for image in images for array in image.values())]
        assert len(images) == item.images
        if item.images:
            assert sum(array.nbytes + 64 for array in arrays) <= load.shared_bytes(item.images)
        assert np.issubdtype(encoded.labels.dtype, np.integer)
    assert load.shared_bytes(0) == 0
