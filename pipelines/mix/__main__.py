"""Describe a mixture, write its samples as a shard set, or list the samples of optimiser steps."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from datagen.card.card import write_card
from datagen.cli import show_summary
from pipelines.mix.report import MixtureFile, read_mixture_file, report_on
from pipelines.mix.show import show
from pipelines.mix.write import WriteSettings, write_mixture
from trainer.data.catalog import Item
from trainer.images.sizes import PlannedImage
from varyforge.commands import program
from varyforge.console import result, warn
from varyforge.errors import UserError, command
from varyforge.lengths import IMAGE_TOKENS

_EXAMPLES = """examples:
  python -m pipelines.mix show recipes/mixtures/toy_pretrain.yaml --global-batch 512
  python -m pipelines.mix show recipes/toy_pretrain.yaml data.mixture.sources.docvqa.repeat=times --measure 100
  python -m pipelines.mix write recipes/mixtures/toy_pretrain.yaml --out shards/toy_pretrain --epochs 2
  python -m pipelines.mix step recipes/toy_pretrain.yaml 120          samples of step 120 of the log
  python -m pipelines.mix step recipes/toy_pretrain.yaml 118:120 --ranks 4

FILE is a mixture or a training recipe, whose data.mixture is used. docs/mixtures.md has the details."""

_STEPS = re.compile(r"([0-9]+)(?::([0-9]+))?")
_STEP_COLUMNS = ("step", "position", "source", "key", "task", "shard", "offset")


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    command_line = argparse.ArgumentParser(
        prog=program("pipelines.mix"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    verbs = command_line.add_subparsers(dest="verb", required=True)
    _add_show(verbs.add_parser("show", help="print samples, repeats, languages, lengths, truncation, steps"))
    _add_write(verbs.add_parser("write", help="write the samples in their order as a shard set"))
    _add_step(verbs.add_parser("step", help="list the samples of optimiser steps, from the recipe alone"))
    return command_line


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line, in which settings may follow options."""
    command_line = parser()
    arguments, more = command_line.parse_known_args(words)
    if wrong := [word for word in more if word.startswith("-")]:
        command_line.error(f"unrecognized arguments: {' '.join(wrong)}")
    arguments.overrides += more
    return arguments


def _add_file(verb: argparse.ArgumentParser, kind: str) -> None:
    verb.add_argument("file", metavar="FILE", type=Path, help=kind)


def _add_overrides(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for the trainer")


def _add_image_tokens(verb: argparse.ArgumentParser, purpose: str = "") -> None:
    text = f"tokens of an image with its start and end{purpose} (default: the recipe's model's, else {IMAGE_TOKENS})"
    verb.add_argument("--image-tokens", type=_positive, metavar="N", help=text)


def _add_show(verb: argparse.ArgumentParser) -> None:
    _add_file(verb, "mixture or training recipe")
    _add_overrides(verb)
    verb.add_argument("--global-batch", type=_positive, metavar="N", help="samples per step (default: the recipe's)")
    verb.add_argument("--max-length", type=_positive, metavar="N", help="tokens (default: the recipe's, else 4096)")
    _add_image_tokens(verb)
    text = "read and tokenise N samples of each source (needs a recipe)"
    verb.add_argument("--measure", type=_positive, metavar="N", default=0, help=text)
    verb.add_argument("--json", action="store_true", help="print JSON instead of tables")


def _add_write(verb: argparse.ArgumentParser) -> None:
    _add_file(verb, "mixture or training recipe")
    _add_overrides(verb)
    settings = WriteSettings()
    verb.add_argument("--out", required=True, help="folder or URL of the shard set; a stopped run is resumed there")
    verb.add_argument("--epochs", type=_positive, default=settings.epochs, help="%(default)s")
    verb.add_argument("--samples-per-shard", type=_positive, default=settings.samples_per_shard, help="%(default)s")
    verb.add_argument("--workers", type=_positive, help="threads, each writing one shard (default: one per CPU)")
    verb.add_argument("--retry", action="store_true", help="write again the shards with unreadable samples")


def _add_step(verb: argparse.ArgumentParser) -> None:
    _add_file(verb, "training recipe")
    verb.add_argument("steps", metavar="STEP", type=_steps, help="number of a step in the log, from 1, or FIRST:LAST")
    _add_overrides(verb)
    verb.add_argument("--ranks", type=_positive, metavar="R", help="also print which of R ranks trains on a sample")
    _add_image_tokens(verb, ", on which the ranks depend")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _steps(text: str) -> range:
    match = _STEPS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last:
        raise argparse.ArgumentTypeError(f"{text!r} is no step of 1 or more, and no FIRST:LAST")
    return range(first, last + 1)


def _show(arguments: argparse.Namespace) -> int:
    report = report_on(
        read_mixture_file(arguments.file, arguments.overrides),
        global_batch=arguments.global_batch,
        max_length=arguments.max_length,
        image_tokens=arguments.image_tokens,
        measure=arguments.measure,
    )
    if arguments.json:
        result(json.dumps(asdict(report), indent=2, ensure_ascii=False))
    else:
        show(report)
    return 0


def _write(arguments: argparse.Namespace) -> int:
    mixture_file = read_mixture_file(arguments.file, arguments.overrides)
    settings = WriteSettings(
        epochs=arguments.epochs, samples_per_shard=arguments.samples_per_shard, retry=arguments.retry
    )
    workers = arguments.workers or len(os.sched_getaffinity(0))
    summary = write_mixture(mixture_file.corpus(), mixture_file.data.mixture, arguments.out, settings, workers=workers)
    show_summary(arguments.out, summary, write_card(arguments.out).contents)
    if failed := summary.by_outcome["failed"]:
        warn(f"{failed} samples could not be read and are left out; add --retry to read them again")
    return 0 if summary.samples else 1


def step_rows(
    mixture_file: MixtureFile, steps: range, *, ranks: int | None = None, image_tokens: int | None = None
) -> Iterator[tuple[object, ...]]:
    """Yield the `_STEP_COLUMNS` of the samples of optimiser steps in order of position, and with `ranks` the rank.

    Steps are numbered as in the log: step 1 has the positions 0 to global batch - 1. `image_tokens` (None: the model's)
    includes an image's start and end, and counts for the cost by which samples are shared out.

    Raises:
        UserError: the file is no training recipe, or has fewer steps.
    """
    if mixture_file.global_batch is None:
        raise UserError(f"{mixture_file.file}: a mixture has no steps; give a training recipe")
    corpus, size = mixture_file.corpus(), mixture_file.global_batch
    last = corpus.mixture.per_epoch * mixture_file.data.epochs // size
    if steps[-1] > last:
        raise UserError(f"{mixture_file.file}: step {steps[-1]} is beyond the last one, {last} (data.epochs)")
    image = mixture_file.image(image_tokens) if ranks else None
    for step in steps:
        positions = range((step - 1) * size, step * size)
        items = corpus.items(positions)
        rank_of = _rank_of(items, image, mixture_file.data.max_length, ranks) if ranks and image else {}
        for number, (position, item) in enumerate(zip(positions, items, strict=True)):
            key, tar = corpus.key(position), f"{item.place}/{item.shard}"
            row = (step, position, item.source, key, item.task, tar, item.offset)
            yield (*row, rank_of[number]) if ranks else row


def _rank_of(items: Sequence[Item], image: PlannedImage, max_length: int, ranks: int) -> dict[int, int]:
    """Return the rank of each sample of a step, by the sample's number in the step."""
    from trainer.loader.packing import cost, share_out  # noqa: PLC0415  # imports torch: seconds

    costs = [cost(*image.sample_size(item.tokens, item.images, max_length)) for item in items]
    return {sample: rank for rank, share in enumerate(share_out(costs, ranks)) for sample in share}


def _step(arguments: argparse.Namespace) -> int:
    columns = (*_STEP_COLUMNS, "rank") if arguments.ranks else _STEP_COLUMNS
    mixture_file = read_mixture_file(arguments.file, arguments.overrides)
    rows = step_rows(mixture_file, arguments.steps, ranks=arguments.ranks, image_tokens=arguments.image_tokens)
    for number, row in enumerate(rows):
        if number == 0:
            result("\t".join(columns))
        result("\t".join(map(str, row)))
    return 0


@command
def main() -> int:
    """Parse the command line and run its verb."""
    arguments = parse()
    return {"show": _show, "write": _write, "step": _step}[arguments.verb](arguments)


if __name__ == "__main__":
    main()
