"""Measure samples per second of the trainer's loader, a bare loop, plain webdataset and the released code's loader.

    python -m benchmarks.loader --rounds 5
    python -m benchmarks.loader --shards shards/pdf --workers 2 --samples 512

All ways read the same pages, in one run, in turns; by default pages of the project's sample documents as the PDF source
makes them (JPEG of quality 90, short side 1024):

- ours: catalog, order, read at offset, decode once, both encoders' sizes, ids and labels, packing, batches of uint8
- bare: a process per worker that reads the same bytes and calls the same decode and resizes; nothing else
- bare, tokens: the same loop, which also calls the tokenizer on the answer
- webdataset: `decode("pil")`, both encoders' pixels with Pillow, normalised to floats, batched, torch's DataLoader. It
  makes no tokens, so it has less to do than the other ways
- released: a JSON list of conversations and image files; Pillow, the processors of both branches, a tokenizer call per
  row and one more per question to mask it, padded batches of floats, torch's DataLoader

Each way loads its first `--warm-up` samples, then the clock runs for `--samples` while the way goes on: start-up and
full queues do not count. Nothing computes on the batches. torch has one thread in each process. CPU is that of this
process and of its workers in the cheapest round. Ratios are medians over the rounds of ours ÷ the other way in the same
round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import pickle
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import psutil
import torch
import webdataset
from numpy.typing import NDArray
from PIL.Image import Resampling
from tokenizers import Tokenizer
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.bench import Table, main_of, work_folder
from benchmarks.clocks import PartTimes
from datagen.examples.documents import write_documents
from datagen.job.job import run_job
from datagen.job.runner import LocalRunner
from datagen.job.settings import JobSettings
from datagen.pdf.source import PdfSource
from trainer.batch import IGNORE_INDEX
from trainer.data.cache import open_cache
from trainer.data.catalog import Item, read_item
from trainer.data.corpus import Corpus
from trainer.images.layout import ImageLayout
from trainer.images.pixels import decode
from trainer.images.preprocess import ImagePreprocess
from trainer.images.sizes import ViewTokens
from trainer.loader.packing import collate, micro_batches
from trainer.loader.step_loader import LoadSample, Share, StepLoader, load_sample, open_pool
from trainer.settings import DataSettings, MixtureSettings, SourceSettings
from trainer.text.encode import ConversationEncoder, load_tokenizer
from trainer.tokenizer import train_tokenizer
from varyforge.console import say
from varyforge.errors import UserError
from varyforge.sample import IMAGE_MARKER
from varyforge.shards import ShardSet

PREPROCESS = {"clip": ImagePreprocess(size=224, fit="crop"), "vary": ImagePreprocess(size=1024)}
MEAN, STD = (torch.tensor(numbers).view(3, 1, 1) for numbers in (PREPROCESS["vary"].mean, PREPROCESS["vary"].std))
STEP, ROWS = 32, 4  # samples of a step of ours; rows of a batch in all ways
MAX_LENGTH, IMAGE_TOKENS = 4096, 256
LAYOUT = ImageLayout(preprocess=PREPROCESS, view=ViewTokens(IMAGE_TOKENS))
WAYS = ("ours", "bare", "bare, tokens", "webdataset", "released")
TINY = {"documents": 8, "samples": 8, "warm_up": 4, "rounds": 1, "workers": [1]}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--shards", type=Path, help="a shard set of pages on this machine, in place of our own")
    parser.add_argument("--documents", type=int, default=120, help="sample documents without --shards (%(default)s)")
    parser.add_argument("--samples", type=int, default=256, help="that are timed, per way and round (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=96, help="samples before that (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes (0 1 2)")


@dataclass(frozen=True, kw_only=True)
class World:
    """The files that all ways read."""

    shards: Path
    work: Path
    tokenizer: str
    items: list[Item]

    def data(self, workers: int) -> DataSettings:
        """Return a recipe's `data` over the shards, with endless epochs."""
        source = SourceSettings(shards=str(self.shards), samples=10**6, repeat="as_needed", times=10**6)
        return DataSettings(
            mixture=MixtureSettings(sources={"pages": source}),
            workers=workers,
            max_length=MAX_LENGTH,
            cache=str(self.work / "cache"),
        )

    def encoder(self) -> ConversationEncoder:
        """Return an encoder of Vary-toy's template."""
        tokenizer = load_tokenizer(self.tokenizer)
        return ConversationEncoder(tokenizer, template="vary_toy", layout=LAYOUT, max_length=MAX_LENGTH)


def prepare(shards: Path | None, documents: int, work: Path) -> World:
    """Write shards (unless they are named), tokenizer and the released code's files below `work`.

    Raises:
        UserError: a sample of the shards has no image, or several.
    """
    if shards is None:
        shards = work / "shards"
        write_documents(work / "pdf", documents=documents)
        settings = JobSettings(units_per_shard=32, validation_share=0.01)
        run_job(PdfSource(paths=[str(work / "pdf")]), shards, settings, LocalRunner(2))
    train_tokenizer([ShardSet(shards)], vocabulary=4000).save_pretrained(work / "tokenizer")
    world = World(shards=shards, work=work, tokenizer=str(work / "tokenizer"), items=[])
    catalog = Corpus(world.data(0), open_cache(world.data(0))).catalogs[0]
    world.items.extend(catalog.item(row) for row in range(len(catalog)))
    if any(item.images != 1 for item in world.items):
        raise UserError(f"{shards}: name a set in which each sample has one image, such as pages")
    records = []
    (work / "images").mkdir(exist_ok=True)
    for item in world.items:
        sample = read_item(item)
        path = work / "images" / f"{sample.key}.{sample.images[0].format}"
        path.write_bytes(sample.images[0].data)
        records.append({"image": str(path), "question": sample.turns[-2].text, "answer": sample.answer})
    (work / "conversations.json").write_text(json.dumps(records), encoding="utf-8")
    return world


# --- the ways: each an endless stream of numbers of samples


def ours(world: World, workers: int) -> Generator[int]:
    """Yield the sizes of steps of the trainer's loader."""
    data = world.data(workers)
    cache = open_cache(data)
    corpus = Corpus(data, cache)
    load = load_sample(world.encoder(), data, cache)
    share = Share(global_batch_size=STEP, micro_batch_size=ROWS)
    with open_pool(load, data, corpus, world.work) as pool:
        for step in StepLoader(corpus, load, pool, share, data).steps(0, 10**6 // STEP):
            if step.skipped:
                raise UserError(f"{world.shards}: unusable sample: {step.skipped[0]}")
            yield sum(len(batch.keys) for batch in step.batches)


def to_floats(image: PIL.Image.Image) -> torch.Tensor:
    """Return (3, H, W), as ToTensor and Normalize of torchvision do."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255).sub_(MEAN).div_(STD)


def with_webdataset(world: World, workers: int) -> Generator[int]:
    """Yield the sizes of batches of a pipeline as in webdataset's documentation."""

    def both(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        image = next(sample[format] for format in ("jpg", "png") if format in sample)
        large = image.resize((1024, 1024), Resampling.BICUBIC)
        width, height = (int(224 * side / min(image.size)) for side in image.size)
        left, top = (width - 224) // 2, (height - 224) // 2
        small = image.resize((width, height), Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
        return to_floats(small), to_floats(large), sample["json"]

    tars = sorted(str(path) for path in world.shards.glob("*.tar"))
    data = webdataset.WebDataset(tars, shardshuffle=False).repeat().decode("pil").map(both).batched(ROWS)
    for small, _, _ in DataLoader(data, batch_size=None, num_workers=workers):
        yield len(small)


class Released(Dataset[dict[str, torch.Tensor]]):
    """A data set that does what the released code's does."""

    def __init__(self, world: World) -> None:
        self._records = json.loads((world.work / "conversations.json").read_text(encoding="utf-8"))
        self._tokenizer = load_tokenizer(world.tokenizer)
        self._processor = CLIPImageProcessorPil()

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        record = self._records[index % len(self._records)]
        image = PIL.Image.open(record["image"]).convert("RGB")
        small = self._processor(image, return_tensors="pt")["pixel_values"][0]
        large = to_floats(image.resize((1024, 1024), Resampling.BICUBIC))
        block = "<img>" + "<imgpad>" * IMAGE_TOKENS + "</img>\n"
        question = record["question"].replace(IMAGE_MARKER, block)
        question = f"<|im_start|>system\n<|im_end|><|im_start|>user\n{question}<|im_end|><|im_start|>assistant\n"
        ids = self._ids(f"{question}{record['answer']}<|im_end|>")
        labels = ids.clone()
        labels[: len(self._ids(question))] = IGNORE_INDEX
        return {"input_ids": ids, "labels": labels, "small": small, "large": large}

    def _ids(self, text: str) -> torch.Tensor:
        ids: torch.Tensor = self._tokenizer(text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt").input_ids
        return ids[0]


def padded(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate samples as the released code does."""
    ids = pad_sequence([sample["input_ids"] for sample in samples], True, 0)
    labels = pad_sequence([sample["labels"] for sample in samples], True, IGNORE_INDEX)
    images = {name: torch.stack([sample[name] for sample in samples]) for name in ("small", "large")}
    return {"input_ids": ids, "labels": labels, "attention_mask": ids.ne(0), **images}


def released(world: World, workers: int) -> Generator[int]:
    """Yield the sizes of batches of torch's DataLoader, as transformers' Trainer configures it."""
    data = Released(world)
    order = np.random.default_rng(0).permutation(10**6).tolist()
    for batch in DataLoader(data, batch_size=ROWS, sampler=order, num_workers=workers, collate_fn=padded):
        yield len(batch["input_ids"])


STREAMS: dict[str, Callable[[World, int], Generator[int]]] = {
    "ours": ours,
    "webdataset": with_webdataset,
    "released": released,
}


# --- measuring


@dataclass(frozen=True)
class Pace:
    """The speed of a way in a round."""

    per_second: float
    own_ms: float  # CPU per sample of this process
    workers_ms: float  # CPU per sample of its child processes

    @property
    def cpu_ms(self) -> float:
        """CPU per sample of all processes."""
        return self.own_ms + self.workers_ms


def cpu_seconds() -> NDArray[np.float64]:
    """Return CPU seconds of this process, and of its live child processes."""
    below = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return np.array([time.process_time(), sum(times.user + times.system for times in below)])


def pace_of(stream: Generator[int], warm_up: int, samples: int) -> Pace:
    """Time a stream behind its first `warm_up` samples."""
    while warm_up > 0:
        warm_up -= next(stream)
    started, cpu, seen = time.perf_counter(), cpu_seconds(), 0
    while seen < samples:
        seen += next(stream)
    wall_s = time.perf_counter() - started
    return Pace(seen / wall_s, *((cpu_seconds() - cpu) / seen * 1e3).tolist())


def bare_loop(items: list[Item], answers: list[str], tokenizer: Tokenizer | None) -> tuple[float, float]:
    """Read, decode, resize, and tokenise where there is a tokenizer. Returns wall and CPU seconds."""
    started, cpu = time.perf_counter(), time.process_time()
    for item, answer in zip(items, answers, strict=True):
        with open(f"{item.place}/{item.shard}", "rb") as file:
            file.seek(item.offset)
            read = file.read(item.size)
        LAYOUT.views(decode(read[read.index(b"\xff\xd8\xff") :]))
        if tokenizer is not None:
            tokenizer.encode_batch_fast([answer], add_special_tokens=False)
    return time.perf_counter() - started, time.process_time() - cpu


def bare(world: World, workers: int, samples: int, *, tokens: bool) -> Pace:
    """Time bare loops, one per worker at once, each over its part of the samples, in the order of ours."""
    rows = np.random.default_rng(0).integers(0, len(world.items), samples)
    records = json.loads((world.work / "conversations.json").read_text(encoding="utf-8"))
    items, answers = [world.items[row] for row in rows], [records[row]["answer"] for row in rows]
    tokenizer = load_tokenizer(world.tokenizer).backend_tokenizer if tokens else None
    parts = [(items[at :: workers or 1], answers[at :: workers or 1], tokenizer) for at in range(workers or 1)]
    warm_up = [(items[:8], answers[:8], tokenizer)] * len(parts)
    if workers == 0:
        results = [bare_loop(*part) for part in warm_up + parts][len(parts) :]
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            pool.starmap(bare_loop, warm_up, chunksize=1)
            results = pool.starmap(bare_loop, parts, chunksize=1)
    cpu_ms = sum(cpu for _, cpu in results) / samples * 1e3
    return Pace(samples / max(wall for wall, _ in results), *((0.0, cpu_ms) if workers else (cpu_ms, 0.0)))


def pace_of_way(world: World, way: str, workers: int, arguments: argparse.Namespace) -> Pace:
    """Time a way once."""
    if way.startswith("bare"):
        return bare(world, workers, arguments.samples, tokens=way != "bare")
    with closing(STREAMS[way](world, workers)) as stream:
        return pace_of(stream, arguments.warm_up, arguments.samples)


def table(workers: int, paces: dict[str, list[Pace]]) -> Table:
    """Return the table of all ways with so many workers."""
    rows = []
    for way in WAYS:
        speeds = sorted(pace.per_second for pace in paces[way])
        least = min(paces[way], key=lambda pace: pace.cpu_ms)
        ratios = [us.per_second / pace.per_second for us, pace in zip(paces["ours"], paces[way], strict=True)]
        range_of = f"{statistics.median(speeds):.1f} ({speeds[0]:.1f} to {speeds[-1]:.1f})"
        ratio = f"{statistics.median(ratios):.2f}"
        rows.append((way, range_of, f"{least.cpu_ms:.1f}", f"{least.workers_ms:.1f}", ratio))
    head = ("samples/s: median (least to most)", "CPU ms/sample", "of which workers", "ours ÷ this")
    return Table(head=(f"{workers} worker(s)", *head), rows=rows)


def part_times(world: World, steps: int) -> Table:
    """Return the CPU ms of each part of our path, in one process, one after the other."""
    times = PartTimes()
    load: LoadSample = load_sample(world.encoder(), world.data(0), open_cache(world.data(0)))
    items = itertools.islice(itertools.cycle(world.items), steps * STEP)
    limits = {"rows": ROWS, "max_length": MAX_LENGTH, "max_images": world.data(0).max_images}
    for _ in range(steps):
        loaded = []
        for item in itertools.islice(items, STEP):
            sample = times.timed("read", read_item, item)
            encoded = times.timed("ids and labels", load.encoder.encode, sample)
            picture = times.timed("decode", decode, sample.images[0].data)
            views = {
                name: times.timed(f"resize to {preprocess.size}", preprocess.to_uint8, picture)[None]
                for name, preprocess in PREPROCESS.items()
            }
            times.timed("pickle, copy", lambda data: pickle.loads(pickle.dumps(data)), (encoded, [views]))
            loaded.append((encoded, [views]))
        sizes = [(len(one.input_ids), len(pictures)) for one, pictures in loaded]
        for rows in times.timed("pack", micro_batches, sizes, batching="packed", **limits):
            batch = [[loaded[number] for number in row] for row in rows]
            times.timed("collate", collate, batch, load.encoder.pad_id, LAYOUT)
    ms = [seconds / (steps * STEP) * 1e3 for seconds in times.seconds.values()]
    cells = [f"{one:.2f}" for one in (*ms, sum(ms))]
    return Table(head=("CPU ms/sample", *times.seconds, "sum"), rows=[("ours, in one process", *cells)])


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Time all ways in turns, then the parts of ours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with work_folder() as work:
        world = prepare(arguments.shards, arguments.documents, work)
        mean_kb = statistics.mean(item.size for item in world.items) / 1e3
        yield f"{len(world.items)} pages, {mean_kb:.0f} kB each, in rows of {MAX_LENGTH:,} tokens."
        paces: dict[int, dict[str, list[Pace]]] = defaultdict(lambda: defaultdict(list))
        for number, workers in itertools.product(range(arguments.rounds), arguments.workers):
            for way in WAYS:
                paces[workers][way].append(pace_of_way(world, way, workers, arguments))
            say(f"round {number + 1} of {arguments.rounds}, {workers} workers: done")
        for workers in arguments.workers:
            yield table(workers, paces[workers])
        yield part_times(world, steps=1 if arguments.tiny else 4)
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main_of("benchmarks.loader")
