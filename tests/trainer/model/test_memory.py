"""Peak memory: encoders in chunks, recomputed activations, and gradient checkpointing by part."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trainer.model.test_model import CLIP, SAM, tiny_batch, tiny_build, tiny_settings
from trainer.model import chunked_encoder
from trainer.model.encoders.base import VisionEncoder
from trainer.model.precision import dtype_of
from trainer.model.recompute import checkpointed, recompute
from trainer.model.registry import ENCODERS


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    yield
    torch.set_flush_denormal(False)


# --- encoders in chunks


def make(kind: str) -> tuple[VisionEncoder, list[int]]:
    """Return a trained encoder, and a list of the number of images in each call."""
    encoder, _ = ENCODERS[kind].build({"sam": SAM, "clip": CLIP}[kind], None, "sdpa")
    calls: list[int] = []
    encoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    return encoder.train(), calls


def pictures(encoder: VisionEncoder, count: int) -> Tensor:
    return torch.randint(256, (count, encoder.preprocess.size, encoder.preprocess.size, 3), dtype=torch.uint8)


def allow(monkeypatch: pytest.MonkeyPatch, encoder: VisionEncoder, images: float) -> None:
    """Set the memory of a chunk to that of so many images in the encoder's precision."""
    itemsize = next(encoder.parameters()).dtype.itemsize
    image_bytes = 3 * encoder.preprocess.size**2 * encoder.numbers_per_pixel * itemsize
    monkeypatch.setattr(chunked_encoder, "_CHUNK_BYTES", images * image_bytes)


@pytest.mark.parametrize("kind", ["sam", "clip"])
@pytest.mark.parametrize(("images", "chunks"), [(5, [5]), (3, [3, 2]), (2.5, [2, 2, 1]), (0.1, [1, 1, 1, 1, 1])])
def test_an_encoder_takes_as_many_images_at_once_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch, kind: str, images: float, chunks: list[int]
) -> None:
    encoder, calls = make(kind)
    pixels = pictures(encoder, 5)
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    whole = encoder(encoder.preprocess.normalise(pixels, trained[0].dtype))
    upstream = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, trained, upstream)

    allow(monkeypatch, encoder, images)
    calls.clear()
    features = chunked_encoder.encode(encoder, pixels)
    assert calls == chunks
    torch.testing.assert_close(features, whole, rtol=1e-5, atol=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for actual, target in zip(torch.autograd.grad(features, trained, upstream), expected, strict=True):
        torch.testing.assert_close(actual, target, rtol=0, atol=1e-6 * largest)

    calls.clear()
    encoder.requires_grad_(False)
    frozen = chunked_encoder.encode(encoder, pixels)
    assert calls == chunks and not frozen.requires_grad
    torch.testing.assert_close(frozen, whole, rtol=1e-5, atol=1e-5)


def test_sixteen_bits_take_twice_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, calls = make("clip")
    allow(monkeypatch, encoder, 2)
    encoder.to(dtype_of("bf16")).requires_grad_(False)
    assert chunked_encoder.encode(encoder, pictures(encoder, 4)).dtype == dtype_of("bf16")
    assert calls == [4]


@pytest.mark.parametrize("frozen", [True, False])
def test_pixels_of_all_images_are_never_numbers_at_once(monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    encoder, _ = make("sam")
    encoder.requires_grad_(not frozen)
    allow(monkeypatch, encoder, 1)
    pixels = pictures(encoder, 6)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            built = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.is_floating_point()]
            largest = max([largest, *(tensor.numel() for tensor in built)])
            return result

    with Watch():
        chunked_encoder.encode(encoder, pixels)
    assert pixels[0].numel() <= largest < 2 * pixels[0].numel()


def test_recomputing_one_chunk_holds_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk's activations are freed before the next chunk's are computed."""
    encoder, _ = make("sam")
    encoder.enable_gradient_checkpointing()
    allow(monkeypatch, encoder, 1)
    features = chunked_encoder.encode(encoder, pictures(encoder, 3))
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def count(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal most
        alive.append(weakref.ref(output))
        most = max(most, sum(each() is not None for each in alive))

    encoder.blocks[0].mlp.lin1.register_forward_hook(count)
    features.sum().backward()
    assert len(alive) == 3 and most == 1


def test_gradients_of_a_chunk_are_added_up_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a chunk's backward pass its first gradient is already added to the sum."""
    encoder, _ = make("sam")
    allow(monkeypatch, encoder, 1)
    features = chunked_encoder.encode(encoder, pictures(encoder, 3))
    of_first: set[StorageWeakRef] = set()
    held: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if function is torch.ops.aten.convolution_backward.default:
                shapes = [built.shape if built is not None else None for built in result]
                if encoder.patch_embed.proj.weight.shape in shapes:
                    held.append(len({ref.cdata for ref in of_first if not ref.expired()}))
            built = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.shape == encoder.net_3.weight.shape]
            of_first.update(StorageWeakRef(t.untyped_storage()) for t in built if t.data_ptr() != weight)
            return result

    weight = encoder.net_3.weight.data_ptr()
    with Watch():
        features.sum().backward()
    assert held == [1, 1, 1]


def test_a_frozen_encoder_keeps_its_own_precision() -> None:
    model, _ = tiny_build(tiny_settings("qwen2", frozen=True))
    batch = tiny_batch(model, [1, 0])
    _, expected, _ = model(batch)
    model.encoders.to(dtype_of("bf16"))
    total, losses, _ = model(batch)
    total.backward()
    torch.testing.assert_close(losses, expected, atol=0.02, rtol=0)
    assert model.connectors["vary"].weight.grad.dtype == dtype_of("fp32")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sam_has_no_map_of_all_pairs_and_a_fused_kernel(precision: str) -> None:
    """With 576 patches no tensor has 576 × 576 numbers: no scores, no bias, and none of their gradients."""
    config = {**SAM, "image_size": 192, "patch_size": 8, "width": 16, "heads": 2, "depth": 2, "global_layers": [1]}
    encoder, _ = ENCODERS["sam"].build(config, None, "sdpa")
    encoder.to(dtype_of(precision)).train()
    largest, kernels = 0, set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            built = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
            largest = max([largest, *(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in built)])
            if "scaled_dot_product" in str(function):
                kernels.add(str(function))
            return result

    with Watch():
        encoder(torch.randn(1, 3, 192, 192, dtype=dtype_of(precision))).sum().backward()
    assert largest < 576**2
    assert kernels and all("flash" in kernel for kernel in kernels)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("backend", "precision"), [(SDPBackend.FLASH_ATTENTION, "bf16"), (SDPBackend.EFFICIENT_ATTENTION, "fp32")]
)
def test_fused_kernels_of_a_gpu_take_sams_fields(backend: SDPBackend, precision: str) -> None:
    """Windows and whole images have SAM-B's size, with 96 and 192 channels per head, forward and backward."""
    config = {"width": 128, "heads": 2, "depth": 2, "global_layers": [1], "neck": 16, "conv_channels": [24, 32]}
    encoder, _ = ENCODERS["sam"].build(config, None, "sdpa")
    for block in encoder.blocks:
        nn.init.normal_(block.attn.rel_pos_h, std=0.1), nn.init.normal_(block.attn.rel_pos_w, std=0.1)
    pixels = torch.randn(1, 3, 1024, 1024)
    expected = encoder(pixels).detach()
    encoder.to("cuda", dtype_of(precision))
    with sdpa_kernel(backend):  # and no other: an error where it does not take them
        actual = encoder(pixels.to("cuda", dtype_of(precision)))
        actual.sum().backward()
    error = (actual.detach().float().cpu() - expected).norm() / expected.norm()
    assert error < (0.05 if precision == "bf16" else 5e-3)
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


# --- activations made again


def test_a_rebuilt_activation_is_not_kept() -> None:
    x, weight = torch.randn(6, 8, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    expected = torch.autograd.grad(F.linear(F.gelu(x), weight).square().sum(), [x, weight])
    built: list[int] = []

    def active() -> Tensor:
        built.append(1)
        return F.gelu(x)

    hidden = active()
    gone = weakref.ref(hidden)
    with recompute((hidden, active)):
        out = F.linear(hidden.view(2, 3, 8), weight)  # which keeps another view of it
    del hidden
    gc.collect()
    assert gone() is None
    actual = torch.autograd.grad(out.square().sum(), [x, weight])
    assert len(built) == 2
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_forward_pass_without_a_backward_pass_leaves_nothing_behind(checkpointing: bool) -> None:
    """Attention saves its own output. Saved with its graph, the output would keep itself alive for ever."""
    encoder, _ = make("sam")
    if checkpointing:
        encoder.enable_gradient_checkpointing()
    alive: list[StorageWeakRef] = []
    encoder.patch_embed.register_forward_hook(lambda *args: alive.append(StorageWeakRef(args[2].untyped_storage())))
    for block in encoder.blocks:
        block.mlp.lin1.register_forward_hook(lambda *args: alive.append(StorageWeakRef(args[2].untyped_storage())))
    features = chunked_encoder.encode(encoder, pictures(encoder, 2))
    del features
    gc.collect()
    assert alive and all(ref.expired() for ref in alive)


def test_what_is_not_named_is_kept_as_ever() -> None:
    x, other = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    twice = 2 * x
    with recompute((twice, lambda: 2 * x)):
        out = twice * other.exp()
    actual = torch.autograd.grad(out.sum(), [x, other])
    assert torch.equal(actual[0], 2 * other.exp())
    assert torch.equal(actual[1], 2 * x * other.exp())


def kept_numbers(run: Callable[[], Any], without: nn.Module) -> int:
    """Return the number of floats that autograd saves for a backward pass through `run()`, without parameters."""
    known = {parameter.data_ptr() for parameter in without.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known and tensor.is_floating_point():
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.itemsize
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    assert result is not None  # alive until here, so that no memory is used, and counted, twice
    return sum(saved.values())


def test_what_a_block_of_sam_keeps() -> None:
    """A block saves its input, q, k, v, attention's wide output, the sum after attention, and the GELU's input."""
    encoder, _ = make("sam")
    block = encoder.blocks[1]  # attends over the whole image: 64 patches of 32 channels, 2 heads
    x = torch.randn(1, 8, 8, 32, requires_grad=True)
    held: list[Tensor] = []
    hooks = torch.autograd.graph.saved_tensors_hooks

    class Spy(hooks):
        """Count also the tensors that pass through the hooks of `recompute`."""

        def __init__(self, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> None:
            def note(tensor: Tensor) -> Any:
                saved = pack(tensor)
                if isinstance(saved, Tensor):
                    held.append(saved)
                return saved

            super().__init__(note, unpack)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd.graph, "saved_tensors_hooks", Spy)
        with Spy(lambda tensor: tensor, lambda tensor: tensor):
            out = block(x)
    assert out.requires_grad
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() // t.itemsize for t in held}
    large = sorted(size for place, size in sizes.items() if place not in own and size >= 64 * 32)
    channels = [32, 32, 3 * 32, 2 * 32, 4 * 32]  # wide: 16 channels of a head and 2 × 8 places
    assert large == sorted(64 * count for count in channels)


def test_a_recomputed_block_keeps_its_input_and_rebuilds_nothing_beside() -> None:
    encoder, _ = make("sam")
    block = encoder.blocks[1]
    x = torch.randn(1, 8, 8, 32, requires_grad=True)
    expected = torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()])
    assert kept_numbers(lambda: checkpointed(block, x), block) <= x.numel()
    actual = torch.autograd.grad(checkpointed(block, x).square().sum(), [x, *block.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


# --- gradient checkpointing per part


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("chosen", ["clip", "vary", "language"])
def test_each_part_can_say_whether_it_is_recomputed(chosen: str, default: bool) -> None:
    def with_choice(choice: bool | None) -> dict[str, int]:
        """Return the number of floats that each part's forward pass saves."""
        settings = tiny_settings("qwen2")
        if chosen == "language":
            language = dataclasses.replace(settings.language, gradient_checkpointing=choice)
            settings = dataclasses.replace(settings, language=language)
        else:
            encoder = dataclasses.replace(settings.vision[chosen], gradient_checkpointing=choice)
            settings = dataclasses.replace(settings, vision={**settings.vision, chosen: encoder})
        model, _ = tiny_build(settings, gradient_checkpointing=default)
        batch = tiny_batch(model, [2])
        saved = {
            name: kept_numbers(partial(chunked_encoder.encode, encoder, batch.pixels[name]), encoder)
            for name, encoder in model.encoders.items()
        }
        embeddings = torch.randn(*batch.input_ids.shape, 32, requires_grad=True)
        return saved | {
            "language": kept_numbers(
                lambda: model.language.hidden_states(embeddings, batch.positions, batch.lengths), model.language
            )
        }

    open_, same, other = with_choice(None), with_choice(default), with_choice(not default)
    assert open_ == same
    for part, numbers in open_.items():
        if part != chosen:
            assert other[part] == numbers
        elif default:
            assert other[part] > 1.2 * numbers
        else:
            assert numbers > 1.2 * other[part]


def test_a_frozen_part_is_not_recomputed() -> None:
    settings = tiny_settings("qwen2", frozen=True)
    clip = dataclasses.replace(settings.vision["clip"], gradient_checkpointing=True)
    vision = {**settings.vision, "clip": clip}
    with pytest.raises(ValueError, match=r"model.vision.clip.gradient_checkpointing: only for a part that trains"):
        tiny_build(dataclasses.replace(settings, vision=vision))
