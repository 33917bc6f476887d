"""DeepSpeed, wrapped to what the loop needs. The only module that imports deepspeed.

The engine's configuration is derived from the recipe here and nowhere else: precision, batch and ZeRO are stated once.
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

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("DS_ALLOW_DEPRECATED_FP16", "1")  # Pascal cards (GTX 1080 Ti): storage type, slow but right
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")

import deepspeed
from deepspeed import comm
from deepspeed.accelerator import get_accelerator

from trainer.model import VisionLanguageModel
from trainer.settings import EngineSettings
from trainer.train.master_weights import masters_of
from varyforge.errors import UserError

_BUCKET_ELEMENTS = 50_000_000  # 100 MB in 16 bits; DeepSpeed's default takes 1 GB of the card
_PERSISTENT_ELEMENTS = 100_000  # stage 3 leaves smaller parameters whole, as DeepSpeed does by default
_SINGLE_PROCESS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


def start_distributed() -> tuple[int, int]:
    """Joins the process group that the launcher describes, or makes one of this process alone.

    Returns:
        (rank, world size).
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    if "RANK" not in os.environ:
        os.environ.update(_SINGLE_PROCESS)
    if not comm.is_initialized():
        # A shared-memory all-reduce that DeepSpeed would compile for over a minute; gloo does without.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        deepspeed.init_distributed(dist_init_required=True, verbose=False)
    return comm.get_rank(), comm.get_world_size()


def engine_config(settings: EngineSettings, grad_clip: float | None) -> dict[str, Any]:
    """DeepSpeed's own configuration.

    Raises:
        UserError: settings that do not go together.
    """
    if settings.zero_stage not in (0, 1, 2, 3):
        raise UserError(f"engine.zero_stage {settings.zero_stage}: one of 0, 1, 2, 3")
    if settings.zero_stage == 0 and settings.precision != "fp32":
        # DeepSpeed's stage 0 makes its first 16-bit Adam update 0.744 times as large as it should be.
        raise UserError(f"engine.zero_stage 0 with engine.precision {settings.precision}: use stage 1, or fp32")
    if settings.offload_optimizer and settings.zero_stage < 1:
        raise UserError("engine.offload_optimizer needs engine.zero_stage 1, 2 or 3")
    zero: dict[str, Any] = {"stage": settings.zero_stage, "reduce_bucket_size": _BUCKET_ELEMENTS}
    if settings.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = _PERSISTENT_ELEMENTS
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": 1,  # the loop says which micro-batch is the last of a step
        "gradient_clipping": grad_clip or 0.0,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW on the host: nothing to compile at the first start
        "zero_allow_untested_optimizer": True,
    }
    if settings.precision != "fp32":
        config[settings.precision] = {"enabled": True}
    return config


class Engine:
    """A model under ZeRO: backward with accumulation, the update, sums over ranks, and whole tensors to write out."""

    def __init__(
        self,
        model: VisionLanguageModel,
        optimizer: torch.optim.Optimizer,
        settings: EngineSettings,
        grad_clip: float | None,
    ) -> None:
        config = engine_config(settings, grad_clip)
        _check_precision(settings.precision)
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
        self.masters = masters_of(settings.zero_stage, self._engine.optimizer, list(self.trained.values()))

    def __call__(self, *inputs: Any) -> Any:
        """The model's forward pass."""
        return self._engine(*inputs)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the gradients of `loss`; after the `last` one of a step they are reduced over the ranks.

        DeepSpeed averages over ranks; the loop's losses are shares of a sum, hence the factor.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Updates the weights, unless a gradient is not finite.

        Returns:
            The global norm of the gradients before clipping.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        if self._engine.zero_optimization():
            self._engine.step()
            self._gather()
            norm = self._engine.get_global_grad_norm()
            return math.inf if norm is None else float(norm)  # infinite: DeepSpeed has left the update out
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]  # stage 0 keeps no norm
        total = float(torch.nn.utils.get_total_norm(gradients))
        if math.isfinite(total):
            self._engine.step()
        return total

    @property
    def skipped_updates(self) -> int:
        """Updates left out so far because an fp16 gradient overflowed (the loss scale was then lowered)."""
        return int(self._engine.skipped_steps)

    @skipped_updates.setter
    def skipped_updates(self, count: int) -> None:
        self._engine.skipped_steps = count

    def total(self, values: Tensor) -> Tensor:
        """`values` summed over all ranks."""
        values = values.to(self.device)
        comm.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """`values` of each rank, (ranks, …)."""
        values = values.to(self.device)
        gathered = [torch.empty_like(values) for _ in range(self.world_size)]
        comm.all_gather(gathered, values)
        return torch.stack(gathered)

    def barrier(self) -> None:
        """Waits for all ranks."""
        comm.barrier()

    def apply_masters(self) -> None:
        """Lets the model compute with the fp32 weights that were written into `masters`."""
        self.masters.apply()
        self._gather()

    def state_dict(self) -> dict[str, Tensor]:
        """The whole model's weights in the precision of training; every rank calls it, and the first one gets them.

        They are where they are; under stage 3 they are gathered one by one and copied to the host.
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
        """Stage 3 has cut up every parameter in its update; those of the vision side are needed whole."""
        if self._whole:
            self._whole[0].all_gather(self._whole)


class _Partitioned(nn.Module):
    """What ZeRO 3 sees of a model: language model, connectors and joint as modules, encoders as bare parameters.

    ZeRO 3 gathers a module's parameters on all ranks when its forward or backward pass begins, so every rank has to run
    the same modules in the same order. A rank without an image runs no encoder. Encoders are therefore none of its
    modules: frozen ones it does not know at all, and of those that train it has the parameters, to share out gradients
    and optimiser state; the weights themselves are kept whole on every rank.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__()
        self.language = model.language
        self.connectors = model.connectors
        self.joint = model.joint
        self.vision = nn.ParameterList(p for p in model.encoders.parameters() if p.requires_grad)
        self._hidden = (model,)  # in a tuple: not a submodule

    def forward(self, *inputs: Any) -> Any:
        return self._hidden[0](*inputs)

    def keep_vision(self, device: torch.device) -> list[Any]:
        """Moves what ZeRO does not know to where the rest is, and names what is to be whole between updates."""
        (model,) = self._hidden
        # Used outside its module (`loss.py`), in forward and backward: whole while the model as a whole runs.
        deepspeed.zero.register_external_parameter(self, model.language.head)
        known = set(self.vision)
        dtype = next(iter(self.language.parameters())).dtype
        for parameter in model.encoders.parameters():
            if parameter not in known:
                parameter.data = parameter.data.to(device, dtype)
        for buffer in model.encoders.buffers():
            buffer.data = buffer.data.to(device)
        return list(self.vision)


def _check_precision(precision: str) -> None:
    """Raises UserError for a precision that this device has not."""
    accelerator = get_accelerator()
    if precision == "fp16" and accelerator.device_name() == "cpu":
        accelerator.is_fp16_supported = lambda: True  # slow, but the arithmetic is there: consumer recipes on a CPU
    # torch calls bf16 supported where it is only emulated (Pascal, Volta, Turing).
    emulated = torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0)
    if precision == "bf16" and (emulated or not accelerator.is_bf16_supported()):
        raise UserError("engine.precision bf16: this device has no bf16; use fp16 or fp32")


def _digests(model: VisionLanguageModel) -> dict[str, str]:
    """SHA-256 of the frozen weights of each part that has some, before they are cast."""
    digests: dict[str, Any] = defaultdict(hashlib.sha256)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            part = ".".join(name.split(".")[: 1 if name.startswith("language.") else 2])
            digests[part].update(name.encode())
            digests[part].update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return {part: digest.hexdigest() for part, digest in digests.items()}
