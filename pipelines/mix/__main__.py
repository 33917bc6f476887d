"""Mixtures: what one holds, its samples as shards of their own, the samples of a step."""

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
from pipelines.mix.report import Given, read_given, report_on
from pipelines.mix.show import show
from pipelines.mix.write import WriteSettings, write_mixture
from trainer.data.catalog import Item
from trainer.images.sizes import PlannedImage
from varyforge.console import result, warn
from varyforge.errors import UserError, command
from varyforge.lengths import IMAGE_TOKENS

_EXAMPLES = """examples:
  python -m pipelines.mix show recipes/mixtures/toy_pretrain.yaml --global-batch 512
  python -m pipelines.mix show recipes/toy_pretrain.yaml data.mixture.sources.docvqa.repeat=times --measure 100
  python -m pipelines.mix write recipes/mixtures/toy_pretrain.yaml --out shards/toy_pretrain --epochs 2
  python -m pipelines.mix step recipes/toy_pretrain.yaml 120          what step 120 of the log was trained on
  python -m pipelines.mix step recipes/toy_pretrain.yaml 118:120 --ranks 4

FILE is a mixture, or a training recipe, whose data.mixture is meant. See docs/mixtures.md."""

_STEPS = re.compile(r"([0-9]+)(?::([0-9]+))?")
_STEP_COLUMNS = ("step", "position", "source", "key", "task", "shard", "offset")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m pipelines.mix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    verbs = made.add_subparsers(dest="verb", required=True)
    _add_show(verbs.add_parser("show", help="asked and got, repeats, languages, lengths, what is cut, steps per epoch"))
    _add_write(verbs.add_parser("write", help="the samples in their order, as a shard set of their own"))
    _add_step(verbs.add_parser("step", help="the samples of optimiser steps, from the recipe alone"))
    return made


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; settings may stand behind options."""
    made = parser()
    arguments, more = made.parse_known_args(words)
    if wrong := [word for word in more if word.startswith("-")]:
        made.error(f"unrecognized arguments: {' '.join(wrong)}")
    arguments.overrides += more
    return arguments


def _add_file(verb: argparse.ArgumentParser, what: str) -> None:
    verb.add_argument("file", metavar="FILE", type=Path, help=what)


def _add_overrides(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, as for the trainer")


def _add_image_tokens(verb: argparse.ArgumentParser, what: str) -> None:
    what += f" (default: the recipe's model's, else {IMAGE_TOKENS})"
    verb.add_argument("--image-tokens", type=_positive, metavar="N", help=what)


def _add_show(verb: argparse.ArgumentParser) -> None:
    _add_file(verb, "mixture or training recipe")
    _add_overrides(verb)
    verb.add_argument("--global-batch", type=_positive, metavar="N", help="samples per step (default: the recipe's)")
    verb.add_argument("--max-length", type=_positive, metavar="N", help="tokens (default: the recipe's, else 4096)")
    _add_image_tokens(verb, "of one image and its marks")
    verb.add_argument(
        "--measure",
        type=_positive,
        metavar="N",
        default=0,
        help="read and tokenise N samples of each source (needs a recipe)",
    )
    verb.add_argument("--json", action="store_true", help="print the numbers as JSON instead")


def _add_write(verb: argparse.ArgumentParser) -> None:
    _add_file(verb, "mixture or training recipe")
    _add_overrides(verb)
    settings = WriteSettings()
    verb.add_argument(
        "--out", required=True, help="folder or URL of the shard set; a run that was stopped goes on there"
    )
    verb.add_argument("--epochs", type=_positive, default=settings.epochs, help="%(default)s")
    verb.add_argument("--samples-per-shard", type=_positive, default=settings.samples_per_shard, help="%(default)s")
    verb.add_argument("--workers", type=_positive, help="shards written at a time (default: one per CPU)")
    verb.add_argument(
        "--retry", action="store_true", help="write those shards again in which a sample could not be read"
    )


def _add_step(verb: argparse.ArgumentParser) -> None:
    _add_file(verb, "training recipe")
    verb.add_argument("steps", metavar="STEP", type=_steps, help="as the log counts them, from 1; or FIRST:LAST")
    _add_overrides(verb)
    verb.add_argument("--ranks", type=_positive, metavar="R", help="also say which of R ranks takes a sample")
    _add_image_tokens(verb, "of one image and its marks; the ranks depend on it")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def _steps(text: str) -> range:
    found = _STEPS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise argparse.ArgumentTypeError(f"{text!r} is no step of 1 or more, and no FIRST:LAST")
    return range(first, last + 1)


def _show(arguments: argparse.Namespace) -> int:
    report = report_on(
        read_given(arguments.file, arguments.overrides),
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
    given = read_given(arguments.file, arguments.overrides)
    settings = WriteSettings(
        epochs=arguments.epochs, samples_per_shard=arguments.samples_per_shard, retry=arguments.retry
    )
    workers = arguments.workers or len(os.sched_getaffinity(0))
    summary = write_mixture(given.corpus(), given.data.mixture, arguments.out, settings, workers=workers)
    show_summary(arguments.out, summary, write_card(arguments.out).contents)
    if failed := summary.by_outcome["failed"]:
        warn(f"{failed} samples could not be read and are left out; --retry tries them again")
    return 0 if summary.samples else 1


def step_rows(
    given: Given, steps: range, *, ranks: int | None = None, image_tokens: int | None = None
) -> Iterator[tuple[object, ...]]:
    """Where each sample of optimiser steps lies, in order of position.

    Args:
        given: a training recipe.
        steps: as the log counts them: step 1 is the first one, positions 0 to global batch - 1.
        ranks: the samples are shared out over so many; None: not at all.
        image_tokens: of one image and its marks, which say how dear a sample is to a rank; None: the model's.

    Yields:
        Values of `_STEP_COLUMNS`; the rank behind them, where asked for.

    Raises:
        UserError: no training recipe, or it has fewer steps.
    """
    if given.global_batch is None:
        raise UserError(f"{given.file}: a mixture has no steps; give a training recipe")
    corpus, size = given.corpus(), given.global_batch
    last = corpus.mixture.per_epoch * given.data.epochs // size
    if steps[-1] > last:
        raise UserError(f"{given.file}: step {steps[-1]} is beyond the last one, {last} (data.epochs)")
    image = given.image(image_tokens) if ranks else None
    for step in steps:
        positions = range((step - 1) * size, step * size)
        items = corpus.items(positions)
        rank_of = _rank_of(items, image, given.data.max_length, ranks) if ranks and image else {}
        for number, (position, item) in enumerate(zip(positions, items, strict=True)):
            key, tar = corpus.key(position), f"{item.place}/{item.shard}"
            row = (step, position, item.source, key, item.task, tar, item.offset)
            yield (*row, rank_of[number]) if ranks else row


def _rank_of(items: Sequence[Item], image: PlannedImage, max_length: int, ranks: int) -> dict[int, int]:
    """The rank that takes each sample of a step, by its place in the step."""
    from trainer.loader.packing import cost, share_out  # noqa: PLC0415  # imports torch: seconds

    costs = [cost(*image.sample_size(item.tokens, item.images, max_length)) for item in items]
    return {sample: rank for rank, share in enumerate(share_out(costs, ranks)) for sample in share}


def _step(arguments: argparse.Namespace) -> int:
    columns = (*_STEP_COLUMNS, "rank") if arguments.ranks else _STEP_COLUMNS
    given = read_given(arguments.file, arguments.overrides)
    rows = step_rows(given, arguments.steps, ranks=arguments.ranks, image_tokens=arguments.image_tokens)
    for number, row in enumerate(rows):
        if number == 0:
            result("\t".join(columns))
        result("\t".join(map(str, row)))
    return 0


@command
def main() -> int:
    """Parses the command line and does one of the three."""
    arguments = parse()
    return {"show": _show, "write": _write, "step": _step}[arguments.verb](arguments)


if __name__ == "__main__":
    main()
