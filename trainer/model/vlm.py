"""The model: vision encoders → connectors → fusion → causal language model.

Shape legend: B rows, T tokens, N images of all rows in reading order, P tokens of an image, H hidden size,
M supervised tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from datagen.errors import UserError
from trainer.batch import IGNORE_INDEX, Batch
from trainer.loss import token_losses
from trainer.model.attention import Lengths
from trainer.model.connectors import Fusion
from trainer.model.flops import PartFlops, counted, passes
from trainer.model.language import LanguageModel
from trainer.model.vision import VisionEncoder
from trainer.model.vision_grad import encode
from trainer.preprocess import ImagePreprocess


class VisionLanguageModel(nn.Module):
    """Parts put together by a recipe; nothing in here knows which model it is.

    A part without trainable parameters is frozen: it stays in evaluation mode whatever `train` says.
    """

    def __init__(
        self,
        encoders: Mapping[str, VisionEncoder],
        connectors: Mapping[str, nn.Module],
        language: LanguageModel,
        *,
        fusion: Fusion,
        image_token_id: int,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.connectors = nn.ModuleDict(connectors)
        self.language = language
        self.fusion = fusion
        self.image_token_id = image_token_id
        # One fact, stated here only: how many image tokens the loader writes and the splice below expects.
        self.num_image_tokens = fusion.num_tokens({name: encoder.num_tokens for name, encoder in encoders.items()})
        self.preprocess: dict[str, ImagePreprocess] = {name: encoder.preprocess for name, encoder in encoders.items()}

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """Training or evaluation mode for the parts that train; frozen parts stay in evaluation mode."""
        super().train(mode)
        for part in (*self.encoders.values(), *self.connectors.values(), self.language):
            if is_frozen(part):
                part.eval()
        return self

    def enable_gradient_checkpointing(self) -> None:
        """Trade compute for memory in the encoders and the language model, as far as they train."""
        for part in (*self.encoders.values(), self.language):
            if not is_frozen(part):
                cast(VisionEncoder | LanguageModel, part).enable_gradient_checkpointing()

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each supervised token, (M,) fp32 in nats, and the number of its sample, (M,) int64.

        `losses.sum().backward()` reaches every trainable parameter whatever the batch holds: without images the vision
        side gets zeros and no encoder runs; without a supervised token everything gets zeros.
        """
        embeddings = self._embed(batch.input_ids, batch.pixels)
        hidden = self.language.hidden_states(embeddings, batch.positions, batch.lengths)
        # Position t predicts token t + 1; no sample's first token has a label.
        rows, before = (batch.labels[:, 1:] != IGNORE_INDEX).nonzero(as_tuple=True)
        losses = token_losses(hidden[rows, before], self.language.head, batch.labels[rows, before + 1])
        return losses, batch.sample_of[rows, before + 1]

    def flops(self, lengths: Lengths, *, views: int, supervised: int) -> list[PartFlops]:
        """What a training step over a batch costs, part by part in the order of the computation.

        `lengths` as in `Batch`, `views` the pictures that each encoder gets, `supervised` the tokens with a label. The
        model may be on the meta device.
        """
        forward: list[tuple[str, nn.Module, int]] = []
        for name, encoder in self.encoders.items():
            forward.append((f"encoders.{name}", encoder, views * cast(VisionEncoder, encoder).flops()))
        for name, connector in self.connectors.items():
            encoder = cast(VisionEncoder, self.encoders[name])
            shape = (1, encoder.num_tokens, encoder.width)
            forward.append((f"connectors.{name}", connector, views * counted(connector, shape)))
        for name, count in self.language.flops(lengths, supervised).items():
            forward.append((f"language.{name}", self.language, count))
        parts, behind = [], False
        for part, module, count in forward:
            trains = not is_frozen(module)
            times = passes(trains=trains, behind_trained=behind and not part.startswith("encoders."))
            again = times > 1 and part != "language.head" and _recomputes(module)
            parts.append(PartFlops(part=part, forward=count, passes=times, recomputed=again))
            behind = behind or trains
        return parts

    def encode_images(self, pixels: Mapping[str, Tensor]) -> Tensor:
        """(N, 3, H, W) uint8 per encoder → (N, P, H) in the language model's embedding space; N may be 0.

        Without images no encoder is called, and the connectors' (0, P, H) sends zeros to all that trains.
        """
        tokens = []
        for name, encoder in self.encoders.items():
            dtype = next(encoder.parameters()).dtype
            features = encode(cast(VisionEncoder, encoder), self.preprocess[name].normalise(pixels[name], dtype))
            tokens.append(self.connectors[name](features))
        return self.fusion.join(tokens)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixels: Mapping[str, Tensor],
        *,
        max_new_tokens: int,
        eos_id: int,
    ) -> list[list[int]]:
        """Greedy answers, one list of ids per row; it ends with the end token where the model said it.

        `input_ids` and `attention_mask` are (B, T) int64, padded on the LEFT; `pixels` as in `Batch`. A row ends at
        `eos_id`, after `max_new_tokens`, or when the language model is out of positions. The result of a row does not
        depend on the rows beside it, as long as none runs out of positions. Call in evaluation mode.
        """
        embeddings = self._embed(input_ids, pixels)
        ids = self.language.generate(embeddings, attention_mask, max_new_tokens=max_new_tokens, eos_id=eos_id)
        return [row[: row.index(eos_id) + 1] if eos_id in row else row for row in ids.tolist()]

    def _embed(self, input_ids: Tensor, pixels: Mapping[str, Tensor]) -> Tensor:
        """(B, T) ids → (B, T, H), the places that hold `image_token_id` filled with the images in reading order."""
        embeddings = self.language.embed(input_ids)
        slots = input_ids == self.image_token_id
        num_slots, num_images = int(slots.sum()), len(next(iter(pixels.values())))
        if num_slots != num_images * self.num_image_tokens:
            raise UserError(
                f"batch of {num_images} images: expected {num_images} × {self.num_image_tokens} image tokens in its "
                f"rows, found {num_slots}"
            )
        if num_images == 0 and not self.training:
            return embeddings
        return embeddings.masked_scatter(slots[..., None], self.encode_images(pixels).to(embeddings.dtype))


def is_frozen(part: nn.Module) -> bool:
    """Whether none of a part's parameters trains."""
    return not any(parameter.requires_grad for parameter in part.parameters())


def _recomputes(part: nn.Module) -> bool:
    """Whether gradient checkpointing is on anywhere in a part, by the name that transformers and SAM have for it."""
    return any(getattr(module, "gradient_checkpointing", False) for module in part.modules())
