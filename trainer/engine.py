"""DeepSpeed, wrapped to what the loop needs. The only module that imports deepspeed.

The engine's configuration is derived from the recipe here and nowhere else: precision, batch and ZeRO are stated once.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from pathlib import Path
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

from datagen.errors import UserError
from trainer.settings import EngineSettings

_BUCKET_ELEMENTS = 50_000_000  # 100 MB in 16 bits; DeepSpeed's default takes 1 GB of the card
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
    if settings.zero_stage not in (0, 1, 2):
        # Stage 3 gathers parameters module by module: a rank whose batch has no image would leave the others waiting.
        raise UserError(f"engine.zero_stage {settings.zero_stage}: one of 0, 1, 2")
    if settings.zero_stage == 0 and settings.precision != "fp32":
        # DeepSpeed's stage 0 makes its first 16-bit Adam update 0.744 times as large as it should be.
        raise UserError(f"engine.zero_stage 0 with engine.precision {settings.precision}: use stage 1, or fp32")
    if settings.offload_optimizer and settings.zero_stage < 1:
        raise UserError("engine.offload_optimizer needs engine.zero_stage 1 or 2")
    zero: dict[str, Any] = {"stage": settings.zero_stage, "reduce_bucket_size": _BUCKET_ELEMENTS}
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
    """A model under ZeRO: backward with accumulation, the update, sums over ranks, checkpoints."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        settings: EngineSettings,
        grad_clip: float | None,
    ) -> None:
        config = engine_config(settings, grad_clip)
        accelerator = get_accelerator()
        if settings.precision == "fp16" and accelerator.device_name() == "cpu":
            accelerator.is_fp16_supported = lambda: True  # slow, but the arithmetic is there: consumer recipes on a CPU
        # torch calls bf16 supported where it is only emulated (Pascal, Volta, Turing).
        emulated = torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0)
        if settings.precision == "bf16" and (emulated or not accelerator.is_bf16_supported()):
            raise UserError("engine.precision bf16: this device has no bf16; use fp16 or fp32")
        self._engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self.device = torch.device(self._engine.device)

    def __call__(self, *inputs: Any) -> Any:
        """The model's forward pass."""
        return self._engine(*inputs)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Adds the gradients of `loss`; after the `last` one of a step they are reduced over the ranks.

        DeepSpeed averages over ranks; the loop's losses are shares of a sum, hence the factor.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * comm.get_world_size(), scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float:
        """Updates the weights, unless a gradient is not finite.

        Returns:
            The global norm of the gradients before clipping.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        if self._engine.zero_optimization():
            self._engine.step()
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

    def total(self, values: Tensor) -> Tensor:
        """`values` summed over all ranks."""
        values = values.to(self.device)
        comm.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """`values` of each rank, (ranks, …)."""
        values = values.to(self.device)
        gathered = [torch.empty_like(values) for _ in range(comm.get_world_size())]
        comm.all_gather(gathered, values)
        return torch.stack(gathered)

    def barrier(self) -> None:
        """Waits for all ranks."""
        comm.barrier()

    def save(self, folder: Path) -> None:
        """Writes model, optimiser and loss scale; every rank calls it."""
        self._engine.save_checkpoint(str(folder.parent), tag=folder.name, save_latest=False)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote.

        Raises:
            UserError: it does not fit this model, number of ranks or ZeRO stage.
        """
        try:
            path, _ = self._engine.load_checkpoint(str(folder.parent), tag=folder.name)
        except Exception as error:  # DeepSpeed raises many kinds, asserts among them, for one user-facing cause
            raise UserError(
                f"{folder}: does not fit this run ({' '.join(str(error).split())[:300]}). Continue with the recipe, "
                "the number of ranks and the ZeRO stage it was saved with, or choose another out="
            ) from error
        if path is None:
            raise UserError(f"{folder}: no checkpoint that DeepSpeed can read; delete it to start from the one before")

    def state_dict(self) -> dict[str, Tensor]:
        """The whole model's weights, in the precision of training, where they are."""
        return dict(self._engine.module.state_dict())
