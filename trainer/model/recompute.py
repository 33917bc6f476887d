"""What the backward pass makes again: a block from its input, or an activation from others that are kept anyway."""

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
    """`block(x)`, of which only `x` is kept; the rest is computed again in the backward pass."""

    def run(x: Tensor) -> Tensor:
        token = _in_block.set(True)  # here, because the backward pass may run it in a thread of its own
        try:
            return cast(Tensor, block(x))
        finally:
            _in_block.reset(token)

    return cast(Tensor, checkpoint(run, x, use_reentrant=False))


def is_recomputed(part: nn.Module) -> bool:
    """Whether gradient checkpointing is on anywhere in a part, by the name that it has in transformers and in SAM."""
    return any(getattr(module, "gradient_checkpointing", False) for module in part.modules())


def recompute(*recipes: tuple[Tensor, Callable[[], Tensor]]) -> AbstractContextManager[object]:
    """Within it autograd keeps each tensor's recipe in place of the tensor itself; what is not named it keeps as ever.

    The tensors are contiguous, and so is what their recipes give: an equal tensor, from what lives until the backward
    pass whether or not it is asked for. It is for what costs memory and hardly any time: norms, activation functions,
    copies. In a block that is `checkpointed` it does nothing: nothing is kept there in the first place.
    """
    if _in_block.get() or not torch.is_grad_enabled():
        return nullcontext()
    by_place = {_place(tensor): recipe for tensor, recipe in recipes}

    def pack(tensor: Tensor) -> Tensor | Callable[[], Tensor]:
        recipe, shape = by_place.get(_place(tensor)), tensor.shape
        if recipe is None or not tensor.is_contiguous():
            return tensor.detach()  # an operation may keep what it gives: with its graph, that would keep the operation
        return lambda: recipe().view(shape)

    def unpack(kept: Tensor | Callable[[], Tensor]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            return kept()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _place(tensor: Tensor) -> tuple[int, int]:
    """Equal for contiguous tensors that are views of the same memory."""
    return tensor.data_ptr(), tensor.numel()
