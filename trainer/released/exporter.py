"""A model in this project's form → the names of a release, for the release's own code."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from datagen.config import load
from datagen.errors import UserError
from datagen.files import atomic_folder
from trainer.model.weights import preprocess_of_export
from trainer.released.importer import RELEASE_FILES, RELEASED
from trainer.released.mapping import to_released
from trainer.released.names import KINDS, Kind, kind_of_ours
from trainer.released.read import Checkpoint
from trainer.released.write import write_pickle, write_safetensors
from trainer.settings import EXPORT_FILE, Recipe


class Release:
    """A model of ours, about to be written under a release's names."""

    def __init__(self, model: Path) -> None:
        """Reads names and shapes.

        Raises:
            UserError: not a model of ours, or of no form that was released.
        """
        file = model / EXPORT_FILE
        if not file.is_file():
            raise UserError(f"{file}: no such file; give the folder of a model that was imported or trained here")
        self.model = model
        self.source = Checkpoint(file)
        before = self.source.metadata.get(RELEASED)
        self.kind = KINDS[before] if before in KINDS else kind_of_ours(self.source.shapes, str(model))
        if self.kind.whole:
            _check_parts(self.kind, load(Recipe, model / "recipe.yaml"), model)
        self.warnings = _warnings(self.kind, model) if self.kind.preprocess else []
        self.mapped = to_released(self.kind, self.source.shapes, str(model))
        if self.mapped.unexpected:
            raise UserError(f"{file}: the {self.kind.title} has no place for {self.mapped.unexpected[0]}")

    def write(self, folder: Path) -> Path:
        """Writes the release's file of weights and what lay beside it; returns that file's path.

        Raises:
            UserError: there is something already.
        """
        with atomic_folder(folder) as temp:
            if self.kind.file.endswith(".pth"):
                write_pickle(temp / self.kind.file, self.source, self.mapped, self.kind.key)
            else:
                write_safetensors(temp / self.kind.file, self.source, self.mapped, {"format": "pt"})
            beside = self.model / RELEASE_FILES
            for file in sorted(beside.iterdir()) if beside.is_dir() else ():
                shutil.copyfile(file, temp / file.name)
        return folder / self.kind.file


def _check_parts(kind: Kind, recipe: Recipe, model: Path) -> None:
    """Refuses a model with the release's names that the release's code would join in another way."""
    settings = recipe.model
    found = [(name, part.type) for name, part in settings.vision.items()]
    wanted = list(kind.vision.items())
    if found != wanted:
        raise UserError(
            f"{model / 'recipe.yaml'}: model.vision: found {_listed(found)}, expected {_listed(wanted)} in this order "
            f"for the {kind.title}"
        )
    plain = [part.connector.type == "linear" for part in settings.vision.values()]
    if not all(plain) or settings.fusion != "channel" or settings.projector or settings.tiling:
        raise UserError(
            f"{model / 'recipe.yaml'}: the {kind.title} has a linear connector for each encoder, fusion channel, no "
            "projector and no tiling; this model has not"
        )


def _warnings(kind: Kind, model: Path) -> list[str]:
    """A line for each encoder that the release's code would show other images than it was trained with."""
    lines = []
    for name, how in preprocess_of_export(str(model)).items():
        release, ours = kind.preprocess[name], how.as_settings()
        differing = [key for key in release if _alike(ours[key]) != _alike(release[key])]
        if differing:
            said = ", ".join(f"{key} {release[key]} (trained with {ours[key]})" for key in differing)
            lines.append(f"{model}: encoder {name}: the {kind.title}'s code makes its images otherwise: {said}")
    return lines


def _alike(value: Any) -> Any:
    """Pillow's own bicubic filter and ours, which differs from it by 2 of 255 levels at most, as one."""
    return value.removeprefix("pillow_") if isinstance(value, str) else value


def _listed(parts: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name}: {family}" for name, family in parts)
