"""Connectors map an encoder's tokens to the width that the fusion or the language model takes.

Each encoder has a connector. Another one may follow the fusion (`model.projector`).

Shape legend: V views of all images, P tokens of a view, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from trainer.images.sizes import ViewTokens, is_count
from trainer.model.perceiver import Perceiver
from trainer.model.tables import check_keys
from varyforge.errors import UserError

Config = Mapping[str, Any]
Connected = tuple[nn.Module, ViewTokens]
Connect = Callable[[Config, int, int, ViewTokens], Connected]
"""A function of (config, input channels, output channels, input tokens) that returns a module and its output tokens.

The module maps (V, P, input channels) to (V, output tokens, output channels). The function raises UserError for an
unknown key and for sizes that do not fit.
"""


def linear(config: Config, width_in: int, width_out: int, view: ViewTokens) -> Connected:
    """Build one linear layer, applied to each token (Vary; LLaVA, arXiv 2304.08485)."""
    check_keys(config, (), "connector linear")
    return nn.Linear(width_in, width_out), view


def mlp(config: Config, width_in: int, width_out: int, view: ViewTokens) -> Connected:
    """Build `depth` linear layers, applied to each token, with the exact GELU between them.

    The default depth 2 is LLaVA-1.5's connector (arXiv 2310.03744). `activation_first` adds a GELU in front. With
    depth 1 that is the layer behind DeepSeek-VL's concatenation (arXiv 2403.05525, section 3.1).
    """
    check_keys(config, ("depth", "activation_first"), "connector mlp")
    depth, first = _whole(config, "depth", 2, "mlp"), config.get("activation_first", False)
    if not isinstance(first, bool):
        raise UserError(f"connector mlp: activation_first {first!r}: expected true or false")
    return nn.Sequential(*[nn.GELU()] * first, *_layers(depth, width_in, width_out)), view


def pixel_shuffle(config: Config, width_in: int, width_out: int, view: ViewTokens) -> Connected:
    """Build a module that concatenates `factor` × `factor` tokens (default 2 × 2) into one, followed by an `mlp`.

    The default depth 1 is Idefics3's connector (arXiv 2408.12637). Depth 2 is InternVL's (arXiv 2404.16821) without its
    first norm.
    """
    check_keys(config, ("factor", "depth"), "connector pixel_shuffle")
    factor, depth = (_whole(config, key, default, "pixel_shuffle") for key, default in (("factor", 2), ("depth", 1)))
    if view.grid is None:
        raise UserError(f"connector pixel_shuffle: tokens must stand in rows and columns, found {view} without")
    rows, columns = view.grid
    if rows % factor or columns % factor:
        raise UserError(f"connector pixel_shuffle: {rows}x{columns} tokens are not a multiple of factor {factor}")
    grid = rows // factor, columns // factor
    layers = _layers(depth, width_in * factor**2, width_out)
    return nn.Sequential(SpaceToDepth(view.grid, factor), *layers), ViewTokens(grid[0] * grid[1], grid)


def perceiver(config: Config, width_in: int, width_out: int, view: ViewTokens) -> Connected:
    """Build a `Perceiver` and a linear layer. Its `queries` tokens (default 64) have no rows and columns."""
    check_keys(config, ("queries", "depth", "heads"), "connector perceiver")
    sizes = {"queries": 64, "depth": 3, "heads": 16}
    queries, depth, heads = (_whole(config, key, default, "perceiver") for key, default in sizes.items())
    if width_in % heads:
        raise UserError(f"connector perceiver: {width_in} channels are not a multiple of heads {heads}")
    resampler = Perceiver(width_in, queries=queries, depth=depth, heads=heads)
    return nn.Sequential(resampler, nn.Linear(width_in, width_out)), ViewTokens(queries)


class SpaceToDepth(nn.Module):
    """A module that maps (V, P, D) of a grid to (V, P / factor², D × factor²).

    Channels are ordered by the row in the square, then the column, then D. Idefics3 and InternVL call it "pixel
    shuffle"; the order is not that of `torch.nn.PixelUnshuffle`.
    """

    def __init__(self, grid: tuple[int, int], factor: int) -> None:
        super().__init__()
        self.grid = grid
        self.factor = factor

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (V, P / factor², D × factor²)."""
        views, _, width = tokens.shape
        (rows, columns), factor = self.grid, self.factor
        squares = tokens.view(views, rows // factor, factor, columns // factor, factor, width).transpose(2, 3)
        return squares.reshape(views, (rows // factor) * (columns // factor), factor**2 * width)


def _layers(depth: int, width_in: int, width_out: int) -> list[nn.Module]:
    """Return `depth` linear layers with a GELU between each two."""
    layers: list[nn.Module] = [nn.Linear(width_in, width_out)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(width_out, width_out)]
    return layers


def _whole(config: Config, key: str, default: int, name: str) -> int:
    value: int = config.get(key, default)
    if not is_count(value):
        raise UserError(f"connector {name}: {key} {value!r}: expected a whole number of 1 or more")
    return value


CONNECTORS: dict[str, Connect] = {
    "linear": linear,
    "mlp": mlp,
    "pixel_shuffle": pixel_shuffle,
    "perceiver": perceiver,
}
