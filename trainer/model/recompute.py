"""Recomputation in the backward pass: of a block from its input, or of an activation from tensors saved anyway."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_in_block: ContextVar[bool] = ContextVar("in_block", default=False)


def checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    """Return `block(x)`. Only `x` is saved for the backward pass, which computes the block again."""

    def run(x: Tensor) -> Tensor:
        token = _in_block.set(True)  # inside `run`, because the backward pass may call it in another thread
        try:
            return cast(Tensor, block(x))
        finally:
            _in_block.reset(token)

    return cast(Tensor, checkpoint(run, x, use_reentrant=False))


def is_recomputed(part: nn.Module) -> bool:
    """Return whether any module of a part has `gradient_checkpointing` on, as transformers' models and SAM name it."""
    return any(getattr(module, "gradient_checkpointing", False) for module in part.modules())


def recompute(*recipes: tuple[Tensor, Callable[[], Tensor]]) -> AbstractContextManager[object]:
    """Context manager: for the given tensors autograd stores a function that recomputes the tensor, not the tensor.

    All other tensors are saved as usual. Tensors and results of their functions are contiguous and equal. A function
    may only use tensors that live until the backward pass anyway. Meant for operations that cost memory but little
    time: norms, activation functions, copies. No effect inside `checkpointed`, where nothing is saved.
    """
    if _in_block.get() or not torch.is_grad_enabled():
        return nullcontext()
    recipe_of = {_memory(tensor): recipe for tensor, recipe in recipes}

    def pack(tensor: Tensor) -> Tensor | Callable[[], Tensor]:
        recipe, shape = recipe_of.get(_memory(tensor)), tensor.shape
        if recipe is None or not tensor.is_contiguous():
            return tensor.detach()  # an operation may save its own output, whose graph would keep the operation alive
        return lambda: recipe().view(shape)

    def unpack(saved: Tensor | Callable[[], Tensor]) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        with torch.no_grad():
            return saved()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _memory(tensor: Tensor) -> tuple[int, int]:
    """Return a key that is equal for contiguous views of the same memory."""
    return tensor.data_ptr(), tensor.numel()
