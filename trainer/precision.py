"""Precision by name. The only module with a floating-point dtype in it; everything else asks here or follows a tensor."""

from __future__ import annotations

import torch

_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str) -> torch.dtype:
    """The torch dtype of a recipe's `engine.precision`; ValueError lists the names."""
    if precision not in _DTYPES:
        raise ValueError(f"precision: found {precision!r}, expected one of {', '.join(_DTYPES)}")
    return _DTYPES[precision]
