"""Floating-point dtypes by name. No other module names one; code elsewhere takes the dtype of a tensor."""

from __future__ import annotations

import torch

from varyforge.errors import UserError

_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str) -> torch.dtype:
    """Return the torch dtype of a recipe's `engine.precision`. UserError lists the valid names."""
    if precision not in _DTYPES:
        raise UserError(f"precision: found {precision!r}, expected one of {', '.join(_DTYPES)}")
    return _DTYPES[precision]
