"""Conversion of a model in this project's format to the names of a release, for the release's own code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.convert.mapping import to_released
from trainer.convert.names import HEAD, KINDS, RELEASE_FILES, RELEASED, Kind, kind_of_ours
from trainer.convert.parts import parts_of
from trainer.convert.read import Checkpoint, read_json
from trainer.convert.write import write_pickle, write_safetensors
from trainer.model.weights import preprocess_of_export
from trainer.settings import EXPORT_FILE, ModelSettings, Recipe
from trainer.text.chat_templates import IMAGE_END, IMAGE_PAD, IMAGE_START
from trainer.text.encode import load_tokenizer
from varyforge.config import load
from varyforge.errors import UserError
from varyforge.files import atomic_folder


class Release:
    """A model in this project's format that can be written under a release's names."""

    def __init__(self, model: Path) -> None:
        """Read names and shapes. UserError: not a model in this project's format, or an architecture of no release."""
        file = model / EXPORT_FILE
        if not file.is_file():
            raise UserError(f"{file}: no such file; give the folder of a model that was imported or trained here")
        self.model = model
        self.source = Checkpoint(file)
        imported = self.source.metadata.get(RELEASED)
        self.kind = KINDS[imported] if imported in KINDS else kind_of_ours(self.source.shapes, str(model))
        self.mapped = to_released(self.kind, self.source.shapes, str(model))
        if self.mapped.unexpected:
            raise UserError(f"{file}: the {self.kind.title} has no place for {self.mapped.unexpected[0]}")
        self.warnings: list[str] = []
        if self.kind.whole:
            settings = load(Recipe, model / "recipe.yaml").model
            _check_parts(self.kind, settings, model)
            lines = [*self._numbers(settings), *_images(self.kind, model), *self._conversations(settings)]
            self.warnings = [f"{model}: {line}" for line in lines]

    def write(self, folder: Path) -> Path:
        """Write weights and small files to `folder`, and return the weights' path. UserError if `folder` exists."""
        with atomic_folder(folder) as temp:
            if self.kind.file.endswith(".pth"):
                write_pickle(temp / self.kind.file, self.source, self.mapped, self.kind.key)
            else:
                write_safetensors(temp / self.kind.file, self.source, self.mapped, {"format": "pt"})
            beside = self.model / RELEASE_FILES
            for file in sorted(beside.iterdir()) if beside.is_dir() else ():
                shutil.copyfile(file, temp / file.name)
        return folder / self.kind.file

    def _numbers(self, settings: ModelSettings) -> Iterator[str]:
        """Yield a warning per part that the release's code, with its config.json, would compute differently."""
        file, shapes = self.model / RELEASE_FILES / "config.json", self.source.shapes
        config = read_json(file) if file.is_file() else {}
        release = parts_of(self.kind, shapes, config, tied=HEAD not in shapes, source=str(self.model))
        assert release.language is not None
        parts = {"language": (settings.language.config, release.language.config)}
        for name, part in settings.vision.items():
            parts[f"encoder {name}"] = (part.config, release.vision[name].config)
        for name, (ours, theirs) in parts.items():
            keys = [key for key in sorted(ours | theirs) if not re.search(_NO_EFFECT, key)]
            if changes := _differences({key: theirs.get(key) for key in keys}, ours):
                yield f"{name}: the {self.kind.title} computes otherwise unless its config.json says so: {changes}"

    def _conversations(self, settings: ModelSettings) -> Iterator[str]:
        """Yield warnings about texts that the release's code would format or tokenise differently."""
        template, release = settings.language.template, self.kind.template
        if template != release:
            yield f"conversations were written as {template}, the {self.kind.title}'s code writes them as {release}"
        if self.kind.image_ids and not (self.model / RELEASE_FILES).is_dir():
            tokenizer = load_tokenizer(str(self.model / "tokenizer"))
            ids = tokenizer.convert_tokens_to_ids([IMAGE_START, IMAGE_END, IMAGE_PAD])
            if ids != list(self.kind.image_ids):
                yield (
                    f"its image tokens have the ids {ids}, the {self.kind.title}'s code has {[*self.kind.image_ids]} "
                    "and another tokenizer; it will not read this model's texts"
                )


_NO_EFFECT = r"^initializer_|dropout|_token_id$|^use_cache$|^projection_dim$|^max_window_layers$|^layer_types$"
"""Keys of a part's configuration that have no effect on its outputs in inference."""


def _check_parts(kind: Kind, settings: ModelSettings, model: Path) -> None:
    """Refuse a model with the release's tensor names whose parts the release's code would join differently."""
    encoders = ", ".join(f"{name}: {part.type}" for name, part in settings.vision.items())
    expected = ", ".join(f"{name}: {family}" for name, family in kind.vision.items())
    if encoders != expected:
        raise UserError(
            f"{model / 'recipe.yaml'}: model.vision: found {encoders}, expected {expected} "
            f"in this order for the {kind.title}"
        )
    plain = [part.connector.type == "linear" for part in settings.vision.values()]
    if not all(plain) or settings.fusion != "channel" or settings.projector or settings.tiling:
        raise UserError(
            f"{model / 'recipe.yaml'}: the {kind.title} has a linear connector for each encoder, fusion channel, no "
            "projector and no tiling; this model differs"
        )


def _images(kind: Kind, model: Path) -> Iterator[str]:
    """Yield a warning per encoder whose images the release's code would preprocess differently."""
    for name, how in preprocess_of_export(str(model)).items():
        if changes := _differences(kind.preprocess[name], how.as_settings()):
            yield f"encoder {name}: the {kind.title}'s code makes its images otherwise: {changes}"


def _differences(release: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    differing = [key for key in release if _alike(ours.get(key)) != _alike(release[key])]
    return ", ".join(f"{key} {release[key]} (trained with {ours.get(key)})" for key in differing)


def _alike(value: Any) -> Any:
    """Make Pillow's bicubic filter equal to the trainer's, which differs by at most 2 of 255 levels."""
    return value.removeprefix("pillow_") if isinstance(value, str) else value
