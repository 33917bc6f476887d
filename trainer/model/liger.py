"""Liger's fused Triton kernels (arXiv 2410.10989) for RMSNorm, SwiGLU and rotary positions.

The package is an extra, `pip install varyforge[liger]`. Training works in the same way without it.

Tests check which of Liger's functions are called. The project has not run the kernels, which need a CUDA device.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import torch
from transformers import PreTrainedModel

_PACKAGE = "liger_kernel"
_ARCHITECTURES = ("llama", "mistral", "qwen2")
_CAPABILITY = (8, 0)  # Ampere; Triton supports nothing older (README of triton-lang/triton, "Compatibility")


def apply_liger(model: PreTrainedModel) -> bool:
    """Replace a language model's functions by Liger's kernels, in place. Return whether it was done.

    This needs the package, a CUDA device that Triton supports, and one of the architectures Llama, Mistral and Qwen2.
    The kernels compute the same functions. Liger's loss is not used, because loss.py has its own.
    """
    supported = torch.cuda.is_available() and torch.cuda.get_device_capability() >= _CAPABILITY
    if model.config.model_type not in _ARCHITECTURES or not supported or not _installed():
        return False
    apply = getattr(import_module(f"{_PACKAGE}.transformers"), f"apply_liger_kernel_to_{model.config.model_type}")
    apply(model=model, rope=True, rms_norm=True, swiglu=True, cross_entropy=False, fused_linear_cross_entropy=False)
    return True


def _installed() -> bool:
    try:
        return find_spec(_PACKAGE) is not None
    except ValueError:  # None in sys.modules: its import is blocked
        return False
