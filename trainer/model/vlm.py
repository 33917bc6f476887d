"""The model: vision encoders → connectors → joint image sequence → causal language model.

Shape legend: B rows, T tokens, N images of all rows in reading order, V views of all images, H hidden size,
M supervised tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from trainer.batch import IGNORE_INDEX, Batch
from trainer.images.layout import ImageLayout
from trainer.images.sizes import Size
from trainer.model.attention import Lengths
from trainer.model.chunked_encoder import encode
from trainer.model.encoders.base import VisionEncoder
from trainer.model.flops import Counted, PartFlops, counted, in_turn
from trainer.model.joint import ImageSequence
from trainer.model.language import LanguageModel
from trainer.model.loss import token_losses
from varyforge.errors import UserError


class VisionLanguageModel(nn.Module):
    """A vision-language model made of the parts that a recipe names. No code in here depends on a particular model.

    A part without trainable parameters is frozen and stays in evaluation mode, also after `train()`.
    """

    def __init__(
        self,
        encoders: Mapping[str, VisionEncoder],
        connectors: Mapping[str, nn.Module],
        joint: ImageSequence,
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
        """The layout of images, which gives the number of image tokens to the loader and to `_embed`."""
        return self.joint.layout

    @property
    def vision(self) -> dict[str, VisionEncoder]:
        """The encoders by name, in the recipe's order."""
        return {name: cast(VisionEncoder, encoder) for name, encoder in self.encoders.items()}

    @override
    def train(self, mode: bool = True) -> VisionLanguageModel:
        super().train(mode)
        for part in (*self.encoders.values(), *self.connectors.values(), self.joint, self.language):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of the supervised tokens' losses, the M losses, and the sample of each.

        The sum is an fp32 scalar in nats, and the only result with a gradient. The losses are (M,) fp32, the numbers of
        samples (M,) int64. The sum's `backward()` may be called once and gives every trainable parameter a gradient,
        whatever the batch contains. Without images no encoder runs and the vision side gets zeros. Without a supervised
        token every parameter gets zeros.
        """
        embeddings = self._embed(batch.input_ids, batch.pixels, batch.image_sizes)
        hidden = self.language.hidden_states(embeddings, batch.positions, batch.lengths)
        # Position t predicts token t + 1. The first token of a sample has no label.
        rows, before = (batch.labels[:, 1:] != IGNORE_INDEX).nonzero(as_tuple=True)
        total, losses = token_losses(hidden[rows, before], self.language.head, batch.labels[rows, before + 1])
        return total, losses, batch.sample_of[rows, before + 1]

    def encode_images(self, pixels: Mapping[str, Tensor], sizes: Sequence[Size]) -> Tensor:
        """Map (V, S, S, 3) uint8 per encoder to (tokens of all images, H) in the language model's embedding space.

        `sizes` are those of the N images. With N = 0 no encoder is called, and the result (0, H) still gives zeros as
        gradients to all trained parameters.
        """
        tokens = []
        for name, encoder in self.vision.items():
            features = encode(encoder, pixels[name])
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
        """Return greedy answers, one list of ids per row, including the end token if the model generated it.

        `input_ids` and `attention_mask` are (B, T) int64, padded on the LEFT; `pixels` and `image_sizes` as in `Batch`.
        A row ends at `eos_id`, after `max_new_tokens`, or at the language model's last position. The result of a row
        does not depend on other rows, as long as no row runs out of positions. The model must be in evaluation mode.
        """
        embeddings = self._embed(input_ids, pixels, image_sizes)
        ids = self.language.generate(embeddings, attention_mask, max_new_tokens=max_new_tokens, eos_id=eos_id)
        return [row[: row.index(eos_id) + 1] if eos_id in row else row for row in ids.tolist()]

    def flops(self, lengths: Lengths, *, views: int, supervised: int) -> list[PartFlops]:
        """Count the FLOPs of a training step over a batch by part, in the order of the computation.

        `lengths` are as in `Batch`, `views` those of all images, `supervised` is the number of tokens with a label. The
        model may be on the meta device, without weights.
        """
        parts: list[PartFlops] = []
        tokens = []
        for name, connector in self.connectors.items():
            encoder = self.vision[name]
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
        """Map (B, T) ids to (B, T, H), with the images in reading order in place of `image_token_id`."""
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
