"""Activations that the backward pass makes again from others that are kept anyway."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def rebuilt(*recipes: tuple[Tensor, Callable[[], Tensor]], active: bool = True) -> AbstractContextManager[object]:
    """Within it autograd keeps each tensor's recipe in place of the tensor itself; what is not named it keeps as ever.

    A recipe gives an equal tensor, without gradient, from what lives until the backward pass whether or not it is asked
    for. It is for what costs memory and hardly any time: norms, activation functions, copies. Not `active` under
    `torch.utils.checkpoint`, which keeps nothing in the first place and of which this would take over the bookkeeping.
    """
    if not (active and torch.is_grad_enabled()):
        return nullcontext()
    by_place = {_place(tensor): recipe for tensor, recipe in recipes}

    def pack(tensor: Tensor) -> Tensor | Callable[[], Tensor]:
        return by_place.get(_place(tensor), tensor)

    def unpack(kept: Tensor | Callable[[], Tensor]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        with torch.no_grad():
            return kept()

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


def _place(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two objects that show the same memory in the same way."""
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
