"""Floating-point operations of a step, counted part by part from sizes, and what they say of a machine's use.

A multiply-add is 2; only matrix products and convolutions count, as in torch's `FlopCounterMode`, with which every part
agrees to the last digit (tests/trainer/test_flops.py). Forward, for T tokens:

- linear layer: `2·T·in·out`. So a layer of a language model with H hidden, F in its MLP, A heads and K of them for keys
  and values, of D channels, is `2·T·(2·H·A·D + 2·H·K·D + 3·H·F)` in Qwen2, Llama and Mistral, whose MLP is gated, and
  `2·T·(4·H² + 2·H·F)` in OPT. The head is `2·H·V` per supervised token: no other logits are needed.
- attention: `4·T²·A·D` a layer and sample, so a packed row costs the sum of its samples' squares. Counted dense, also
  above the diagonal, as PaLM (arXiv 2204.02311, appendix B) and torch's counter do. A causal kernel needs half of it;
  attention is a part of its own here, so that the stricter figure can be had.
- SAM: `SamEncoder.flops`. Other encoders and the connectors are counted by torch's counter on the meta device.

A training step has 1 × a part's forward FLOPs where the part is frozen and nothing before it trains, 2 × where it is
frozen and the gradient has to pass through to what trains before it (attention 3 ×: both factors of its products have
one), 3 × where it trains; 1 × more where activations are computed again. That is a little too much: the first layer
that trains needs no gradient of its inputs (0.1 % of a Vary-tiny+ step), and torch computes a block again only up to
its last product.

    MFU = model FLOPs ÷ (seconds × peak FLOP/s), model FLOPs without what is computed again
    HFU = hardware FLOPs ÷ (seconds × peak FLOP/s), with it

Both are about the model's arithmetic, not a kernel's: that SAM's relative positions ride in longer queries and keys,
that a row is padded, that logits are made for a prompt, is no useful work.
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
    """One part's share of a training step."""

    part: str  # as in the model: encoders.<name>, connectors.<name>, language; language.attention, language.head
    forward: int  # FLOPs of all images or tokens of the step
    passes: int  # 1 forward, 1 more with the gradient of its inputs, 1 more with that of its weights
    recomputed: bool = False  # the backward pass computes it again from each block's input

    @property
    def model(self) -> int:
        """FLOPs that the step needs: what MFU is about."""
        return self.forward * self.passes

    @property
    def hardware(self) -> int:
        """FLOPs that are computed, activations made again included: what HFU is about."""
        return self.model + self.recomputed * self.forward


_WITHOUT_WEIGHTS = {"language.attention"}  # products of activations: both factors have a gradient, whatever is frozen
_NEVER_AGAIN = {"language.head"}  # gradient checkpointing is for layers

Counted = tuple[str, nn.Module, int]
"""A part's name, the module that trains or not, and its forward FLOPs of all images or tokens."""


def in_turn(parts: Sequence[Counted], *, behind_trained: bool = False) -> list[PartFlops]:
    """Each part takes what the one before it gives; the first, what has a gradient if it stands `behind_trained`."""
    made = []
    for part, module, forward in parts:
        trains = any(parameter.requires_grad for parameter in module.parameters())
        passes = 3 if trains or (behind_trained and part in _WITHOUT_WEIGHTS) else 2 if behind_trained else 1
        again = passes > 1 and part not in _NEVER_AGAIN and is_recomputed(module)
        made.append(PartFlops(part=part, forward=forward, passes=passes, recomputed=again))
        behind_trained = passes > 1
    return made


def counted(module: nn.Module, shape: Sequence[int]) -> tuple[int, Sequence[int]]:
    """FLOPs of `module` applied to a tensor of this shape, by torch's counter, and the shape of what comes out.

    Nothing is computed: parameters and buffers have stand-ins on the meta device. The module may be of any size and on
    any device.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)
    stand_ins: dict[str, Tensor] = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    x = torch.empty(*shape, dtype=dtype, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        y: Tensor = functional_call(module, stand_ins, (x,))
    return int(counter.get_total_flops()), y.shape
