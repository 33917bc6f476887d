"""Mapping of tensor names and shapes between a release and this project. No tensor's content is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.convert.names import EMBEDDING, HEAD, Kind, matching
from trainer.convert.read import Shape
from varyforge.errors import UserError


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor of the source or a range of its rows."""

    name: str
    rows: tuple[int, int] | None = None  # from, to; None: all


@dataclass(slots=True)
class Mapped:
    """The target of every tensor of a source."""

    pieces: dict[str, tuple[Piece, ...]] = field(default_factory=dict)  # target → source pieces to stack
    shapes: dict[str, Shape] = field(default_factory=dict)  # of the targets
    equal: tuple[str, str] | None = None  # two source tensors that must be equal, because one is dropped
    ignored: list[str] = field(default_factory=list)  # obsolete buffers
    dropped: Counter[str] = field(default_factory=Counter)  # module → tensors
    unexpected: list[str] = field(default_factory=list)  # names that no rule knows


def to_ours(kind: Kind, shapes: Mapping[str, Shape], *, tied: bool, source: str) -> Mapped:
    """Map a released checkpoint to this project's names. UserError if a stacked tensor cannot be split.

    A tied output layer is mapped once, as the embeddings.
    """
    mapped = Mapped()
    for name, shape in shapes.items():
        module = next((module for pattern, module in kind.dropped.items() if matching(pattern, name) is not None), None)
        ours = kind.to_ours(name)
        if any(matching(pattern, name) is not None for pattern in kind.ignored):
            mapped.ignored.append(name)
        elif module is not None:
            mapped.dropped[module] += 1
        elif ours is None:
            mapped.unexpected.append(name)
        else:
            _split(mapped, name, shape, ours, source)
    if tied and kind.language is not None and HEAD in mapped.pieces:
        embedding, (head,) = EMBEDDING[kind.language], mapped.pieces.pop(HEAD)
        shape = mapped.shapes.pop(HEAD)
        if embedding in mapped.pieces:
            mapped.equal = (mapped.pieces[embedding][0].name, head.name)
        mapped.pieces.setdefault(embedding, (head,))
        mapped.shapes.setdefault(embedding, shape)
    return mapped


def to_released(kind: Kind, shapes: Mapping[str, Shape], source: str) -> Mapped:
    """Map a model of this project to the names of a release. A tied output layer is mapped to both of its names.

    Raises:
        UserError: of the tensors that the release stacks, one is missing or differs in shape from the others.
    """
    mapped = Mapped()
    for name in shapes:
        released = kind.to_released(name)
        if released is None:
            mapped.unexpected.append(name)
        elif released not in mapped.pieces:
            ours = kind.to_ours(released) or ()
            if missing := [part for part in ours if part not in shapes]:
                raise UserError(f"{source}: lacks {missing[0]}, a part of the release's {released}")
            if len({shapes[part] for part in ours}) > 1:
                text = ", ".join(f"{part} {shapes[part]}" for part in ours)
                raise UserError(f"{source}: the release's {released} is parts of one shape, found {text}")
            mapped.pieces[released] = tuple(Piece(part) for part in ours)
            shape = shapes[ours[0]]
            mapped.shapes[released] = (len(ours) * shape[0], *shape[1:]) if len(ours) > 1 else shape
    head = kind.to_released(HEAD)
    if kind.language is not None and head is not None and HEAD not in shapes:
        embedding = EMBEDDING[kind.language]
        mapped.pieces[head], mapped.shapes[head] = (Piece(embedding),), shapes[embedding]
    return mapped


def _split(mapped: Mapped, name: str, shape: Shape, ours: tuple[str, ...], source: str) -> None:
    if len(ours) == 1:
        mapped.pieces[ours[0]], mapped.shapes[ours[0]] = (Piece(name),), shape
        return
    if not shape or shape[0] % len(ours):
        raise UserError(
            f"{source}: {name} has shape {shape}, expected {len(ours)} equal parts along its first dimension"
        )
    rows = shape[0] // len(ours)
    for number, part in enumerate(ours):
        mapped.pieces[part] = (Piece(name, (number * rows, (number + 1) * rows)),)
        mapped.shapes[part] = (rows, *shape[1:])
