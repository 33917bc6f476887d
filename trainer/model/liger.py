"""Liger's fused Triton kernels (arXiv 2410.10989) for RMSNorm, SwiGLU and rotary positions, where they can be had.

An extra (`pip install varyforge[liger]`) that is used where it is and missed nowhere.

The tests check which functions are asked for. The kernels themselves take a CUDA device: they have not been run by the
project.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import torch
from transformers import PreTrainedModel

_PACKAGE = "liger_kernel"
_APPLY = {"llama": "apply_liger_kernel_to_llama", "mistral": "apply_liger_kernel_to_mistral"}
_APPLY["qwen2"] = "apply_liger_kernel_to_qwen2"
_CAPABILITY = (8, 0)  # Ampere; Triton supports nothing older (README of triton-lang/triton, "Compatibility")


def apply_liger(model: PreTrainedModel) -> bool:
    """Gives a language model Liger's kernels, in place, and says whether it did.

    It does where the package is installed, a CUDA device is there that Triton supports and the architecture is one of
    Llama, Mistral and Qwen2. The kernels compute the same functions; Liger's loss is not used, `loss.py` has its
    own.
    """
    name = _APPLY.get(model.config.model_type)
    if name is None or not _supported() or not _installed():
        return False
    apply = getattr(import_module(f"{_PACKAGE}.transformers"), name)
    apply(model=model, rope=True, rms_norm=True, swiglu=True, cross_entropy=False, fused_linear_cross_entropy=False)
    return True


def _supported() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= _CAPABILITY


def _installed() -> bool:
    try:
        return find_spec(_PACKAGE) is not None
    except ValueError:  # None in sys.modules: somebody has forbidden it
        return False
