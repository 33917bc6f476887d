"""A training step, forward and backward, beside the released code's way of it: seconds, peak memory, and on a GPU MFU.

    python -m benchmarks.model_step toy                   # SAM-B and CLIP-L frozen, 2 Qwen layers, 2048 tokens
    python -m benchmarks.model_step toy --tokens 1024
    python -m benchmarks.model_step sam                   # SAM-B at 1024 px, forward, no gradient
    python -m benchmarks.model_step tiny                  # Vary-tiny+ at full size, everything trained, 1024 tokens
    python -m benchmarks.model_step gpu --out gpu.md      # Vary-tiny+ and Vary-toy at full size, 16 bits, on a GPU
    python -m benchmarks.model_step toy --quick           # tiny sizes: does the script work?

Both sides have the same sizes, weights and sample, and their losses have to agree, or there is no result. The released
side is `benchmarks/released.py`. `toy`, `sam` and `tiny` run on the CPU in fp32. Seconds are the least of `--rounds`,
in which the sides take turns in one process. Memory is the highest resident set during one step in a fresh process,
above what was there before it; "beyond gradients" is that less the bytes of the gradients, which both sides have. So
that it is what a step holds and not what glibc keeps of what was freed, pieces of 1 MiB and more go back to the system
at once, on both sides; with GLIBC_TUNABLES= (empty) before the command glibc does as it pleases. `--no-times` only
weighs, which other work on the machine does not disturb.

`gpu` runs each setting in a fresh process: with and without gradient checkpointing, with all of the card and with as
much as torch has of one of 11 GB. It writes tokens/s, MFU (trainer/model/flops.py; causal attention counted whole, and
half) and torch's peak memory. There is no optimiser in it, whose state comes on top or lies on the host.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from benchmarks import pair
from benchmarks.released import ClipSizes, ImageIds, OptSizes, QwenSizes, SamSizes, TinySizes, ToySizes
from trainer.model.flops import PartFlops
from trainer.model.vlm import VisionLanguageModel
from varyforge.console import result, say
from varyforge.errors import UserError, command

Result = TypeVar("Result")
USABLE_GIB = {"8 GB": 7.4, "11 GB": 10.4}  # of a card's memory, the rest is the driver's context
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "RTX 4090": 165, "V100": 125, "1080 Ti": 11.3}
"""By what stands in the device's name: the makers' dense peak for 16 bits; of the 1080 Ti, whose fp16 is slow, fp32."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One side of one setting."""

    case: str  # toy, sam, tiny
    released: bool = False
    recompute: bool = False
    tokens: int = 1024
    supervised: float = 0.7  # of the tokens
    rows: int = 1
    layers: int | None = None  # of the language model; None: all
    quick: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    usable_gib: float | None = None  # what torch may take of the GPU
    steps: int = 10  # of a round, on a GPU

    @property
    def name(self) -> str:
        """For a table."""
        return f"{'released' if self.released else 'ours'}{', recomputed' if self.recompute else ''}"

    @property
    def sizes(self) -> pair.Sizes:
        """Of the case, or tiny ones."""
        if self.quick:
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
    """A model with its batch; `step` computes and gives the loss."""

    def __init__(self, job: Job, model: VisionLanguageModel | None = None) -> None:
        """`model`: ours, whose weights the released one is to share; None builds one."""
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
        """Of a step of the model, whichever side computes it."""
        batch = self.batch
        return self.ours.flops(batch.lengths, views=len(batch.pixels["vary"]), supervised=batch.num_supervised)


@torch.no_grad()
def _forward(encoder: torch.nn.Module, pixels: torch.Tensor) -> float:
    """A number that stands for the features."""
    return float(encoder(pixels).pow(2).mean())


# --- on the CPU


@dataclass(frozen=True, slots=True)
class Weighed:
    """Bytes of one step in a fresh process."""

    extra: int  # at most, above what was there before the step
    gradients: int  # what of it are gradients; 0 without a backward pass
    loss: float


def weigh(job: Job) -> Weighed:
    """One step, to be called in a fresh process."""
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
    """`work(job)` in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(work, job).result()


def on_cpu(jobs: Sequence[Job], rounds: int) -> list[list[str]]:
    """Rows of a table for sides of one setting, the released one first; without rounds nothing is timed."""
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1048576")  # of the processes that weigh
    weighed = {job.name: in_fresh_process(weigh, job) for job in jobs}
    pair.agree({name: each.loss for name, each in weighed.items()})
    times: dict[str, pair.Timed] = {}
    if rounds:
        sides: dict[str, Side] = {}
        for job in reversed(jobs):  # ours first, which the released one then shares its weights with
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
    """Of the tables of `on_cpu`."""
    times = ["wall s", "faster", "CPU s", "faster"] if rounds else []
    return ["supervised", "side", *times, "step GiB", "of released", "beyond gradients GiB", "of released", "loss"]


def cpu_cases(asked: argparse.Namespace) -> list[list[Job]]:
    """The settings of a case; of each its sides, the released one first."""
    quick, case = asked.quick, asked.case
    tokens = asked.tokens or (64 if quick else {"toy": 2048, "sam": 300, "tiny": 1024}[case])
    job = Job(case=case, tokens=tokens, quick=quick, layers=2 if case == "toy" else None)
    sides = [replace(job, released=True), job]
    if case == "tiny":
        sides = [sides[0], replace(sides[0], recompute=True), job, replace(job, recompute=True)]
    shares = asked.supervised or ([0.7, 0.2] if case == "toy" else [0.1] if case == "sam" else [0.7])
    return [[replace(side, supervised=share) for side in sides] for share in shares]


# --- on a GPU


@dataclass(frozen=True, slots=True)
class OnGpu:
    """A setting that ran."""

    seconds: float  # a step
    peak: int  # bytes
    loss: float
    flops: list[PartFlops]


def run_on_gpu(job: Job) -> OnGpu | None:
    """Steps in a fresh process; None: out of memory."""
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


def on_gpu(asked: argparse.Namespace) -> list[list[str]]:
    """A row for each setting."""
    if not torch.cuda.is_available():
        raise UserError("gpu: torch sees no CUDA device here")
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    name = torch.cuda.get_device_name()
    tflops = asked.peak_tflops or next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)
    table = []
    for case, tokens, rows in (("tiny", 1024, 1), ("tiny", 1024, 8), ("toy", 4096, 1)):
        base = Job(
            case=case, tokens=64 if asked.quick else tokens, rows=rows, quick=asked.quick, device="cuda",
            precision="bf16" if bf16 else "fp16",
        )  # fmt: skip
        for released in (True, False):
            for recompute in (False, True):
                for card in (None, "11 GB"):
                    usable = USABLE_GIB[card] if card else None
                    job = replace(base, released=released, recompute=recompute, usable_gib=usable)
                    found = in_fresh_process(run_on_gpu, job)
                    say(f"{case} {tokens} x {rows} {job.name} {card or ''}: {found}")
                    row = [case, str(base.tokens), str(rows), job.name, card or "whole card"]
                    table.append(row + (_figures(found, job, tflops) if found else ["out of memory", *["-"] * 6]))
    return table


def _figures(found: OnGpu, job: Job, tflops: float | None) -> list[str]:
    """The cells of a setting that ran."""
    whole = sum(part.model for part in found.flops)
    attention = sum(part.model for part in found.flops if part.part == "language.attention")
    hardware = sum(part.hardware for part in found.flops)
    speed = [count / found.seconds / (tflops * 1e12) if tflops else None for count in (whole, hardware)]
    strict = (whole - attention / 2) / found.seconds / (tflops * 1e12) if tflops else None
    shares = ["-" if share is None else f"{share:.1%}" for share in (speed[0], strict, speed[1])]
    if job.released:
        shares[2] = "-"  # what it computes again and what it computes for nothing is not counted here
    return [
        f"{job.rows * job.tokens / found.seconds:.0f}", f"{found.seconds * 1000:.1f}", *shares,
        f"{found.peak / pair.GIB:.2f}", f"{found.loss / (job.rows * int(job.supervised * job.tokens)):.3f}",
    ]  # fmt: skip


GPU_COLUMNS = [
    "model", "tokens", "rows", "side", "memory", "tokens/s", "ms", "MFU", "MFU, causal half", "HFU", "peak GiB", "loss"
]  # fmt: skip


# --- the command


def markdown(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a README."""
    lines = [title, "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["toy", "sam", "tiny", "gpu"])
    parser.add_argument("--tokens", type=int, help="of the sequence; toy 2048, tiny 1024; not for gpu")
    parser.add_argument("--supervised", type=float, nargs="+", help="shares of the tokens; not for gpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-times", action="store_true", help="only memory")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, where its name is not known here")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    asked = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    device = torch.cuda.get_device_name() if asked.case == "gpu" and torch.cuda.is_available() else "CPU, fp32"
    if asked.case == "gpu":
        head, rows = GPU_COLUMNS, on_gpu(asked)
    else:
        rounds = 0 if asked.no_times else asked.rounds
        settings = cpu_cases(asked)
        head, rows = columns(rounds), [row for sides in settings for row in on_cpu(sides, rounds)]
        device += f", {torch.get_num_threads()} threads, {settings[0][0].tokens} tokens"
    title = f"{asked.case}{' (quick)' if asked.quick else ''}: {device}, torch {torch.__version__}"
    result(markdown(title, head, rows))
    if asked.out:
        asked.out.write_text(markdown(title, head, rows), encoding="utf-8")


if __name__ == "__main__":
    command(main)()
