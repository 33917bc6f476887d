"""Floating-point operations (FLOPs) of a training step by part, computed from sizes, as a base of MFU and HFU.

A multiply-add counts as 2. Only matrix products and convolutions count, as in torch's `FlopCounterMode`. Every part
agrees with that counter exactly (tests/trainer/model/test_flops.py). Forward pass, for T tokens:

- Linear layer: `2·T·in·out`. A language model's layer with H hidden channels, F in its MLP, A heads, K of them for keys
  and values, of D channels each, takes `2·T·(2·H·A·D + 2·H·K·D + 3·H·F)` in Qwen2, Llama and Mistral, whose MLP is
  gated, and `2·T·(4·H² + 2·H·F)` in OPT. The head takes `2·H·V` per supervised token. No other logits are needed.
- Attention: `4·T²·A·D` per layer and sample, so a packed row costs the sum of its samples' squares. It is counted
  dense, also above the diagonal, as in PaLM (arXiv 2204.02311, appendix B) and in torch's counter. A causal kernel
  needs half. Attention is a part of its own here, so the stricter figure can be computed.
- SAM: `SamEncoder.flops`. torch's counter counts other encoders and the connectors on the meta device.

A training step takes a part's forward FLOPs once if the part is frozen and no part before it is trained, twice if it is
frozen and a gradient passes through it (attention: three times, both factors of its products have a gradient), three
times if it is trained, and once more with gradient checkpointing. This slightly overestimates: the first trained layer
needs no gradient of its inputs (0.1 % of a Vary-tiny+ step), and torch recomputes a block only up to its last product.

    MFU = model FLOPs ÷ (seconds × peak FLOP/s), without recomputation
    HFU = hardware FLOPs ÷ (seconds × peak FLOP/s), with recomputation

Both count the model's arithmetic, not a kernel's. Padding of rows, the longer queries and keys of SAM's relative
positions, and logits of a prompt are not useful work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from trainer.model.recompute import is_recomputed


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFlops:
    """The FLOPs of one part in a training step."""

    part: str  # as in the model: encoders.<name>, connectors.<name>, language; language.attention, language.head
    forward: int  # FLOPs of all images or tokens of the step
    passes: int  # 1 forward, 1 more for the gradient of its inputs, 1 more for the gradient of its weights
    recomputed: bool = False  # the backward pass computes each block again from the block's input

    @property
    def model(self) -> int:
        """FLOPs that the step needs, which MFU is computed from."""
        return self.forward * self.passes

    @property
    def hardware(self) -> int:
        """FLOPs that are computed, recomputed activations included, which HFU is computed from."""
        return self.model + self.recomputed * self.forward


_WITHOUT_WEIGHTS = {"language.attention"}  # products of activations: both factors have a gradient, frozen or not
_NEVER_RECOMPUTED = {"language.head"}  # gradient checkpointing is for layers

Counted = tuple[str, nn.Module, int]
"""A part's name, its module, and its forward FLOPs of all images or tokens."""


def in_turn(parts: Sequence[Counted], *, behind_trained: bool = False) -> list[PartFlops]:
    """Return the step's FLOPs of parts that follow each other. `behind_trained`: the first input has a gradient."""
    counts = []
    for part, module, forward in parts:
        trains = any(parameter.requires_grad for parameter in module.parameters())
        passes = 3 if trains or (behind_trained and part in _WITHOUT_WEIGHTS) else 2 if behind_trained else 1
        again = passes > 1 and part not in _NEVER_RECOMPUTED and is_recomputed(module)
        counts.append(PartFlops(part=part, forward=forward, passes=passes, recomputed=again))
        behind_trained = passes > 1
    return counts


def counted(module: nn.Module, shape: Sequence[int]) -> tuple[int, Sequence[int]]:
    """Return the FLOPs of `module` on a tensor of this shape, by torch's counter, and the shape of the output.

    The count runs on the meta device with stand-ins for parameters and buffers, so it takes no time or memory. The
    module may be on any device.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)
    stand_ins: dict[str, Tensor] = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    x = torch.empty(*shape, dtype=dtype, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y: Tensor = functional_call(module, stand_ins, (x,))
    return int(counter.get_total_flops()), y.shape
