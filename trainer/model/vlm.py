"""The model: vision encoders → connectors → joint → causal language model.

Shape legend: B rows, T tokens, N images of all rows in reading order, V views of all images, H hidden size,
M supervised tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainer.batch import IGNORE_INDEX, Batch
from trainer.images.layout import ImageLayout
from trainer.images.sizes import Size
from trainer.model.attention import Lengths
from trainer.model.chunked_encoder import encode
from trainer.model.encoders.base import VisionEncoder
from trainer.model.flops import Counted, PartFlops, counted, in_turn
from trainer.model.joint import Joint
from trainer.model.language import LanguageModel
from trainer.model.loss import token_losses
from varyforge.errors import UserError


class VisionLanguageModel(nn.Module):
    """Parts put together by a recipe; nothing in here knows which model it is.

    A part without trainable parameters is frozen: it stays in evaluation mode whatever `train` says.
    """

    def __init__(
        self,
        encoders: Mapping[str, VisionEncoder],
        connectors: Mapping[str, nn.Module],
        joint: Joint,
        language: LanguageModel,
        *,
        image_token_id: int,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.connectors = nn.ModuleDict(connectors)
        self.joint = joint
        self.language = language
        self.image_token_id = image_token_id

    @property
    def layout(self) -> ImageLayout:
        """How many image tokens the loader writes and the splice below expects."""
        return self.joint.layout

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """Training or evaluation mode for the parts that train; frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in (*self.encoders.values(), *self.connectors.values(), self.joint, self.language):
            if is_frozen(part):
                part.eval()
        return self

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The sum of the supervised tokens' cross-entropies, each of them, and the number of its sample.

        The sum is an fp32 scalar in nats, and the only one with a gradient; then (M,) fp32 and (M,) int64.
        `total.backward()` reaches every trainable parameter whatever the batch holds: without images the vision side
        gets zeros and no encoder runs; without a supervised token everything gets zeros. It may run once.
        """
        embeddings = self._embed(batch.input_ids, batch.pixels, batch.image_sizes)
        hidden = self.language.hidden_states(embeddings, batch.positions, batch.lengths)
        # Position t predicts token t + 1; no sample's first token has a label.
        rows, before = (batch.labels[:, 1:] != IGNORE_INDEX).nonzero(as_tuple=True)
        total, losses = token_losses(hidden[rows, before], self.language.head, batch.labels[rows, before + 1])
        return total, losses, batch.sample_of[rows, before + 1]

    def encode_images(self, pixels: Mapping[str, Tensor], sizes: Sequence[Size]) -> Tensor:
        """(V, S, S, 3) uint8 per encoder → (tokens of all images, H) in the language model's embedding space.

        `sizes` are those of the N images; N may be 0. Then no encoder is called, and (0, H) sends zeros to all that
        trains.
        """
        tokens = []
        for name, encoder in self.encoders.items():
            features = encode(cast(VisionEncoder, encoder), pixels[name])
            tokens.append(self.connectors[name](features.to(self.language.head.dtype)))
        joined: Tensor = self.joint(tokens, sizes)
        return joined

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixels: Mapping[str, Tensor],
        image_sizes: Sequence[Size],
        *,
        max_new_tokens: int,
        eos_id: int,
    ) -> list[list[int]]:
        """Greedy answers, one list of ids per row; it ends with the end token where the model said it.

        `input_ids` and `attention_mask` are (B, T) int64, padded on the LEFT; `pixels` and `image_sizes` as in `Batch`.
        A row ends at `eos_id`, after `max_new_tokens`, or when the language model is out of positions. The result of a
        row does not depend on the rows beside it, as long as none runs out of positions. Call in evaluation mode.
        """
        embeddings = self._embed(input_ids, pixels, image_sizes)
        ids = self.language.generate(embeddings, attention_mask, max_new_tokens=max_new_tokens, eos_id=eos_id)
        return [row[: row.index(eos_id) + 1] if eos_id in row else row for row in ids.tolist()]

    def flops(self, lengths: Lengths, *, views: int, supervised: int) -> list[PartFlops]:
        """What a training step over a batch costs, part by part in the order of the computation.

        `lengths` as in `Batch`, `views` of all images, `supervised` the tokens with a label. Works without weights, on
        the meta device.
        """
        parts: list[PartFlops] = []
        tokens = []
        for name, connector in self.connectors.items():
            encoder = cast(VisionEncoder, self.encoders[name])
            count, shape = counted(connector, (1, encoder.view.count, encoder.width))
            tokens.append(torch.empty(shape, device="meta"))
            one_side: list[Counted] = [(f"encoders.{name}", encoder, views * encoder.flops())]
            parts += in_turn([*one_side, (f"connectors.{name}", connector, views * count)])
        rest: list[Counted] = []
        if self.joint.projector is not None:
            count, _ = counted(self.joint.projector, self.joint.fusion.join(tokens).shape)
            rest.append(("joint", self.joint, views * count))
        for name, count in self.language.flops(lengths, supervised).items():
            rest.append((f"language.{name}", self.language, count))
        return parts + in_turn(rest, behind_trained=any(part.passes > 1 for part in parts))

    def _embed(self, input_ids: Tensor, pixels: Mapping[str, Tensor], sizes: Sequence[Size]) -> Tensor:
        """(B, T) ids → (B, T, H), the places that hold `image_token_id` filled with the images in reading order."""
        embeddings = self.language.embed(input_ids)
        slots = input_ids == self.image_token_id
        num_slots, num_tokens = int(slots.sum()), sum(map(self.layout.num_tokens, sizes))
        if num_slots != num_tokens:
            raise UserError(
                f"batch of {len(sizes)} images: expected {num_tokens} image tokens in its rows, found {num_slots}"
            )
        if not sizes and not self.training:
            return embeddings
        return embeddings.masked_scatter(slots[..., None], self.encode_images(pixels, sizes).to(embeddings.dtype))


def is_frozen(part: nn.Module) -> bool:
    """Whether none of a part's parameters trains."""
    return not any(parameter.requires_grad for parameter in part.parameters())
