"""A released checkpoint → the form that `trainer.exported.export_model` writes, or a part of it.

DST/model.safetensors   tensors under our names, in the types and with the bytes that they have in the source
DST/recipe.yaml         of a whole model: what assembles it, and a stage that goes on from it
DST/part.yaml           of a part: what a recipe says of it (`base: DST/part.yaml` there)
DST/tokenizer/          where the source has one
DST/release/            the source's other small files, for the way back
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.convert import tokenizer
from trainer.convert.mapping import to_ours
from trainer.convert.names import EMBEDDING, kind_of
from trainer.convert.parts import parts_of
from trainer.convert.read import Checkpoint
from trainer.convert.write import write_safetensors
from trainer.model.positions import OPT_OFFSET, stretch_positions
from trainer.model.weights import export_header, part_of
from trainer.settings import EXPORT_FILE
from varyforge.config import to_yaml
from varyforge.errors import UserError
from varyforge.files import atomic_folder, write_text

RELEASED = "released"
"""Key in the metadata of an imported model's file: the kind of checkpoint that it was."""
RELEASE_FILES = "release"
"""Folder in an imported model: what else lay beside the weights."""

_POSITIONS = "model.decoder.embed_positions.weight"
_KEPT = (".json", ".tiktoken", ".txt")
_KEPT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleReport:
    """How many tensors of a module there are of each sort."""

    module: str
    loaded: int
    missing: int
    unexpected: int
    ignored: int  # stale buffers, or a module that nothing here has
    random: int  # that the source may lack; they are drawn when the model is built


class Import:
    """A released checkpoint, looked at and not yet written."""

    def __init__(self, source: Path, *, positions: int | None = None, tokenizer_folder: Path | None = None) -> None:
        """Reads names and shapes; contents only of tensors that must be equal, or that are interpolated.

        `positions`: stretch OPT's table to so many. `tokenizer_folder`: in place of the source's own.

        Raises:
            UserError: not a checkpoint of a known kind, or it contradicts itself.
        """
        self.source = Checkpoint(source)
        self.kind = kind_of(self.source.shapes, str(source))
        self.positions = positions
        if positions is not None:
            self._stretch(positions)
        tied = bool(self.source.config.get("tie_word_embeddings", self.kind.tied))
        self.mapped = to_ours(self.kind, self.source.shapes, tied=tied, source=str(source))
        self._check_tie()
        self.parts = parts_of(self.kind, self.mapped.shapes, self.source.config, tied=tied, source=str(source))
        self.tokenizer = tokenizer.load(tokenizer_folder or self.source.folder) if self.kind.language else None

    @property
    def reports(self) -> list[ModuleReport]:
        """One row per module."""
        found, expected = self.mapped.pieces.keys(), self.parts.shapes.keys()
        absent, optional = expected - found, set(self.kind.may_miss)
        columns = {
            "loaded": Counter(map(part_of, found & expected)),
            "missing": Counter(map(part_of, absent - optional)),
            "unexpected": Counter(map(part_of, [*(found - expected), *self.mapped.unexpected])),
            "ignored": Counter(map(self._part_of_buffer, self.mapped.ignored)) + self.mapped.dropped,
            "random": Counter(map(part_of, absent & optional)),
        }
        modules = dict.fromkeys(module for column in columns.values() for module in sorted(column))
        return [ModuleReport(module=m, **{sort: column[m] for sort, column in columns.items()}) for m in modules]

    @property
    def dtypes(self) -> list[str]:
        """Types of the tensors that are taken, by safetensors' names."""
        return sorted({self.source.dtypes[piece.name] for pieces in self.mapped.pieces.values() for piece in pieces})

    def check(self) -> None:
        """UserError when the source is not whole, is not of one model, or does not fit its tokenizer."""
        found, expected = self.mapped.pieces.keys(), self.parts.shapes.keys()
        if missing := expected - found - set(self.kind.may_miss):
            raise UserError(
                f"{self.source.path}: lacks {len(missing)} tensors of the {self.kind.title}: "
                f"{self._released(missing)}; a part is taken whole or not at all"
            )
        if unexpected := [*(found - expected), *self.mapped.unexpected]:
            raise UserError(
                f"{self.source.path}: has {len(unexpected)} tensors that the {self.kind.title} of these sizes does not "
                f"have: {self._released(unexpected)}; without them it would compute something else"
            )
        self._check_shapes()
        if self.kind.language is not None and self.tokenizer is not None and self.kind.whole:
            rows = self.mapped.shapes[EMBEDDING[self.kind.language]][0]
            if len(self.tokenizer) > rows:
                raise UserError(
                    f"{self.source.path}: {rows} rows of embeddings, its tokenizer has {len(self.tokenizer)} entries "
                    "with the image tokens; expected at least as many rows"
                )

    def write(self, folder: Path) -> None:
        """Writes everything to a new folder, whole or not at all.

        Raises:
            UserError: `check` says so, or there is something already.
        """
        self.check()
        metadata = {"format": "pt", RELEASED: self.kind.name, **export_header(self.parts.preprocess)}
        with atomic_folder(folder) as temp:
            write_safetensors(temp / EXPORT_FILE, self.source, self.mapped, metadata)
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(temp / "tokenizer")
            if self.kind.whole:
                write_text(temp / "recipe.yaml", to_yaml(self.parts.recipe(folder)))
            else:
                said = self.parts.fragment(folder, tokenizer=self.tokenizer is not None)
                write_text(temp / "part.yaml", said)
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

    def _check_tie(self) -> None:
        if self.mapped.equal is None:
            return
        first, second = self.mapped.equal
        if not torch.equal(self.source.read(first), self.source.read(second)):
            raise UserError(
                f"{self.source.path}: {first} and {second} differ, and in the {self.kind.title} they are one tensor; "
                "expected equal ones"
            )

    def _check_shapes(self) -> None:
        for name, expected in self.parts.shapes.items():
            found = self.mapped.shapes.get(name, expected)
            if found != expected:
                pieces = ", ".join(piece.name for piece in self.mapped.pieces[name])
                raise UserError(
                    f"{self.source.path}: {pieces} has shape {found} as {name}, expected {expected} beside the others"
                )

    def _keep_small_files(self, folder: Path) -> None:
        if not self.source.path.is_dir():
            return
        kept = [
            file
            for file in sorted(self.source.path.iterdir())
            if file.suffix in _KEPT and not file.name.endswith(".index.json")
            if file.is_file() and file.stat().st_size <= _KEPT_BYTES
        ]
        if kept:
            folder.mkdir()
        for file in kept:
            shutil.copyfile(file, folder / file.name)
        if self.positions is not None and self.source.config:
            config = {**self.source.config, "max_position_embeddings": self.positions}
            write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")

    def _part_of_buffer(self, name: str) -> str:
        ours = self.kind.to_ours(name)
        return part_of(ours[0]) if ours else "language"

    def _released(self, names: Iterable[str]) -> str:
        """The first of our names as the release calls them."""
        known = [self.kind.to_released(name) or name for name in sorted(names)]
        return ", ".join(known[:3]) + (", …" if len(known) > 3 else "")
