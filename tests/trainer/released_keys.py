"""Every name and shape in the released checkpoints, at full size: `name [shape] layers`, `{i}` being the layer."""

from __future__ import annotations

Shapes = dict[str, tuple[int, ...]]

_TOY = """\
transformer.wte.weight [151936,2048]
transformer.h.{i}.ln_1.weight [2048] 0..23
transformer.h.{i}.attn.c_attn.weight [6144,2048] 0..23
transformer.h.{i}.attn.c_attn.bias [6144] 0..23
transformer.h.{i}.attn.c_proj.weight [2048,2048] 0..23
transformer.h.{i}.ln_2.weight [2048] 0..23
transformer.h.{i}.mlp.w1.weight [5504,2048] 0..23
transformer.h.{i}.mlp.w2.weight [5504,2048] 0..23
transformer.h.{i}.mlp.c_proj.weight [2048,5504] 0..23
transformer.ln_f.weight [2048]
transformer.vision_tower.vision_model.embeddings.class_embedding [1024]
transformer.vision_tower.vision_model.embeddings.patch_embedding.weight [1024,3,14,14]
transformer.vision_tower.vision_model.embeddings.position_embedding.weight [257,1024]
transformer.vision_tower.vision_model.pre_layrnorm.weight [1024]
transformer.vision_tower.vision_model.pre_layrnorm.bias [1024]
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.k_proj.weight [1024,1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.k_proj.bias [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.v_proj.weight [1024,1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.v_proj.bias [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.q_proj.weight [1024,1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.q_proj.bias [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.out_proj.weight [1024,1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.self_attn.out_proj.bias [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.layer_norm1.weight [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.layer_norm1.bias [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.mlp.fc1.weight [4096,1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.mlp.fc1.bias [4096] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.mlp.fc2.weight [1024,4096] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.mlp.fc2.bias [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.layer_norm2.weight [1024] 0..23
transformer.vision_tower.vision_model.encoder.layers.{i}.layer_norm2.bias [1024] 0..23
transformer.vision_tower.vision_model.post_layernorm.weight [1024]
transformer.vision_tower.vision_model.post_layernorm.bias [1024]
transformer.vision_tower_high.pos_embed [1,64,64,768]
transformer.vision_tower_high.patch_embed.proj.weight [768,3,16,16]
transformer.vision_tower_high.patch_embed.proj.bias [768]
transformer.vision_tower_high.blocks.{i}.norm1.weight [768] 0..11
transformer.vision_tower_high.blocks.{i}.norm1.bias [768] 0..11
transformer.vision_tower_high.blocks.{i}.attn.rel_pos_h [27,64] 0,1,3,4,6,7,9,10
transformer.vision_tower_high.blocks.{i}.attn.rel_pos_w [27,64] 0,1,3,4,6,7,9,10
transformer.vision_tower_high.blocks.{i}.attn.qkv.weight [2304,768] 0..11
transformer.vision_tower_high.blocks.{i}.attn.qkv.bias [2304] 0..11
transformer.vision_tower_high.blocks.{i}.attn.proj.weight [768,768] 0..11
transformer.vision_tower_high.blocks.{i}.attn.proj.bias [768] 0..11
transformer.vision_tower_high.blocks.{i}.norm2.weight [768] 0..11
transformer.vision_tower_high.blocks.{i}.norm2.bias [768] 0..11
transformer.vision_tower_high.blocks.{i}.mlp.lin1.weight [3072,768] 0..11
transformer.vision_tower_high.blocks.{i}.mlp.lin1.bias [3072] 0..11
transformer.vision_tower_high.blocks.{i}.mlp.lin2.weight [768,3072] 0..11
transformer.vision_tower_high.blocks.{i}.mlp.lin2.bias [768] 0..11
transformer.vision_tower_high.blocks.{i}.attn.rel_pos_h [127,64] 2,5,8,11
transformer.vision_tower_high.blocks.{i}.attn.rel_pos_w [127,64] 2,5,8,11
transformer.vision_tower_high.neck.0.weight [256,768,1,1]
transformer.vision_tower_high.neck.1.weight [256]
transformer.vision_tower_high.neck.1.bias [256]
transformer.vision_tower_high.neck.2.weight [256,256,3,3]
transformer.vision_tower_high.neck.3.weight [256]
transformer.vision_tower_high.neck.3.bias [256]
transformer.vision_tower_high.net_2.weight [512,256,3,3]
transformer.vision_tower_high.net_3.weight [1024,512,3,3]
transformer.mm_projector.weight [1024,1024]
transformer.mm_projector.bias [1024]
transformer.mm_projector_vary.weight [1024,1024]
transformer.mm_projector_vary.bias [1024]
lm_head.weight [151936,2048]
"""

_TINY = """\
model.decoder.embed_tokens.weight [50268,768]
model.decoder.embed_positions.weight [4098,768]
model.decoder.final_layer_norm.weight [768]
model.decoder.final_layer_norm.bias [768]
model.decoder.layers.{i}.self_attn.k_proj.weight [768,768] 0..11
model.decoder.layers.{i}.self_attn.k_proj.bias [768] 0..11
model.decoder.layers.{i}.self_attn.v_proj.weight [768,768] 0..11
model.decoder.layers.{i}.self_attn.v_proj.bias [768] 0..11
model.decoder.layers.{i}.self_attn.q_proj.weight [768,768] 0..11
model.decoder.layers.{i}.self_attn.q_proj.bias [768] 0..11
model.decoder.layers.{i}.self_attn.out_proj.weight [768,768] 0..11
model.decoder.layers.{i}.self_attn.out_proj.bias [768] 0..11
model.decoder.layers.{i}.self_attn_layer_norm.weight [768] 0..11
model.decoder.layers.{i}.self_attn_layer_norm.bias [768] 0..11
model.decoder.layers.{i}.fc1.weight [3072,768] 0..11
model.decoder.layers.{i}.fc1.bias [3072] 0..11
model.decoder.layers.{i}.fc2.weight [768,3072] 0..11
model.decoder.layers.{i}.fc2.bias [768] 0..11
model.decoder.layers.{i}.final_layer_norm.weight [768] 0..11
model.decoder.layers.{i}.final_layer_norm.bias [768] 0..11
model.vision_tower.pos_embed [1,64,64,768]
model.vision_tower.patch_embed.proj.weight [768,3,16,16]
model.vision_tower.patch_embed.proj.bias [768]
model.vision_tower.blocks.{i}.norm1.weight [768] 0..11
model.vision_tower.blocks.{i}.norm1.bias [768] 0..11
model.vision_tower.blocks.{i}.attn.rel_pos_h [27,64] 0,1,3,4,6,7,9,10
model.vision_tower.blocks.{i}.attn.rel_pos_w [27,64] 0,1,3,4,6,7,9,10
model.vision_tower.blocks.{i}.attn.qkv.weight [2304,768] 0..11
model.vision_tower.blocks.{i}.attn.qkv.bias [2304] 0..11
model.vision_tower.blocks.{i}.attn.proj.weight [768,768] 0..11
model.vision_tower.blocks.{i}.attn.proj.bias [768] 0..11
model.vision_tower.blocks.{i}.norm2.weight [768] 0..11
model.vision_tower.blocks.{i}.norm2.bias [768] 0..11
model.vision_tower.blocks.{i}.mlp.lin1.weight [3072,768] 0..11
model.vision_tower.blocks.{i}.mlp.lin1.bias [3072] 0..11
model.vision_tower.blocks.{i}.mlp.lin2.weight [768,3072] 0..11
model.vision_tower.blocks.{i}.mlp.lin2.bias [768] 0..11
model.vision_tower.blocks.{i}.attn.rel_pos_h [127,64] 2,5,8,11
model.vision_tower.blocks.{i}.attn.rel_pos_w [127,64] 2,5,8,11
model.vision_tower.neck.0.weight [256,768,1,1]
model.vision_tower.neck.1.weight [256]
model.vision_tower.neck.1.bias [256]
model.vision_tower.neck.2.weight [256,256,3,3]
model.vision_tower.neck.3.weight [256]
model.vision_tower.neck.3.bias [256]
model.vision_tower.net_2.weight [512,256,3,3]
model.vision_tower.net_3.weight [1024,512,3,3]
model.mm_projector.weight [768,1024]
model.mm_projector.bias [768]
lm_head.weight [50268,768]
"""


def _table(text: str) -> Shapes:
    shapes: Shapes = {}
    for line in text.splitlines():
        name, shape, *layers = line.split()
        sizes = tuple(int(size) for size in shape.strip("[]").split(",") if size)
        numbers = layers[0] if layers else "0..0"
        first, _, last = numbers.partition("..")
        each = range(int(first), int(last) + 1) if last else map(int, numbers.split(","))
        shapes |= {name.replace("{i}", str(number)): sizes for number in each}
    return shapes


def vary_toy(*, rows: int = 151936) -> Shapes:
    """The released Vary-toy; its script writes 151,860 rows, Qwen-1.8B has 151,936."""
    return _table(_TOY.replace("151936", str(rows)))


def vary_7b() -> Shapes:
    """Vary: Qwen-7B under the same names, projectors of twice the width."""
    table = _table(_TOY)
    wider = {2048: 4096, 6144: 12288, 5504: 11008}
    shapes: Shapes = {}
    for name, shape in table.items():
        if name.startswith(("transformer.h.", "transformer.wte", "transformer.ln_f", "lm_head")):
            shapes[name] = tuple(wider.get(size, size) for size in shape)
        elif name.startswith("transformer.mm_projector"):
            shapes[name] = (2048, *shape[1:])
        else:
            shapes[name] = shape
    for layer in range(24, 32):
        shapes |= {name.replace(".h.0.", f".h.{layer}."): s for name, s in list(shapes.items()) if ".h.0." in name}
    return shapes


def vary_tiny() -> Shapes:
    """The released Vary-tiny, its tied output layer under both names."""
    return _table(_TINY)


def vary_tiny_600k() -> Shapes:
    """LAVIS's Vary-tiny-600k: 2,048 positions."""
    renamed = {"model.vision_tower.": "visual_encoder.", "model.mm_projector.": "opt_proj."}
    shapes: Shapes = {}
    for name, shape in vary_tiny().items():
        prefix = next((old for old in renamed if name.startswith(old)), None)
        new = name.replace(prefix, renamed[prefix]) if prefix else f"opt_model.{name}"
        shapes[new] = (2050, 768) if "embed_positions" in name else shape
    return shapes


def sam() -> Shapes:
    """The original SAM-B, with a tensor each of what is not its image encoder."""
    prefix = "model.vision_tower."
    shapes = {name.replace(prefix, "image_encoder."): s for name, s in vary_tiny().items() if name.startswith(prefix)}
    shapes = {name: shape for name, shape in shapes.items() if ".net_" not in name}
    return {**shapes, "prompt_encoder.not_a_point_embed.weight": (1, 256), "mask_decoder.iou_token.weight": (1, 256)}


def clip() -> Shapes:
    """CLIP-L/14, with a tensor each of what is not its vision part."""
    prefix = "transformer.vision_tower."
    shapes = {name.removeprefix(prefix): shape for name, shape in vary_toy().items() if name.startswith(prefix)}
    return {
        **shapes,
        "vision_model.embeddings.position_ids": (1, 257),
        "text_model.final_layer_norm.weight": (768,),
        "visual_projection.weight": (768, 1024),
        "text_projection.weight": (768, 768),
        "logit_scale": (),
    }


def opt() -> Shapes:
    """OPT-125M as Hugging Face has it."""
    language = ("model.decoder.", "lm_head.")
    shapes = {name: shape for name, shape in vary_tiny().items() if name.startswith(language)}
    rows = {"model.decoder.embed_positions.weight": (2050, 768)}
    rows |= dict.fromkeys(("model.decoder.embed_tokens.weight", "lm_head.weight"), (50272, 768))
    return {**shapes, **rows}


def qwen_1_5() -> Shapes:
    """Qwen1.5-1.8B as Hugging Face has it."""
    layer = {
        "input_layernorm.weight": (2048,), "post_attention_layernorm.weight": (2048,),
        "self_attn.o_proj.weight": (2048, 2048), "mlp.gate_proj.weight": (5504, 2048),
        "mlp.up_proj.weight": (5504, 2048), "mlp.down_proj.weight": (2048, 5504),
    }  # fmt: skip
    layer |= {f"self_attn.{part}_proj.weight": (2048, 2048) for part in "qkv"}
    layer |= {f"self_attn.{part}_proj.bias": (2048,) for part in "qkv"}
    shapes = {f"model.layers.{number}.{name}": shape for number in range(24) for name, shape in layer.items()}
    ends = {"model.embed_tokens.weight": (151936, 2048), "lm_head.weight": (151936, 2048), "model.norm.weight": (2048,)}
    return {**shapes, **ends}


def opt_bare() -> Shapes:
    """The same as transformers writes the model without its head."""
    return {name.removeprefix("model."): shape for name, shape in opt().items() if name.startswith("model.")}


def qwen_v1() -> Shapes:
    """Qwen-1.8B as its own code has it."""
    language = ("transformer.wte.", "transformer.h.", "transformer.ln_f.", "lm_head.")
    return {name: shape for name, shape in vary_toy().items() if name.startswith(language)}
