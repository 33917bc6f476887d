"""DeepSpeed behind the few operations that the loop needs. No other module imports deepspeed.

DeepSpeed's configuration is derived from the recipe here, so precision, batch and ZeRO stage are stated only once.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import warnings
from collections import defaultdict
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_ALLOW_DEPRECATED_FP16", "1")  # for Pascal cards (GTX 1080 Ti), which have no fast fp16
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")

import deepspeed
from deepspeed import comm
from deepspeed.accelerator import get_accelerator

from trainer.model.vlm import VisionLanguageModel
from trainer.settings import EngineSettings
from trainer.train.master_weights import master_weights_of
from varyforge.errors import UserError

_BUCKET_ELEMENTS = 50_000_000  # 100 MB in 16 bits; DeepSpeed's default takes 1 GB of GPU memory
_PERSISTENT_ELEMENTS = 100_000  # stage 3 leaves smaller parameters whole; DeepSpeed has the same default
_SINGLE_PROCESS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


def start_distributed() -> tuple[int, int]:
    """Join the process group that the launcher describes, or create one. Return (rank, world size)."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if "RANK" not in os.environ:
        os.environ.update(_SINGLE_PROCESS)
    if not comm.is_initialized():
        # Without this DeepSpeed compiles a shared-memory all-reduce for over a minute, which gloo does not need.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_init_required=True, verbose=False)
    return comm.get_rank(), comm.get_world_size()


def engine_config(settings: EngineSettings, grad_clip: float | None) -> dict[str, Any]:
    """Return DeepSpeed's own configuration."""
    zero: dict[str, Any] = {"stage": settings.zero_stage, "reduce_bucket_size": _BUCKET_ELEMENTS}
    if settings.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = _PERSISTENT_ELEMENTS
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": 1,  # the loop marks the last micro-batch of a step
        "gradient_clipping": grad_clip or 0.0,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW on the host needs no compilation
        "zero_allow_untested_optimizer": True,
    }
    if settings.precision != "fp32":
        config[settings.precision] = {"enabled": True}
    return config


class Engine:
    """A model under ZeRO: backward pass with accumulation, update, sums over ranks, and whole tensors to save."""

    def __init__(
        self,
        model: VisionLanguageModel,
        optimizer: torch.optim.Optimizer,
        settings: EngineSettings,
        grad_clip: float | None,
    ) -> None:
        config = engine_config(settings, grad_clip)
        check_precision(settings.precision)
        self._model = model
        self.trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.shapes = {name: tuple(p.shape) for name, p in self.trained.items()}
        self.frozen = _digests(model)
        module = _Partitioned(model) if settings.zero_stage == 3 else model
        self._engine, _, _, _ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
        self.device = torch.device(self._engine.device)
        self.rank, self.world_size = comm.get_rank(), comm.get_world_size()
        self._whole = module.keep_vision(self.device) if isinstance(module, _Partitioned) else []
        self._gather()
        self.master_weights = master_weights_of(
            settings.zero_stage, self._engine.optimizer, list(self.trained.values())
        )

    def __call__(self, *inputs: Any) -> Any:
        """Run the model's forward pass."""
        return self._engine(*inputs)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of `loss`. After the `last` micro-batch of a step reduce them over the ranks.

        DeepSpeed averages over ranks, but the loop's losses are shares of a sum: hence the factor `world_size`.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Update the weights, unless a gradient is not finite. Return the global gradient norm before clipping."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        if self._engine.zero_optimization():
            self._engine.step()
            self._gather()
            norm = self._engine.get_global_grad_norm()
            return math.inf if norm is None else float(norm)  # None: DeepSpeed has skipped the update
        # Stage 0 does not record the norm.
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        total = float(torch.nn.utils.get_total_norm(gradients))
        if math.isfinite(total):
            self._engine.step()
        return total

    @property
    def skipped_updates(self) -> int:
        """Number of updates skipped because an fp16 gradient overflowed; each time the loss scale was lowered."""
        return int(self._engine.skipped_steps)

    @skipped_updates.setter
    def skipped_updates(self, count: int) -> None:
        self._engine.skipped_steps = count

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all ranks."""
        values = values.to(self.device)
        comm.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """Return the `values` of all ranks, (ranks, …)."""
        values = values.to(self.device)
        gathered = [torch.empty_like(values) for _ in range(self.world_size)]
        comm.all_gather(gathered, values)
        return torch.stack(gathered)

    def barrier(self) -> None:
        """Wait for all ranks."""
        comm.barrier()

    def apply_master_weights(self) -> None:
        """Copy the fp32 weights that were written into `master_weights` into the model."""
        self.master_weights.apply()
        self._gather()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the whole model's weights on rank 0, in the precision of training. Every rank calls this function.

        The tensors stay on their device. Stage 3 gathers the parameters one by one and copies them to the host.
        """
        state: dict[str, Tensor] = {}
        copies: dict[Tensor, Tensor] = {}  # a tied parameter is one tensor under several names
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            with deepspeed.zero.GatheredParameters([tensor]) if hasattr(tensor, "ds_id") else nullcontext():
                if self.rank:
                    continue
                if hasattr(tensor, "ds_id") and tensor not in copies:
                    copies[tensor] = tensor.detach().cpu().clone()
            state[name] = copies.get(tensor, tensor.detach())
        self._gather()
        return state

    def _gather(self) -> None:
        """Gather the encoders' parameters, which stage 3 partitions in its update but the model needs whole."""
        if self._whole:
            self._whole[0].all_gather(self._whole)


class _Partitioned(nn.Module):
    """A model as ZeRO 3 sees it: language model, connectors and joint as modules, encoders as bare parameters.

    ZeRO 3 gathers a module's parameters on all ranks when the module's forward or backward pass begins, so every rank
    has to run the same modules in the same order. A rank without an image runs no encoder. Encoders are therefore not
    submodules. The parameters of trained encoders are registered, so ZeRO partitions their gradients and optimiser
    state; the weights stay whole on every rank. Frozen encoders are not registered.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        self.language = model.language
        self.connectors = model.connectors
        self.joint = model.joint
        self.vision = nn.ParameterList(p for p in model.encoders.parameters() if p.requires_grad)
        self._hidden = (model,)  # in a tuple: not a submodule

    @override
    def forward(self, *inputs: Any) -> Any:
        return self._hidden[0](*inputs)

    def keep_vision(self, device: torch.device) -> list[Any]:
        """Move frozen encoders to `device`; return the parameters that must be whole between updates."""
        (model,) = self._hidden
        # The head is used outside its module (loss.py), so it has to be whole while any part of the model runs.
        deepspeed.zero.register_external_parameter(self, model.language.head)
        known = set(self.vision)
        dtype = next(iter(self.language.parameters())).dtype
        for parameter in model.encoders.parameters():
            if parameter not in known:
                parameter.data = parameter.data.to(device, dtype)
        for buffer in model.encoders.buffers():
            buffer.data = buffer.data.to(device)
        return list(self.vision)


def check_precision(precision: str) -> None:
    """Raise UserError for a precision that this device lacks. Allow fp16 on a CPU, which is slow but correct."""
    accelerator = get_accelerator()
    if precision == "fp16" and accelerator.device_name() == "cpu":
        accelerator.is_fp16_supported = lambda: True
    # torch also calls bf16 supported where it is only emulated (Pascal, Volta, Turing).
    emulated = torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0)
    if precision == "bf16" and (emulated or not accelerator.is_bf16_supported()):
        raise UserError("engine.precision bf16: this device has no bf16; use fp16 or fp32")


def _digests(model: VisionLanguageModel) -> dict[str, str]:
    """Return the SHA-256 of the frozen weights by part. Called before the weights are cast to the run's precision."""
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            part = ".".join(name.split(".")[: 1 if name.startswith("language.") else 2])
            digests[part].update(name.encode())
            digests[part].update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return {part: digest.hexdigest() for part, digest in digests.items()}
