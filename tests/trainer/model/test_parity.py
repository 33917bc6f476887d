"""With equal weights our model computes the numbers of the released Vary-toy and Vary-tiny, and of transformers' parts.

`benchmarks/released.py` states the release again; here it is first held to transformers' own modules, so that one
misreading cannot stand in both, and then our model is held to it: logits, greedy tokens, loss and gradients.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.sam.configuration_sam import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from benchmarks import released_images
from benchmarks.released import (
    Clip,
    ImageIds,
    OptSizes,
    QwenSizes,
    Released,
    ReleasedTiny,
    ReleasedToy,
    Sam,
    TinySizes,
    ToySizes,
    draw,
)
from tests.trainer.parity import (
    CLIP,
    SAM,
    TINY,
    TOY,
    Case,
    batch_of,
    build_ours,
    case,
    images_of,
    ours_like,
    ours_of,
    released_batch,
    released_of,
    settings_of,
)
from trainer.batch import Batch
from trainer.convert.names import KINDS
from trainer.images.preprocess import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocess
from trainer.model.vlm import VisionLanguageModel

SMALL = 1e-5  # of the largest number, between two orders of the same fp32 sums at small sizes


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors this small only wait for a second thread
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(before)


@torch.no_grad()
def assert_near(actual: Tensor, expected: Tensor, share: float = SMALL) -> None:
    """Assert a difference of at most `share` × the largest expected number."""
    assert actual.shape == expected.shape
    largest = float(expected.abs().max())
    assert largest > 0
    assert float((actual - expected).abs().max()) <= share * largest


def pair(sizes: ToySizes | TinySizes, gain: float = 1.0, **options: Any) -> tuple[Released, VisionLanguageModel]:
    released = released_of(sizes)
    draw(released, seed=0, gain=gain)
    return released, ours_like(released, **options)


GAINS = pytest.mark.parametrize("gain", [1.0, 0.05])  # with the latter, the eps of a norm is felt
BOTH = pytest.mark.parametrize("sizes", [TOY, TINY], ids=["toy", "tiny"])


# --- the statement of the release is right: transformers' modules compute the same


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    for old, new in names.items():
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


@GAINS
def test_the_stated_sam_is_transformers(gain: float) -> None:
    stated = Sam(SAM)
    draw(stated, seed=0, gain=gain)
    config = SamVisionConfig(
        hidden_size=SAM.width, output_channels=SAM.neck, num_hidden_layers=SAM.depth, num_attention_heads=SAM.heads,
        image_size=SAM.image, patch_size=SAM.patch, window_size=SAM.window, global_attn_indexes=SAM.global_layers,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = SamVisionEncoder(config).eval()
    names = {
        "patch_embed.proj.": "patch_embed.projection.", "blocks.": "layers.", ".norm1.": ".layer_norm1.",
        ".norm2.": ".layer_norm2.", "neck.0.": "neck.conv1.", "neck.1.": "neck.layer_norm1.", "neck.2.": "neck.conv2.",
        "neck.3.": "neck.layer_norm2.",
    }  # fmt: skip
    theirs.load_state_dict({k: v for k, v in renamed(stated.state_dict(), names).items() if not k.startswith("net_")})
    pixels = torch.randn(2, 3, SAM.image, SAM.image)
    with torch.no_grad():
        trunk = theirs(pixels).last_hidden_state
        expected = stated.net_3(stated.net_2(trunk))
        assert_near(stated(pixels), expected)


@GAINS
def test_the_stated_clip_is_transformers(gain: float) -> None:
    stated = Clip(CLIP)
    draw(stated, seed=0, gain=gain)
    config = CLIPVisionConfig(
        hidden_size=CLIP.width, intermediate_size=CLIP.mlp, num_hidden_layers=CLIP.depth,
        num_attention_heads=CLIP.heads, image_size=CLIP.image, patch_size=CLIP.patch,
    )  # fmt: skip
    theirs = CLIPVisionModel(config).eval()
    theirs.load_state_dict(stated.vision_model.state_dict())
    pixels = torch.randn(2, 3, CLIP.image, CLIP.image)
    with torch.no_grad():
        assert_near(stated(pixels), theirs(pixels, output_hidden_states=True).hidden_states[-2][:, 1:])


def transformers_like(released: Released) -> PreTrainedModel:
    """Return transformers' language model with the weights of the released one."""
    if isinstance(released, ReleasedTiny):
        opt = released.model.sizes.opt
        config: Any = OPTConfig(
            vocab_size=opt.vocabulary, hidden_size=opt.width, word_embed_proj_dim=opt.width, ffn_dim=opt.mlp,
            num_hidden_layers=opt.depth, num_attention_heads=opt.heads, max_position_embeddings=opt.positions,
            dropout=opt.dropout,
        )  # fmt: skip
        model: PreTrainedModel = OPTForCausalLM(config)
    else:
        assert isinstance(released, ReleasedToy)
        qwen = released.transformer.sizes.qwen
        config = Qwen2Config(
            vocab_size=qwen.vocabulary, hidden_size=qwen.width, intermediate_size=qwen.mlp,
            num_hidden_layers=qwen.depth, num_attention_heads=qwen.heads, num_key_value_heads=qwen.heads,
            max_position_embeddings=qwen.positions, tie_word_embeddings=False,
        )  # fmt: skip
        model = Qwen2ForCausalLM(config)
    names = {"language.model.": ""}
    ours = {k: v for k, v in ours_of(released.state_dict()).items() if k.startswith("language.")}
    model.load_state_dict(renamed(ours, names))
    return model.eval()


@BOTH
@GAINS
def test_the_stated_language_model_is_transformers(sizes: ToySizes | TinySizes, gain: float) -> None:
    stated = released_of(sizes).eval()
    draw(stated, seed=0, gain=gain)
    theirs = transformers_like(stated)
    ids = torch.randint(3, sizes.ids.pad, (2, 40))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    with torch.no_grad():
        actual = stated(ids, mask, [stated.black()] * 2).logits
        assert_near(actual[mask == 1], theirs(input_ids=ids, attention_mask=mask).logits[mask == 1])
    prompt = theirs.generate(ids[:1], max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=1)
    assert stated.greedy(ids[0], [stated.black()], 20) == prompt[0, 40:].tolist()


def test_the_stated_dropout_is_transformers() -> None:
    stated = released_of(replace(TINY, opt=replace(TINY.opt, dropout=0.1)))
    draw(stated, seed=0)
    theirs = transformers_like(stated)
    ids = torch.randint(3, TINY.ids.pad, (2, 40))
    ones = torch.ones_like(ids)
    logits = []
    with torch.no_grad():
        for model in (lambda: stated(ids, ones, [stated.black()] * 2), lambda: theirs(ids, attention_mask=ones)):
            stated.train(), theirs.train()
            torch.manual_seed(0)
            logits.append(model().logits)
        assert_near(*logits)
        assert float((stated.eval()(ids, ones, [stated.black()] * 2).logits - logits[0]).abs().max()) > 0.1


# --- ours is the release


class LastHidden:
    """Return the hidden states that our language model passes to its head."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self.hidden: Tensor | None = None
        self.head = model.language.head
        model.language.model.base_model.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.hidden = output.last_hidden_state

    def logits(self) -> Tensor:
        assert self.hidden is not None
        return self.hidden @ self.head.T


def cases_of(sizes: ToySizes | TinySizes) -> list[Case]:
    """Return samples of one image, of text alone, of two images, and of the longest text."""
    return [
        case(sizes, images=1, text=12, seed=1),
        case(sizes, images=0, text=9, seed=2),
        case(sizes, images=2, text=5, seed=3),
        case(sizes, images=1, text=30, supervised=0.8, seed=4),
    ]


def by_sample(logits: Tensor, batch: Batch) -> list[Tensor]:
    """Split (B, T, V) into the logits of each sample, (its tokens, V)."""
    return [logits[batch.sample_of == sample] for sample in range(len(batch.keys))]


PACKINGS = {
    "apart": lambda cases: [[one] for one in cases],
    "together": lambda cases: [[cases[0], cases[1]], [cases[2], cases[3]]],
    "one row": lambda cases: [cases],
}


@BOTH
@GAINS
def test_towers(sizes: ToySizes | TinySizes, gain: float) -> None:
    released, ours = pair(sizes, gain)
    one = case(sizes, images=3, text=2)
    images = images_of(one, released)
    body = released.body()
    with torch.no_grad():
        if isinstance(released, ReleasedToy):
            assert_near(ours.encoders["clip"](images[0]), body.vision_tower(images[0]))
            assert_near(ours.encoders["vary"](images[1]), body.vision_tower_high(images[1]).flatten(2).permute(0, 2, 1))
        else:
            assert_near(ours.encoders["vary"](images), body.vision_tower(images).flatten(2).permute(0, 2, 1))


@BOTH
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("packing", PACKINGS)
@GAINS
def test_logits_and_loss(sizes: ToySizes | TinySizes, attention: str, packing: str, gain: float) -> None:
    released, ours = pair(sizes, gain, attention=attention)
    cases = cases_of(sizes)
    hidden = LastHidden(ours)
    batch = batch_of(PACKINGS[packing](cases), ours)
    with torch.no_grad():
        expected = released(*released_batch(cases, released))
        total, losses, samples = ours(batch)
    assert expected.logits.shape[1] == max(len(one.ids) for one in cases)
    for one, actual, row in zip(cases, by_sample(hidden.logits(), batch), expected.logits, strict=True):
        assert_near(actual, row[: len(one.ids)])
    supervised = [one.supervised for one in cases]
    assert torch.bincount(samples).tolist() == supervised
    # The release's is the mean over the micro-batch; ours gives the sum, and the step divides.
    assert total.item() / sum(supervised) == pytest.approx(expected.loss.item(), rel=SMALL)
    assert float(losses.mean()) == pytest.approx(expected.loss.item(), rel=SMALL)


@BOTH
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_gradients(sizes: ToySizes | TinySizes, packing: str, gradient_checkpointing: bool) -> None:
    released, ours = pair(sizes, gradient_checkpointing=gradient_checkpointing)
    if gradient_checkpointing:
        released.gradient_checkpointing_enable()
    cases = cases_of(sizes)
    released(*released_batch(cases, released)).loss.backward()
    total, *_ = ours(batch_of(PACKINGS[packing](cases), ours))
    (total / sum(one.supervised for one in cases)).backward()
    assert_same_gradients(released, ours, norms=2e-5, apart=1e-4)


def assert_same_gradients(released: Released, ours: VisionLanguageModel, *, norms: float, apart: float) -> None:
    """Assert that the same parameters are trained, with gradients that differ by at most `norms` and `apart`."""
    theirs = {name: p.grad for name, p in released.named_parameters() if p.grad is not None}
    if isinstance(released, ReleasedTiny):
        theirs["lm_head.weight"] = theirs["model.decoder.embed_tokens.weight"]  # one parameter of two names
    expected = ours_of(theirs)
    actual = {name: p.grad for name, p in ours.named_parameters(remove_duplicate=False) if p.requires_grad}
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        if name.endswith("k_proj.bias") and isinstance(released, ReleasedTiny):
            # The softmax cancels it: what is there is rounding.
            scale = float(expected[name.replace("k_proj", "q_proj")].abs().max())
            assert float(gradient.abs().max()) <= 1e-4 * scale and float(actual[name].abs().max()) <= 1e-4 * scale, name
            continue
        assert float(gradient.norm()) > 0, name
        assert float(actual[name].norm()) == pytest.approx(float(gradient.norm()), rel=norms), name
        assert float((actual[name] - gradient).norm()) <= apart * float(gradient.norm()), name
    whole = [torch.stack([g.norm() for g in grads.values()]).norm() for grads in (actual, expected)]
    assert float(whole[0]) == pytest.approx(float(whole[1]), rel=norms)


@BOTH
def test_text_alone(sizes: ToySizes | TinySizes) -> None:
    """The release runs its towers on black images times 0, our model runs none. Both give zeros to the vision side."""
    released, ours = pair(sizes)
    cases = [case(sizes, images=0, text=text, seed=text) for text in (7, 15)]
    expected = released(*released_batch(cases, released))
    expected.loss.backward()
    total, *_ = ours(batch_of([cases], ours))
    mean = total / sum(one.supervised for one in cases)
    mean.backward()
    assert mean.item() == pytest.approx(expected.loss.item(), rel=SMALL)
    theirs = ours_of({name: p.grad for name, p in released.named_parameters() if p.grad is not None})
    actual = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    for name in actual.keys() | theirs.keys():
        part, *_ = name.split(".")
        if part == "language":
            assert float(actual[name].norm()) == pytest.approx(float(theirs[name].norm()), rel=1e-4, abs=1e-6), name
        else:
            assert not any(grads[name].any() for grads in (actual, theirs) if name in grads), name
    assert {name.split(".")[0] for name in actual} >= {"connectors", "language"}


def generate(ours: VisionLanguageModel, prompts: list[Case], count: int, eos_id: int) -> list[list[int]]:
    """Return our greedy answers, with all prompts in one batch, padded on the left."""
    longest = max(len(one.ids) for one in prompts)
    ids, mask = torch.ones((2, len(prompts), longest), dtype=torch.int64)
    for row, one in enumerate(prompts):
        blank = longest - len(one.ids)
        ids[row, blank:], mask[row, :blank] = torch.tensor(one.ids), 0
    device = ours.language.head.device
    batch = batch_of([[one] for one in prompts], ours).to(device)
    ids, mask = ids.to(device), mask.to(device)
    ours.eval()
    return ours.generate(ids, mask, batch.pixels, batch.image_sizes, max_new_tokens=count, eos_id=eos_id)


@BOTH
def test_greedy_tokens(sizes: ToySizes | TinySizes) -> None:
    released, ours = pair(sizes, gain=2.0)  # large enough for answers to depend on earlier tokens
    prompts = cases_of(sizes)
    expected = [released.greedy(torch.tensor(one.ids), [images_of(one, released)], count=30) for one in prompts]
    assert (
        len({tuple(answer) for answer in expected}) == len(prompts) and max(len(set(answer)) for answer in expected) > 5
    )
    never = next(token for token in range(2, 160) if all(token not in answer for answer in expected))
    assert generate(ours, prompts, count=30, eos_id=never) == expected


def test_the_released_micro_batch_mean_is_not_the_mean_of_all() -> None:
    """The release weighs a token by the number of others in its micro-batch. Our loss is a sum and does not."""
    released, ours = pair(TINY)
    cases = cases_of(TINY)
    with torch.no_grad():
        halves = [released(*released_batch(part, released)).loss for part in (cases[:2], cases[2:])]
        whole = released(*released_batch(cases, released)).loss
        totals = [ours(batch_of([[one] for one in part], ours))[0] for part in (cases[:2], cases[2:])]
    assert abs(float(sum(halves)) / 2 - float(whole)) > 1e-3 * float(whole)
    assert float(sum(totals)) / sum(one.supervised for one in cases) == pytest.approx(float(whole), rel=SMALL)


# --- positions


def test_positions_are_stretched_around_the_offset_rows(tmp_path: Path) -> None:
    """An OPT of 64 positions, loaded with 128, equals the release with an interpolated table, also beyond 64 tokens."""
    short = ReleasedTiny(replace(TINY, opt=replace(TINY.opt, positions=64)))
    draw(short, seed=0)
    transformers_like(short).save_pretrained(tmp_path)
    table = short.model.decoder.embed_positions.weight.detach().numpy()
    places = np.linspace(0, 63, 128)
    long = ReleasedTiny(TINY)
    state = short.state_dict()
    state["model.decoder.embed_positions.weight"] = torch.from_numpy(
        np.concatenate([table[:2], np.stack([np.interp(places, np.arange(64), row) for row in table[2:].T], axis=1)])
    )
    long.load_state_dict(state)

    settings = settings_of(TINY)
    language = replace(settings.language, weights=str(tmp_path), config={"max_position_embeddings": 128})
    ours = build_ours(replace(settings, language=language), long)
    vision = {k: v for k, v in ours_of(long.state_dict()).items() if not k.startswith("language.")}
    assert not ours.load_state_dict(vision, strict=False).unexpected_keys
    cases = [case(TINY, images=1, text=110)]
    hidden = LastHidden(ours)
    with torch.no_grad():
        expected = long(*released_batch(cases, long))
        ours(batch_of([cases], ours))
    assert len(cases[0].ids) > 64
    assert_near(hidden.logits(), expected.logits)


# --- names, sizes, images


@pytest.mark.parametrize(("kind", "model"), [("vary_toy", ReleasedToy), ("vary_tiny", ReleasedTiny)])
def test_the_importer_gives_every_tensor_the_name_that_is_given_here(kind: str, model: type[Released]) -> None:
    with torch.device("meta"):
        released = model()
    for name, tensor in released.state_dict().items():
        assert KINDS[kind].to_ours(name) == tuple(ours_of({name: tensor})), name


@pytest.mark.parametrize(
    ("model", "keys", "parameters"), [(ReleasedToy, 769, 2_237_676_800), (ReleasedTiny, 378, 223_165_440)]
)
def test_the_stated_release_has_its_names_and_sizes(model: type[Released], keys: int, parameters: int) -> None:
    with torch.device("meta"):
        released = model()
    assert len(released.state_dict()) == keys
    assert sum(p.numel() for p in released.parameters()) == parameters


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


OPENCV = {
    (700, 500, 256): "8c835b06d80df8170c7057be433a6bb89b99fe5c96a3816feb0efc75de8767ab",
    (61, 97, 128): "3daf722cd8a2852ae50e070a2c36ab299914a60ba720becdce4e6f4a4d3e94f4",
    (256, 256, 128): "d43e172080dea2a9e02ebc1443e94ca167355c8bc4d897ec83361e99b7574aeb",  # halved: a mean of four
    (128, 256, 128): "98014cbb0de249a26dd7cd4d1f8da4ca841fa5b851810f9fc920e5b62728e124",
    (1, 5, 64): "7691957cf554b04d374e7be34eaa510a69ac99705478d821ebc419090e411c37",
    (128, 128, 128): "01c602df64d8eb9e63ded10d17a255cf87a5801f4c41a403ae8ce54b5c0c635b",
}
"""SHA-256 of the result of OpenCV 4.11.0 and 5.0.0 for `noise(height, width)`, by height, width and side."""


@pytest.mark.parametrize(("height", "width", "side"), OPENCV)
def test_the_stated_bilinear_filter_is_opencvs(height: int, width: int, side: int) -> None:
    actual = released_images.opencv_bilinear(noise(height, width), side, side)
    assert hashlib.sha256(actual.tobytes()).hexdigest() == OPENCV[height, width, side]


@pytest.mark.parametrize("size", [(100, 60), (61, 97), (500, 224), (300, 300)])
def test_the_stated_image_of_clip_is_its_processors(size: tuple[int, int]) -> None:
    processor = pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil(
        size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}
    )
    picture = Image.fromarray(noise(*size))
    expected = torch.as_tensor(processor(picture, return_tensors="pt").pixel_values)[0]
    torch.testing.assert_close(torch.from_numpy(released_images.toy_low(picture)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("aspect", "shape"), [("square", (56, 56)), ("pad", (56, 56)), ("keep", (28, 112))])
def test_the_stated_ratios_of_sides(aspect: Any, shape: tuple[int, int]) -> None:
    picture = Image.fromarray(noise(50, 200))
    assert released_images.toy_low(picture, 56, aspect).shape == (3, *shape)


def padded(picture: Image.Image, size: int) -> np.ndarray:
    return released_images.toy_low(picture, size, "pad")


@pytest.mark.parametrize("size", [(100, 60), (61, 97), (700, 500), (448, 448), (2000, 300)])
@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        ({"fit": "crop", "resample": "pillow_bicubic"}, released_images.toy_low),
        ({"fit": "pad_corner", "resample": "pillow_bicubic"}, padded),
        ({"resample": "pillow_bicubic"}, released_images.toy_high),
        ({"resample": "opencv_bilinear", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}, released_images.tiny_high),
    ],
    ids=["toy low", "toy low, padded", "toy high", "tiny high"],
)
def test_images(size: tuple[int, int], changes: dict[str, Any], stated: Any) -> None:
    """No pixel from 0 to 255 differs. Only the order of operations in the normalisation does."""
    how = ImagePreprocess(size=224, **changes)
    actual = how.normalise(torch.from_numpy(how.to_uint8(noise(*size)))[None], torch.float32)[0]
    expected = torch.from_numpy(np.ascontiguousarray(stated(Image.fromarray(noise(*size)), 224)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-7)


# --- full size: minutes, and 11 and 9 GB


FEWER = 32768  # of 151,936 rows of embeddings; with all, weights and two sets of gradients take 11 GB
FULL = {
    "tiny": TinySizes(opt=OptSizes(dropout=0.0)),
    # 4 of 24 layers and the vocabulary above; all widths and both towers are whole.
    "toy": ToySizes(
        qwen=QwenSizes(depth=4, vocabulary=FEWER), ids=ImageIds(start=FEWER - 3, end=FEWER - 2, pad=FEWER - 1)
    ),
}
FULL_SHARE = 2e-4  # of the largest logit


def assert_full_size(sizes: ToySizes | TinySizes, device: str) -> None:
    """Logits, loss and gradients agree on a page of 1024 tokens, greedy answers on a short prompt."""
    released = released_of(sizes)
    draw(released, seed=0)
    released.to(device)
    ours = ours_like(released, share=True).to(device)  # its weights are there, being the same memory
    torch.set_num_threads(os.cpu_count() or 1)

    one = case(sizes, images=1, text=1024 - 258 - 3, seed=1)
    expected = released(*moved(released_batch([one], released), device))
    expected.loss.backward()
    loss, logits = expected.loss.item(), expected.logits.detach()
    del expected
    hidden = LastHidden(ours)
    total, *_ = ours(batch_of([[one]], ours).to(torch.device(device)))
    (total / one.supervised).backward()
    with torch.no_grad():
        assert_near(hidden.logits(), logits, FULL_SHARE)
    assert total.item() / one.supervised == pytest.approx(loss, rel=FULL_SHARE)
    del logits
    # A few of OPT's 38 million ReLUs are on at one side and off at the other (`test_opt_of_full_size_in_fp64`).
    relu = isinstance(released, ReleasedTiny)
    assert_same_gradients(released, ours, norms=1e-3, apart=1e-2 if relu else 1e-4)

    prompt = case(sizes, images=1, text=12, seed=2)
    ids, _, images, _ = moved(released_batch([prompt], released), device)
    message = released.greedy(ids[0], images, count=12)
    never = next(token for token in range(2, 20) if token not in message)
    assert generate(ours, [prompt], count=12, eos_id=never) == [message]


def moved(inputs: Any, device: str) -> Any:
    """Move tensors in tuples and lists to the device."""
    return inputs.to(device) if isinstance(inputs, Tensor) else type(inputs)(moved(one, device) for one in inputs)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", FULL)
def test_full_size(name: str) -> None:
    assert_full_size(FULL[name], "cpu")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_opt_of_full_size_in_fp64() -> None:
    """Without rounding each ReLU is on in both models or in neither, so gradients agree up to the loss in fp32."""
    sizes = TinySizes(sam=SAM, opt=OptSizes(dropout=0.0))
    released = released_of(sizes)
    draw(released, seed=0)
    ours = ours_like(released).double()
    released.double()
    one = case(sizes, images=1, text=1000, seed=1)
    ids, mask, images, labels = released_batch([one], released)
    released(ids, mask, [image.double() for image in images], labels).loss.backward()
    total, *_ = ours(batch_of([[one]], ours))
    (total / one.supervised).backward()
    assert_same_gradients(released, ours, norms=1e-6, apart=1e-6)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device of 40 GB")
@pytest.mark.parametrize("sizes", [FULL["tiny"], ToySizes()], ids=["tiny", "whole toy"])
def test_full_size_on_a_gpu(sizes: ToySizes | TinySizes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # convolutions in fp32, as products are by default
    assert_full_size(sizes, "cuda")
