"""OPT's learned table of positions, and its interpolation to more positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

OPT_OFFSET = 2
"""Number of rows at the head of OPT's table that are not positions. One of them is for padding."""


def stretch_positions(table: Tensor, positions: int) -> Tensor:
    """Interpolate OPT's (OPT_OFFSET + P, H) table of positions linearly to (OPT_OFFSET + positions, H).

    The rows that are not positions stay, and so do the first and the last position. The paper says "interpolated to
    4096" (Vary, arXiv 2312.06109, section 4) without naming a method.
    """
    columns = table[OPT_OFFSET:].T[None]  # (1, H, P): interpolation runs over the last axis
    stretched = F.interpolate(columns, size=positions, mode="linear", align_corners=True)[0].T
    return torch.cat([table[:OPT_OFFSET], stretched])
