"""Conversion of a released checkpoint to the format of `trainer.exported.export_model`, or to a part of this format.

DST/model.safetensors   tensors under this project's names, with the source's types and bytes
DST/recipe.yaml         for a whole model: the recipe that assembles the model, and of a stage that continues from it
DST/part.yaml           for a part: its settings for a recipe (`base: DST/part.yaml` there)
DST/tokenizer/          the source's tokenizer, if there is one
DST/release/            the source's other small files, for the conversion back
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.convert.mapping import to_ours
from trainer.convert.names import EMBEDDING, RELEASE_FILES, RELEASED, kind_of
from trainer.convert.parts import parts_of
from trainer.convert.read import Checkpoint
from trainer.convert.tokenizer import released_tokenizer
from trainer.convert.write import write_safetensors
from trainer.model.positions import OPT_OFFSET, stretch_positions
from trainer.model.weights import export_header, part_of
from trainer.settings import EXPORT_FILE
from varyforge.config import to_yaml
from varyforge.errors import UserError
from varyforge.files import atomic_folder, write_text

_POSITIONS = "model.decoder.embed_positions.weight"
_SMALL_FILES = (".json", ".tiktoken", ".txt")
_SMALL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleReport:
    """The number of tensors of a module by kind."""

    module: str
    loaded: int
    missing: int
    unexpected: int
    ignored: int  # obsolete buffers, or a module that this project does not have
    random: int  # optional in the source; drawn at random when the model is built


class Import:
    """A released checkpoint that has been inspected and can be written in this project's format."""

    def __init__(self, source: Path, *, positions: int | None = None, tokenizer_folder: Path | None = None) -> None:
        """Read names and shapes, and the content of tensors that must be equal or are interpolated to `positions`.

        Raises:
            UserError: the checkpoint is of no known kind, or contradicts itself.
        """
        self.source = Checkpoint(source)
        self.kind = kind_of(self.source.shapes, str(source))
        self.positions = positions
        if positions is not None:
            self._stretch(positions)
        tied = bool(self.source.config.get("tie_word_embeddings", self.kind.tied))
        self.mapped = to_ours(self.kind, self.source.shapes, tied=tied, source=str(source))
        if self.mapped.equal is not None:
            first, second = self.mapped.equal
            if not torch.equal(self.source.read(first), self.source.read(second)):
                raise UserError(
                    f"{source}: {first} and {second} differ, and in the {self.kind.title} they are one tensor; "
                    "expected equal ones"
                )
        self.parts = parts_of(self.kind, self.mapped.shapes, self.source.config, tied=tied, source=str(source))
        self.tokenizer = released_tokenizer(tokenizer_folder or self.source.folder) if self.kind.language else None

    @property
    def reports(self) -> list[ModuleReport]:
        """The number of tensors by kind, one row per module."""
        present, expected = self.mapped.pieces.keys(), self.parts.shapes.keys()
        absent, optional = expected - present, set(self.kind.may_miss)
        columns = {
            "loaded": Counter(map(part_of, present & expected)),
            "missing": Counter(map(part_of, absent - optional)),
            "unexpected": Counter(map(part_of, [*(present - expected), *self.mapped.unexpected])),
            "ignored": Counter(map(self._part_of_buffer, self.mapped.ignored)) + self.mapped.dropped,
            "random": Counter(map(part_of, absent & optional)),
        }
        modules = dict.fromkeys(module for column in columns.values() for module in sorted(column))
        return [ModuleReport(module=m, **{sort: column[m] for sort, column in columns.items()}) for m in modules]

    def check(self) -> None:
        """Raise UserError if the source is incomplete, is not of one model, or does not fit its tokenizer."""
        present, expected = self.mapped.pieces.keys(), self.parts.shapes.keys()
        if missing := expected - present - set(self.kind.may_miss):
            raise UserError(
                f"{self.source.path}: lacks {len(missing)} tensors of the {self.kind.title}: "
                f"{self._released(missing)}; a part is taken whole or not at all"
            )
        if unexpected := [*(present - expected), *self.mapped.unexpected]:
            raise UserError(
                f"{self.source.path}: has {len(unexpected)} tensors that the {self.kind.title} of these sizes does not "
                f"have: {self._released(unexpected)}; without them it would compute something else"
            )
        for name, correct in self.parts.shapes.items():
            shape = self.mapped.shapes.get(name, correct)
            if shape != correct:
                pieces = ", ".join(piece.name for piece in self.mapped.pieces[name])
                raise UserError(
                    f"{self.source.path}: {pieces} has shape {shape} as {name}, expected {correct} beside the others"
                )
        if self.kind.language is not None and self.tokenizer is not None and self.kind.whole:
            rows = self.mapped.shapes[EMBEDDING[self.kind.language]][0]
            if len(self.tokenizer) > rows:
                raise UserError(
                    f"{self.source.path}: {rows} rows of embeddings, its tokenizer has {len(self.tokenizer)} entries "
                    "with the image tokens; expected at least as many rows"
                )

    def write(self, folder: Path) -> None:
        """Write everything to `folder`, whole or not at all. UserError if `check` raises it or `folder` exists."""
        self.check()
        metadata = {"format": "pt", RELEASED: self.kind.name, **export_header(self.parts.preprocess)}
        with atomic_folder(folder) as temp:
            write_safetensors(temp / EXPORT_FILE, self.source, self.mapped, metadata)
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(temp / "tokenizer")
            if self.kind.whole:
                write_text(temp / "recipe.yaml", to_yaml(self.parts.recipe(folder)))
            else:
                text = self.parts.fragment(folder, tokenizer=self.tokenizer is not None)
                write_text(temp / "part.yaml", text)
            self._keep_small_files(temp / RELEASE_FILES)

    def _stretch(self, positions: int) -> None:
        name = next((name for name in self.source.shapes if name.endswith(_POSITIONS)), None)
        if name is None:
            raise UserError(f"{self.source.path}: --positions is for OPT, whose positions are a table; this has none")
        table = self.source.read(name)
        if positions < len(table) - OPT_OFFSET:
            raise UserError(
                f"--positions {positions}: fewer than the {len(table) - OPT_OFFSET} that {self.source.path} has; "
                "positions are never cut off"
            )
        stretched = stretch_positions(table.float(), positions)
        self.source.put(name, stretched.to(table.dtype))

    def _keep_small_files(self, folder: Path) -> None:
        if not self.source.path.is_dir():
            return
        files = [
            file
            for file in sorted(self.source.path.iterdir())
            if file.suffix in _SMALL_FILES and not file.name.endswith(".index.json")
            if file.is_file() and file.stat().st_size <= _SMALL_BYTES
        ]
        if files:
            folder.mkdir()
        for file in files:
            shutil.copyfile(file, folder / file.name)
        if self.positions is not None and self.source.config:
            config = {**self.source.config, "max_position_embeddings": self.positions}
            write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")

    def _part_of_buffer(self, name: str) -> str:
        ours = self.kind.to_ours(name)
        return part_of(ours[0]) if ours else "language"

    def _released(self, names: Iterable[str]) -> str:
        """Return the release's names of the first three of `names`."""
        known = [self.kind.to_released(name) or name for name in sorted(names)]
        return ", ".join(known[:3]) + (", …" if len(known) > 3 else "")
