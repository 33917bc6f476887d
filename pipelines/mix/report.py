"""Gathers what `pipelines.mix show` says: reads indexes and walks the order; no sample, unless asked to measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datagen.card.card import spread
from pipelines.mix.count import Coded, Columns, Counts, Walk, count, together, walk
from pipelines.mix.show import Measured, Report, SourceReport
from trainer.data.cache import open_cache
from trainer.data.catalog import Catalog, read_item
from trainer.data.corpus import Corpus
from trainer.data.filters import coded
from trainer.data.mixture import sources_of
from trainer.images.sizes import PlannedImage
from trainer.settings import DataSettings, MixtureSettings, Recipe, SourceSettings
from varyforge.config import keys_of, load
from varyforge.console import Progress
from varyforge.errors import UserError
from varyforge.lengths import IMAGE_TOKENS, LIMIT

if TYPE_CHECKING:
    from trainer.text.encode import ConversationEncoder

_STEPS_PACKED = 20
"""Global batches, evenly spread over the epoch, whose packing is tried."""

_ABOVE = "data.mixture."  # what messages call a mixture's place in a recipe
_NO_LIMIT = 1 << 30  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line names: a training recipe, or a mixture alone."""

    file: Path
    data: DataSettings
    recipe: Recipe | None

    @property
    def global_batch(self) -> int | None:
        """Samples per optimiser step, where a recipe says it."""
        return self.recipe.engine.global_batch_size if self.recipe else None

    def image(self, tokens: int | None = None) -> PlannedImage:
        """What an image is taken for: in the recipe's model, or in Vary where there is no recipe; `tokens` on top."""
        if self.recipe is None:
            return PlannedImage(tokens or IMAGE_TOKENS, views=1)
        from trainer.assemble import planned_image  # noqa: PLC0415  # imports transformers: seconds

        planned = planned_image(self.recipe.model)
        return planned._replace(tokens=tokens or planned.tokens)

    def corpus(self) -> Corpus:
        """Opens the shard sets.

        Raises:
            UserError: as the trainer says it; keys are those of the file.
        """
        try:
            return Corpus(self.data, open_cache(self.data))
        except UserError as error:
            if self.recipe:
                raise
            raise _in_file(self.file, error) from error


def read_given(file: Path, overrides: Sequence[str]) -> Given:
    """Reads a mixture file or a training recipe, told apart by their keys.

    Args:
        file: YAML.
        overrides: `key=value`.

    Raises:
        UserError: as for `varyforge.config.load`.
    """
    if keys_of(file) & {"model", "data", "engine"}:
        recipe = load(Recipe, file, overrides)
        return Given(file=file, data=recipe.data, recipe=recipe)
    mixture = load(MixtureSettings, file, overrides)
    try:
        return Given(file=file, data=DataSettings(mixture=mixture), recipe=None)
    except ValueError as error:  # the schema's own check, whose keys are those of a recipe
        raise _in_file(file, error) from error


def _in_file(file: Path, error: ValueError) -> UserError:
    """What is wrong with a mixture in a file of its own, where its keys have nothing above them."""
    return UserError(f"{file}: {str(error).removeprefix(_ABOVE)}")


def report_on(
    given: Given,
    *,
    global_batch: int | None = None,
    max_length: int | None = None,
    image_tokens: int | None = None,
    measure: int = 0,
) -> Report:
    """Reads the indexes and walks one epoch.

    Args:
        given: the mixture.
        global_batch: samples per step; None: the recipe's.
        max_length: tokens per sample; None: the recipe's.
        image_tokens: of one image, its marks among them; None: as the recipe's model has it, else Vary's.
        measure: so many samples of each source are read and tokenised.

    Raises:
        UserError: what the trainer would refuse; `measure` without a recipe that names a tokenizer.
    """
    corpus = given.corpus()
    image = given.image(image_tokens)
    limit = max_length or (given.data.max_length if given.recipe else LIMIT)
    batch = global_batch or given.global_batch
    with Progress("order", total=corpus.mixture.per_epoch, unit="position") as progress:
        walked = walk(corpus.mixture, [len(catalog) for catalog in corpus.catalogs], progress.advance)
    counts = [
        count(_columns(catalog), drawn, image_tokens=image.tokens, max_length=limit)
        for catalog, drawn in zip(corpus.catalogs, walked.drawn, strict=True)
    ]
    prefix, number = walked.deviation_at
    return Report(
        file=str(given.file),
        unit=given.data.mixture.unit,
        image_tokens=image.tokens,
        max_length=limit,
        epochs=given.data.epochs,
        global_batch=batch,
        sources=tuple(_sources(given.data.mixture, corpus, walked, counts, image.tokens)),
        all=together(counts),
        deviation=walked.deviation,
        deviation_at=(prefix, corpus.mixture.sources[number].name),
        deviation_positions=walked.deviation_positions,
        utilisation=_utilisation(corpus, batch, limit, given.data.max_images, image) if batch else None,
        measured=tuple(_measured(given, corpus, measure, limit, image.tokens)) if measure else (),
    )


def _columns(catalog: Catalog) -> Columns:
    language, licence = (_coded(catalog, name) for name in ("language", "licence"))
    numbers = (np.asarray(column, np.int64) for column in (catalog.tokens, catalog.answer_tokens, catalog.images))
    tokens, answer_tokens, images = numbers
    return Columns(tokens=tokens, answer_tokens=answer_tokens, images=images, languages=language, licences=licence)


def _coded(catalog: Catalog, name: str) -> Coded:
    """A column of text; unknown throughout, where the index does not have it."""
    if name not in catalog.shards.kinds:
        return Coded(("",), np.zeros(len(catalog), np.int64))
    codes, values = coded(catalog.table([name]).column(name))
    return Coded(tuple(value or "" for value in values), codes)


def _sources(
    mixture: MixtureSettings, corpus: Corpus, walked: Walk, counts: Sequence[Counts], image_tokens: int
) -> Iterator[SourceReport]:
    shares, settings = asked_shares(mixture), sources_of(mixture)
    for source, catalog, counted in zip(corpus.mixture.sources, corpus.catalogs, counts, strict=True):
        tokens, supervised = catalog.sums
        every = tokens + image_tokens * int(catalog.images.sum(dtype=np.int64))
        mean = source.asked / len(catalog)
        of = settings[source.name]
        yield SourceReport(
            name=source.name,
            asked=_said(of),
            asked_samples=source.asked,
            asked_supervised=of.tokens if of.tokens is not None else round(supervised * mean),
            asked_tokens=round(every * mean),
            asked_share=shares.get(source.name) if mixture.weighted else source.asked / corpus.mixture.per_epoch,
            available=len(catalog),
            held=catalog.passed[0][1],
            counts=counted,
        )


def _said(source: SourceSettings) -> str:
    """What a source's settings ask for, in words."""
    policy = {"once": "", "times": f" × {source.times}", "as_needed": f", ≤ {source.times} ×"}
    if source.weight is not None:
        asked = f"weight {source.weight:g}"
    elif source.samples is not None:
        asked = f"{source.samples:,} samples"
    elif source.tokens is not None:
        asked = f"{source.tokens:,} tokens"
    else:
        asked = "all"
    return asked + policy[source.repeat]


def asked_shares(mixture: MixtureSettings) -> dict[str, float]:
    """Of the sources that only weights decide on, by flat name: their share of the mixture, in its unit."""
    if not mixture.weighted:
        return {}
    total = sum(source.weight or 0 for source in mixture.used.values())
    found: dict[str, float] = {}
    for name, source in mixture.used.items():
        share = (source.weight or 0) / total
        if source.mixture is None:
            found[name] = share
        elif source.mixture.unit == mixture.unit:
            found |= {f"{name}/{below}": share * part for below, part in asked_shares(source.mixture).items()}
    return found


def _utilisation(corpus: Corpus, batch: int, max_length: int, max_images: int, image: PlannedImage) -> float | None:
    """How full the rows of one rank's steps are, by estimated sizes, a larger sample cut as a whole row.

    None where an epoch fills no step.
    """
    from trainer.loader.packing import pack  # noqa: PLC0415  # imports torch: seconds

    steps = corpus.mixture.per_epoch // batch
    used = room = 0
    for step in spread(steps, _STEPS_PACKED):
        items = corpus.items(np.arange(step * batch, (step + 1) * batch))
        planned = (image.sample_size(item.tokens, item.images, max_length) for item in items)
        sizes = [(tokens, min(views, max_images)) for tokens, views in planned]
        used += sum(tokens for tokens, _ in sizes)
        room += len(pack(sizes, max_length=max_length, max_images=max_images)) * max_length
    return used / room if room else None


def _measured(given: Given, corpus: Corpus, most: int, limit: int, image_tokens: int) -> Iterator[Measured]:
    """Up to `most` samples of each source, evenly spread over its rows, as the trainer would tokenise them."""
    if given.recipe is None:
        raise UserError(f"{given.file}: --measure needs a tokenizer; give a training recipe in place of the mixture")
    from trainer.model.build import image_layout  # noqa: PLC0415
    from trainer.text.encode import ConversationEncoder, load_tokenizer  # noqa: PLC0415  # imports transformers: seconds

    language = given.recipe.model.language
    encoder = ConversationEncoder(
        load_tokenizer(language.tokenizer),
        template=language.template,
        layout=image_layout(given.recipe.model),
        max_length=_NO_LIMIT,
    )
    for catalog in corpus.catalogs:
        yield _measured_source(catalog, encoder, spread(len(catalog), most), limit, image_tokens)


def _measured_source(
    catalog: Catalog, encoder: ConversationEncoder, rows: Sequence[int], limit: int, image_tokens: int
) -> Measured:
    found: dict[str, int] = dict.fromkeys(("unusable", "estimated", "real", "supervised", "real_supervised", "cut"), 0)
    for row in rows:
        item = catalog.item(row)
        try:
            encoded = encoder.encode(read_item(item))
        except (OSError, ValueError):  # `Unusable` among them
            found["unusable"] += 1
            continue
        found["estimated"] += item.tokens + image_tokens * item.images
        found["real"] += len(encoded.input_ids)
        found["supervised"] += int(catalog.answer_tokens[row])
        found["real_supervised"] += sum(label >= 0 for label in encoded.labels)
        found["cut"] += len(encoded.input_ids) > limit
    return Measured(
        name=catalog.name,
        samples=len(rows),
        unusable=found["unusable"],
        estimated=found["estimated"],
        real=found["real"],
        estimated_supervised=found["supervised"],
        real_supervised=found["real_supervised"],
        cut=found["cut"],
    )
