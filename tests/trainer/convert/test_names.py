"""Released names and shapes at full size ↔ our model of the sizes that they tell, built without memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.trainer import released_keys
from tests.trainer.released_keys import Shapes
from trainer.convert.mapping import Mapped, to_ours, to_released
from trainer.convert.names import Kind, kind_of, kind_of_ours
from trainer.convert.parts import Parts, parts_of

CHECKPOINTS: dict[str, tuple[str, Callable[[], Shapes]]] = {
    "Vary-toy": ("vary_toy", released_keys.vary_toy),
    "Vary-toy as its script writes it": ("vary_toy", lambda: released_keys.vary_toy(rows=151860)),
    "Vary, 7B": ("vary_toy", released_keys.vary_7b),
    "Vary-tiny": ("vary_tiny", released_keys.vary_tiny),
    "Vary-tiny-600k": ("vary_tiny_600k", released_keys.vary_tiny_600k),
    "SAM-B": ("sam", released_keys.sam),
    "CLIP-L/14": ("clip", released_keys.clip),
    "OPT-125M": ("opt", released_keys.opt),
    "OPT-125M without head": ("opt_bare", released_keys.opt_bare),
    "Qwen1.5-1.8B": ("qwen2", released_keys.qwen_1_5),
    "Qwen-1.8B": ("qwen_v1", released_keys.qwen_v1),
}


QWEN_1_5 = {"rope_theta": 1e6, "tie_word_embeddings": False, "max_position_embeddings": 32768}


def taken(shapes: Shapes) -> tuple[Kind, Mapped, Parts]:
    kind = kind_of(shapes, "-")
    config = QWEN_1_5 if kind.name == "qwen2" else {}  # the others' tensors tell everything
    mapped = to_ours(kind, shapes, tied=kind.tied, source="-")
    return kind, mapped, parts_of(kind, mapped.shapes, config, tied=kind.tied, source="-")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_tensor_has_its_place_and_goes_back_to_its_name(name: str) -> None:
    expected, make = CHECKPOINTS[name]
    shapes = make()
    kind, mapped, parts = taken(shapes)
    assert kind.name == expected
    assert mapped.unexpected == []
    random = {name: shape for name, shape in parts.shapes.items() if name in kind.may_miss}
    assert mapped.shapes | random == parts.shapes

    alike = {"vary_tiny_600k": "vary_tiny", "opt_bare": "opt", "qwen_v1": "qwen2"}  # of the same parts
    assert kind_of_ours(mapped.shapes, "-").name == alike.get(kind.name, kind.name)
    back = to_released(kind, mapped.shapes, "-")
    gone = {name for name in shapes if name in mapped.ignored or any(name.startswith(m) for m in mapped.dropped)}
    assert back.shapes == {name: shape for name, shape in shapes.items() if name not in gone}
    assert back.unexpected == []


def test_the_released_models_have_the_keys_and_parameters_that_are_known() -> None:
    toy, tiny = released_keys.vary_toy(), released_keys.vary_tiny()
    assert (len(toy), sum(map(math.prod, toy.values()))) == (769, 2_237_676_800)
    del tiny["lm_head.weight"]  # tied
    assert (len(tiny) + 1, sum(map(math.prod, tiny.values()))) == (378, 223_165_440)


@pytest.mark.parametrize(
    ("make", "gone"),
    [(released_keys.sam, "blocks.11."), (released_keys.clip, "encoder.layers.23.")],
    ids=["sam", "clip"],
)
def test_a_vit_that_ends_a_layer_early_is_not_whole(make: Callable[[], Shapes], gone: str) -> None:
    kind, mapped, parts = taken({name: shape for name, shape in make().items() if gone not in name})
    missing = parts.shapes.keys() - mapped.shapes.keys() - set(kind.may_miss)
    assert missing
    assert all(gone in name for name in missing)


def test_sizes_of_vary_toy() -> None:
    _, mapped, parts = taken(released_keys.vary_toy(rows=151860))
    assert list(parts.vision) == ["clip", "vary"]  # the order of concatenation
    sizes: dict[str, Any]
    clip, sam = (part.config for part in parts.vision.values())
    sizes = {"image_size": 224, "patch_size": 14, "num_hidden_layers": 24, "num_attention_heads": 16}
    assert all(clip[key] == size for key, size in sizes.items())
    assert clip["hidden_act"] == "quick_gelu"
    sizes = {
        "image_size": 1024, "patch_size": 16, "width": 768, "depth": 12, "heads": 12, "mlp_ratio": 4, "window": 14,
        "global_layers": [2, 5, 8, 11], "neck": 256, "conv_channels": [512, 1024],
    }  # fmt: skip
    assert all(sam[key] == size for key, size in sizes.items())
    assert parts.language is not None
    sizes = {
        "vocab_size": 151860, "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 5504,
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    }  # fmt: skip
    assert all(parts.language.config[key] == size for key, size in sizes.items())
    assert parts.language.config["rope_parameters"] == {"rope_type": "default", "rope_theta": 10000.0}
    assert "language.model.lm_head.weight" in mapped.pieces
