"""Data of `pipelines.mix show`, from the indexes and the order. Samples are read only for `measure`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datagen.card.spread import spread
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

_STEPS_PACKED = 20  # global batches, evenly spread over the epoch, whose packing is computed
_ABOVE = "data.mixture."  # the key of the mixture in a recipe
_NO_LIMIT = 1 << 30  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureFile:
    """A training recipe, or a mixture in a file of its own."""

    file: Path
    data: DataSettings
    recipe: Recipe | None

    @property
    def global_batch(self) -> int | None:
        """The number of samples per optimiser step, or None without a recipe."""
        return self.recipe.engine.global_batch_size if self.recipe else None

    def image(self, tokens: int | None = None) -> PlannedImage:
        """Return the planned size of an image in the recipe's model, else in Vary. `tokens` replaces its tokens."""
        if self.recipe is None:
            return PlannedImage(tokens or IMAGE_TOKENS, views=1)
        from trainer.assemble import planned_image  # noqa: PLC0415  # imports transformers: seconds

        planned = planned_image(self.recipe.model)
        return planned._replace(tokens=tokens or planned.tokens)

    def corpus(self) -> Corpus:
        """Open the shard sets.

        Raises:
            UserError: the trainer's, with keys as in this file.
        """
        try:
            return Corpus(self.data, open_cache(self.data))
        except UserError as error:
            if self.recipe:
                raise
            raise _in_file(self.file, error) from error


def read_mixture_file(file: Path, overrides: Sequence[str]) -> MixtureFile:
    """Read a mixture or a training recipe, which are distinguished by their keys.

    Raises:
        UserError: `varyforge.config.load` refuses the file or a setting.
    """
    if keys_of(file) & {"model", "data", "engine"}:
        recipe = load(Recipe, file, overrides)
        return MixtureFile(file=file, data=recipe.data, recipe=recipe)
    mixture = load(MixtureSettings, file, overrides)
    try:
        return MixtureFile(file=file, data=DataSettings(mixture=mixture), recipe=None)
    except ValueError as error:  # the schema's check, with the keys of a recipe
        raise _in_file(file, error) from error


def _in_file(file: Path, error: ValueError) -> UserError:
    """Return an error with the keys of a mixture file instead of a recipe's."""
    return UserError(f"{file}: {str(error).removeprefix(_ABOVE)}")


def report_on(
    mixture_file: MixtureFile,
    *,
    global_batch: int | None = None,
    max_length: int | None = None,
    image_tokens: int | None = None,
    measure: int = 0,
) -> Report:
    """Read the indexes and pass through one epoch. Read and tokenise `measure` samples of each source.

    Numbers that are None are the recipe's, else Vary's. `image_tokens` includes an image's start and end.

    Raises:
        UserError: the trainer would refuse the mixture, or samples are to be measured without a recipe.
    """
    corpus = mixture_file.corpus()
    image = mixture_file.image(image_tokens)
    limit = max_length or (mixture_file.data.max_length if mixture_file.recipe else LIMIT)
    batch = global_batch or mixture_file.global_batch
    with Progress("order", total=corpus.mixture.per_epoch, unit="position") as progress:
        walked = walk(corpus.mixture, [len(catalog) for catalog in corpus.catalogs], progress.advance)
    counts = [
        count(_columns(catalog), drawn, image_tokens=image.tokens, max_length=limit)
        for catalog, drawn in zip(corpus.catalogs, walked.drawn, strict=True)
    ]
    prefix, number = walked.deviation_at
    return Report(
        file=str(mixture_file.file),
        unit=mixture_file.data.mixture.unit,
        image_tokens=image.tokens,
        max_length=limit,
        epochs=mixture_file.data.epochs,
        global_batch=batch,
        sources=tuple(_sources(mixture_file.data.mixture, corpus, walked, counts, image.tokens)),
        all=together(counts),
        deviation=walked.deviation,
        deviation_at=(prefix, corpus.mixture.sources[number].name),
        deviation_positions=walked.deviation_positions,
        utilisation=_utilisation(corpus, batch, limit, mixture_file.data.max_images, image) if batch else None,
        measured=tuple(_measured(mixture_file, corpus, measure, limit, image.tokens)) if measure else (),
    )


def _columns(catalog: Catalog) -> Columns:
    language, licence = (_coded(catalog, name) for name in ("language", "licence"))
    numbers = (np.asarray(column, np.int64) for column in (catalog.tokens, catalog.answer_tokens, catalog.images))
    tokens, answer_tokens, images = numbers
    return Columns(tokens=tokens, answer_tokens=answer_tokens, images=images, languages=language, licences=licence)


def _coded(catalog: Catalog, name: str) -> Coded:
    """Return a column of names, all unknown if the index lacks the column."""
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
            asked=_request(of),
            asked_samples=source.asked,
            asked_supervised=of.tokens if of.tokens is not None else round(supervised * mean),
            asked_tokens=round(every * mean),
            asked_share=shares.get(source.name) if mixture.weighted else source.asked / corpus.mixture.per_epoch,
            available=len(catalog),
            held=catalog.held,
            counts=counted,
        )


def _request(source: SourceSettings) -> str:
    """Return the number of samples that a source's settings request, in words."""
    policy = {"once": "", "times": f" × {source.times}", "as_needed": f", ≤ {source.times} ×"}
    if source.weight is not None:
        amount = f"weight {source.weight:g}"
    elif source.samples is not None:
        amount = f"{source.samples:,} samples"
    elif source.tokens is not None:
        amount = f"{source.tokens:,} tokens"
    else:
        amount = "all"
    return amount + policy[source.repeat]


def asked_shares(mixture: MixtureSettings) -> dict[str, float]:
    """Return the shares, in the mixture's unit, of sources that weights of one unit determine, by flat name."""
    if not mixture.weighted:
        return {}
    total = sum(source.weight or 0 for source in mixture.used.values())
    shares: dict[str, float] = {}
    for name, source in mixture.used.items():
        share = (source.weight or 0) / total
        if source.mixture is None:
            shares[name] = share
        elif source.mixture.unit == mixture.unit:
            shares |= {f"{name}/{below}": share * part for below, part in asked_shares(source.mixture).items()}
    return shares


def _utilisation(corpus: Corpus, batch: int, max_length: int, max_images: int, image: PlannedImage) -> float | None:
    """Return the filled share of the rows of one rank's steps, from estimated sizes truncated to `max_length`.

    None: an epoch has fewer samples than a step.
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


def _measured(
    mixture_file: MixtureFile, corpus: Corpus, most: int, limit: int, image_tokens: int
) -> Iterator[Measured]:
    """Tokenise up to `most` samples of each source, evenly spread over its rows, as the trainer does."""
    if mixture_file.recipe is None:
        raise UserError(
            f"{mixture_file.file}: --measure needs a tokenizer; name a training recipe instead of the mixture"
        )
    from trainer.model.build import image_layout  # noqa: PLC0415
    from trainer.text.encode import ConversationEncoder, load_tokenizer  # noqa: PLC0415  # imports transformers: seconds

    language = mixture_file.recipe.model.language
    encoder = ConversationEncoder(
        load_tokenizer(language.tokenizer),
        template=language.template,
        layout=image_layout(mixture_file.recipe.model),
        max_length=_NO_LIMIT,
    )
    for catalog in corpus.catalogs:
        yield _measured_source(catalog, encoder, spread(len(catalog), most), limit, image_tokens)


def _measured_source(
    catalog: Catalog, encoder: ConversationEncoder, rows: Sequence[int], limit: int, image_tokens: int
) -> Measured:
    sums = dict.fromkeys(("unusable", "estimated", "real", "estimated_supervised", "real_supervised", "cut"), 0)
    for row in rows:
        item = catalog.item(row)
        try:
            encoded = encoder.encode(read_item(item))
        except (OSError, ValueError):  # `Unusable` is a ValueError
            sums["unusable"] += 1
            continue
        sums["estimated"] += item.tokens + image_tokens * item.images
        sums["real"] += len(encoded.input_ids)
        sums["estimated_supervised"] += int(catalog.answer_tokens[row])
        sums["real_supervised"] += sum(label >= 0 for label in encoded.labels)
        sums["cut"] += len(encoded.input_ids) > limit
    return Measured(name=catalog.name, samples=len(rows), **sums)
