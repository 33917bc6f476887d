"""Measure seconds, peak memory and (on a GPU) MFU of a training step, beside the released code's way of it.

    python -m benchmarks.model_step toy              # SAM-B and CLIP-L frozen, 2 Qwen layers, 2048 tokens
    python -m benchmarks.model_step toy --tokens 1024
    python -m benchmarks.model_step sam              # SAM-B at 1024 px, forward, no gradient
    python -m benchmarks.model_step tiny             # Vary-tiny+ at full size, everything trained, 1024 tokens
    python -m benchmarks.model_step gpu              # Vary-tiny+ and Vary-toy at full size, 16 bits, on a GPU

A step is forward and backward without an update. Both sides have the same sizes, weights and sample; where the losses
differ, the benchmark ends with an error. The released side is `benchmarks/released.py`. `toy`, `sam` and `tiny` run on
the CPU in fp32. Seconds are the least of `--rounds`, in which the sides take turns in one process.

Memory is the highest resident set during one step in a fresh process, above the one before the step. "Beyond gradients"
is that less the bytes of the gradients, which both sides have. Freed pieces of 1 MiB and more go back to the system at
once on both sides, so that memory that glibc caches does not count; with GLIBC_TUNABLES= (empty) before the command
glibc caches as usual. `--no-times` measures memory alone, which other work on the machine does not disturb.

`gpu` runs each setting in a fresh process: with and without gradient checkpointing, with the whole card and with the
memory that torch has on a card of 11 GB. Its table has tokens/s, MFU (trainer/model/flops.py; causal attention counted
whole, and half) and torch's peak memory. An optimiser is not included; its state comes on top or lies on the host.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from benchmarks import pair
from benchmarks.bench import Table, main_of
from benchmarks.released import ClipSizes, ImageIds, OptSizes, QwenSizes, SamSizes, TinySizes, ToySizes
from trainer.model.flops import PartFlops
from trainer.model.vlm import VisionLanguageModel
from varyforge.console import say
from varyforge.errors import UserError

Result = TypeVar("Result")
CASES = ("toy", "sam", "tiny", "gpu")
TINY = {"rounds": 1, "supervised": [0.6]}
USABLE_GIB = {"11 GB": 10.4}  # memory that the driver's context leaves to torch
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "RTX 4090": 165, "V100": 125, "1080 Ti": 11.3}
"""A part of the device's name → the maker's dense peak for 16 bits; for the 1080 Ti, whose fp16 is slow, for fp32."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("case", choices=CASES, help="see above")
    parser.add_argument("--tokens", type=int, help="of the sequence (toy 2048, tiny 1024); not for gpu")
    parser.add_argument("--supervised", type=float, nargs="+", help="shares of the tokens; not for gpu")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least time counts (%(default)s)")
    parser.add_argument("--no-times", action="store_true", help="only memory")
    parser.add_argument("--peak-tflops", type=float, help="of a GPU whose name the table of peaks does not have")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A side of a setting."""

    case: str  # toy, sam or tiny
    released: bool = False
    recompute: bool = False
    tokens: int = 1024
    supervised: float = 0.7  # of the tokens
    rows: int = 1
    layers: int | None = None  # of the language model; None: all
    tiny: bool = False  # tiny sizes
    device: str = "cpu"
    precision: str = "fp32"
    usable_gib: float | None = None  # what torch may take of the GPU
    steps: int = 10  # of a round, on a GPU

    @property
    def name(self) -> str:
        """The name of the side in a table."""
        return f"{'released' if self.released else 'ours'}{', recomputed' if self.recompute else ''}"

    @property
    def sizes(self) -> pair.Sizes:
        """The model's sizes: those of the case, or tiny ones."""
        if self.tiny:
            sam = SamSizes(
                image=128, width=32, mlp=128, depth=2, heads=2, window=3, global_layers=(1,), neck=16,
                convolutions=(24, 32),
            )  # fmt: skip
            ids = ImageIds(start=297, end=298, pad=299)
            if self.case != "toy":
                opt = OptSizes(vocabulary=300, width=32, mlp=64, depth=2, heads=2, positions=512, dropout=0.0)
                return TinySizes(sam=sam, opt=opt, ids=ids)
            clip = ClipSizes(image=28, width=32, mlp=64, depth=3, heads=2)
            qwen = QwenSizes(vocabulary=300, width=32, mlp=64, depth=2, heads=2, positions=512)
            return ToySizes(clip=clip, sam=sam, qwen=qwen, ids=ids)
        if self.case == "toy":
            return ToySizes(qwen=QwenSizes() if self.layers is None else QwenSizes(depth=self.layers))
        return TinySizes(opt=OptSizes(dropout=0.0))


class Side:
    """A model with its batch; `step` computes a step and returns its loss."""

    def __init__(self, job: Job, model: VisionLanguageModel | None = None) -> None:
        """Build both. `model` is ours, whose weights the released one shares; None builds one."""
        ours = model or pair.ours(job.sizes, recompute=job.recompute, device=job.device, precision=job.precision)
        rng = np.random.default_rng(0)
        supervised = int(job.supervised * job.tokens)
        samples = [pair.sample(job.sizes, job.tokens, 1, supervised, rng) for _ in range(job.rows)]
        self.model: torch.nn.Module = ours
        self.ours = ours
        self.batch = pair.our_batch(ours, [[sample] for sample in samples])
        self.step: Callable[[], float]
        if job.case == "sam":
            encoder: torch.nn.Module = ours.encoders["vary"]
            pixels = self.ours.layout.preprocess["vary"].normalise(
                self.batch.pixels["vary"], next(ours.parameters()).dtype
            )
            if job.released:
                encoder = pair.released(job.sizes, ours).body().vision_tower
            self.step = lambda: _forward(encoder, pixels)
        elif job.released:
            theirs = pair.released(job.sizes, ours)
            if job.recompute:
                theirs.gradient_checkpointing_enable()
            batch = pair.released_batch(theirs, ours, samples)
            self.model, self.step = theirs, lambda: pair.released_step(theirs, batch)
        else:
            self.step = lambda: pair.our_step(ours, self.batch)

    def flops(self) -> list[PartFlops]:
        """Return the FLOPs of a step by part of the model, the same for both sides."""
        batch = self.batch
        return self.ours.flops(batch.lengths, views=len(batch.pixels["vary"]), supervised=batch.num_supervised)


@torch.no_grad()
def _forward(encoder: torch.nn.Module, pixels: torch.Tensor) -> float:
    """Return the mean square of the features, which is compared in place of a loss."""
    return float(encoder(pixels).pow(2).mean())


# --- on the CPU


@dataclass(frozen=True, slots=True)
class Weighed:
    """Memory of one step in a fresh process, bytes."""

    extra: int  # peak above the memory before the step
    gradients: int  # the gradients' part of `extra`; 0 without a backward pass
    loss: float


def weigh(job: Job) -> Weighed:
    """Measure the memory of one step; to be called in a fresh process."""
    torch.set_flush_denormal(True)
    pair.warm_up()
    side = Side(job)
    with pair.watch(job.device) as peak:
        loss = side.step()
    return Weighed(
        extra=peak.peak - peak.before,
        gradients=0 if job.case == "sam" else pair.gradient_bytes(side.model),
        loss=loss,
    )


def in_fresh_process(work: Callable[[Job], Result], job: Job) -> Result:
    """Return `work(job)`, computed in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, job).result()


def on_cpu(jobs: Sequence[Job], rounds: int) -> list[list[str]]:
    """Measure the sides of one setting, the released one first. Returns rows of a table; 0 rounds time nothing."""
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1048576")  # read by the processes of `weigh`
    weighed = {job.name: in_fresh_process(weigh, job) for job in jobs}
    pair.agree({name: each.loss for name, each in weighed.items()})
    times: dict[str, pair.Timed] = {}
    if rounds:
        sides: dict[str, Side] = {}
        for job in reversed(jobs):  # ours first: the released one shares its weights
            shared = next((side.ours for name, side in sides.items() if job.released), None)
            sides[job.name] = Side(job, shared)
        runs = {job.name: sides[job.name].step for job in jobs}
        times = pair.interleaved(runs, [side.model for side in sides.values()], rounds)
    first, table = weighed[jobs[0].name], []
    for name, each in weighed.items():
        beyond = each.extra - each.gradients
        row = [f"{jobs[0].supervised:.0%}", name]
        if rounds:
            base, mine = times[jobs[0].name], times[name]
            row += [f"{mine.wall_s:.3g}", f"{base.wall_s / mine.wall_s:.2f}"]
            row += [f"{mine.cpu_s:.3g}", f"{base.cpu_s / mine.cpu_s:.2f}"]
        row += [f"{each.extra / pair.GIB:.2f}", f"{each.extra / first.extra:.3f}"]
        row += [f"{beyond / pair.GIB:.2f}", f"{beyond / (first.extra - first.gradients):.3f}"]
        table.append([*row, f"{each.loss:.6g}"])
    return table


def columns(rounds: int) -> list[str]:
    """Return the names of the columns of `on_cpu`."""
    times = ["wall s", "faster", "CPU s", "faster"] if rounds else []
    return ["supervised", "side", *times, "step GiB", "of released", "beyond gradients GiB", "of released", "loss"]


def cpu_cases(arguments: argparse.Namespace) -> list[list[Job]]:
    """List the settings of a case. Each is the list of its sides, the released one first."""
    tiny, case = arguments.tiny, arguments.case
    tokens = arguments.tokens or (64 if tiny else {"toy": 2048, "sam": 300, "tiny": 1024}[case])
    job = Job(case=case, tokens=tokens, tiny=tiny, layers=2 if case == "toy" else None)
    sides = [replace(job, released=True), job]
    if case == "tiny":
        sides = [sides[0], replace(sides[0], recompute=True), job, replace(job, recompute=True)]
    shares = arguments.supervised or ([0.7, 0.2] if case == "toy" else [0.1] if case == "sam" else [0.7])
    return [[replace(side, supervised=share) for side in sides] for share in shares]


# --- on a GPU


@dataclass(frozen=True, slots=True)
class OnGpu:
    """The figures of a setting that fitted in the GPU's memory."""

    seconds: float  # of a step
    peak: int  # bytes
    loss: float
    flops: list[PartFlops]


def run_on_gpu(job: Job) -> OnGpu | None:
    """Measure steps; to be called in a fresh process. Returns None where memory does not suffice."""
    if job.usable_gib is not None:
        torch.cuda.set_per_process_memory_fraction(
            job.usable_gib * pair.GIB / torch.cuda.get_device_properties(0).total_memory
        )
    try:
        side = Side(job)

        def steps() -> float:
            for _ in range(job.steps):
                side.model.zero_grad(set_to_none=True)
                loss = side.step()
            return loss

        steps()
        side.model.zero_grad(set_to_none=True)
        with pair.watch("cuda") as peak:
            loss = side.step()
        timed = pair.interleaved({job.name: steps}, [side.model], 3)[job.name]
    except torch.OutOfMemoryError:
        return None
    return OnGpu(timed.wall_s / job.steps, peak.peak, loss, side.flops())


def on_gpu(arguments: argparse.Namespace) -> list[list[str]]:
    """Measure all settings. Returns a row for each.

    Raises:
        UserError: torch sees no GPU.
    """
    if not torch.cuda.is_available():
        raise UserError("gpu: torch sees no CUDA device here")
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    name = torch.cuda.get_device_name()
    tflops = arguments.peak_tflops or next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
    table = []
    for case, tokens, rows in (("tiny", 1024, 1), ("tiny", 1024, 8), ("toy", 4096, 1)):
        base = Job(
            case=case, tokens=64 if arguments.tiny else tokens, rows=rows, tiny=arguments.tiny, device="cuda",
            precision="bf16" if bf16 else "fp16",
        )  # fmt: skip
        for released in (True, False):
            for recompute in (False, True):
                for card in (None, "11 GB"):
                    usable = USABLE_GIB[card] if card else None
                    job = replace(base, released=released, recompute=recompute, usable_gib=usable)
                    figures = in_fresh_process(run_on_gpu, job)
                    say(f"{case} {tokens} x {rows} {job.name} {card or ''}: {figures}")
                    row = [case, str(base.tokens), str(rows), job.name, card or "whole card"]
                    table.append(row + (_cells(figures, job, tflops) if figures else ["out of memory", *["-"] * 6]))
    return table


def _cells(figures: OnGpu, job: Job, tflops: float | None) -> list[str]:
    """Format the figures of a setting."""
    whole = sum(part.model for part in figures.flops)
    attention = sum(part.model for part in figures.flops if part.part == "language.attention")
    hardware = sum(part.hardware for part in figures.flops)
    speed = [count / figures.seconds / (tflops * 1e12) if tflops else None for count in (whole, hardware)]
    strict = (whole - attention / 2) / figures.seconds / (tflops * 1e12) if tflops else None
    shares = ["-" if share is None else f"{share:.1%}" for share in (speed[0], strict, speed[1])]
    if job.released:
        shares[2] = "-"  # the FLOPs of its recomputing and of its black images are not counted here
    return [
        f"{job.rows * job.tokens / figures.seconds:.0f}", f"{figures.seconds * 1000:.1f}", *shares,
        f"{figures.peak / pair.GIB:.2f}", f"{figures.loss / (job.rows * int(job.supervised * job.tokens)):.3f}",
    ]  # fmt: skip


GPU_COLUMNS = [
    "model", "tokens", "rows", "side", "memory", "tokens/s", "ms", "MFU", "MFU, causal half", "HFU", "peak GiB", "loss"
]  # fmt: skip


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Measure all settings of the case."""
    torch.set_flush_denormal(True)
    if arguments.case == "gpu":
        rows = on_gpu(arguments)
        yield Table(title=f"{torch.cuda.get_device_name()}.", head=GPU_COLUMNS, rows=rows)
        return
    rounds = 0 if arguments.no_times else arguments.rounds
    settings = cpu_cases(arguments)
    yield Table(
        title=f"CPU, fp32, {torch.get_num_threads()} threads, {settings[0][0].tokens:,} tokens.",
        head=columns(rounds),
        rows=[row for sides in settings for row in on_cpu(sides, rounds)],
    )


if __name__ == "__main__":
    main_of("benchmarks.model_step")
