"""The fp32 weights and Adam's moments of the trained parameters, one parameter at a time, under any ZeRO stage.

A parameter's state has three tensors, KINDS, in fp32 and in the parameter's shape. Reading or writing one of them is a
collective operation: every rank does it, for the same parameters in the same order. It takes the memory of that one
tensor on the parameter's device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = ("weight", *MOMENTS)
_SCALER = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")  # state of DeepSpeed's dynamic loss scale


class MasterWeights:
    """The state at ZeRO stage 0: every rank has all of it, and the model computes with these weights themselves."""

    def __init__(self, optimizer: Any, parameters: list[nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._adam: torch.optim.AdamW = getattr(optimizer, "optimizer", optimizer)  # inside ZeRO's, or itself
        self._parameters = parameters

    def read(self, parameter: nn.Parameter, kind: str) -> Tensor:
        """Return the whole tensor, which must not be written to."""
        return parameter.data if kind == "weight" else self._adam.state[parameter][kind]

    def write(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        """Copy this rank's part of `value`, the whole tensor on any device."""
        self.read(parameter, kind).copy_(value)

    def apply(self) -> None:
        """Copy the written weights into the model's own, where they differ from the master weights."""

    @property
    def step(self) -> int:
        """Number of updates, which Adam's bias correction depends on."""
        steps = {int(self._adam.state[tensor]["step"]) for tensor in self._tensors()}
        assert len(steps) == 1, steps  # every parameter has a gradient in every step
        return steps.pop()

    def prepare(self, step: int | None = None) -> None:
        """Create missing moments as zeros, as Adam starts. With `step`, set the number of updates."""
        for tensor in self._tensors():
            state = self._adam.state[tensor]
            if not state:
                state["step"] = torch.zeros((), device=tensor.device)
                state.update({kind: torch.zeros_like(tensor) for kind in MOMENTS})
            if step is not None:
                state["step"].fill_(step)

    @property
    def loss_scale(self) -> dict[str, float]:
        """The state of a dynamic loss scale, empty without one."""
        scaler = getattr(self._optimizer, "loss_scaler", None)
        return {name: getattr(scaler, name) for name in _SCALER} if scaler is not None and scaler.dynamic else {}

    @loss_scale.setter
    def loss_scale(self, state: dict[str, float]) -> None:
        for name in self.loss_scale.keys() & state.keys():
            setattr(self._optimizer.loss_scaler, name, state[name])

    def _tensors(self) -> list[Tensor]:
        """Return the tensors that torch's optimiser updates."""
        return list(self._parameters)


class _Fragments(MasterWeights):
    """The state at stages 1 and 2: a rank has a range of all parameters laid end to end."""

    @override
    def read(self, parameter: Any, kind: str) -> Tensor:
        whole: Tensor = parameter.get_full_hp_param(None if kind == "weight" else kind)
        return whole

    @override
    def write(self, parameter: Any, kind: str, value: Tensor) -> None:
        parameter.set_full_hp_param(value, None if kind == "weight" else kind)

    @override
    def apply(self) -> None:
        self._optimizer.update_lp_params()

    @override
    def prepare(self, step: int | None = None) -> None:
        super().prepare(step)
        # DeepSpeed finds only moments that it has linked. It links once, after the first update of the first parameter
        # group, when the other groups have no moments yet. So it has to link again here.
        self._optimizer._hp_optimizer_states_linked = False
        self._optimizer._lazy_init_hp_params_optimizer_state()

    @override
    def _tensors(self) -> list[Tensor]:
        return list(self._optimizer.single_partition_of_fp32_groups)


class _Partitions(MasterWeights):
    """The state at stage 3: a rank has a range of each parameter, padded to the same length on all ranks."""

    @override
    def read(self, parameter: Any, kind: str) -> Tensor:
        whole: Tensor = self._optimizer.get_full_hp_param(parameter, None if kind == "weight" else kind)
        return whole

    @override
    def write(self, parameter: Any, kind: str, value: Tensor) -> None:
        size = parameter.partition_numel()
        own = value.flatten()[size * parameter.ds_zero_partition_rank :][:size]
        # DeepSpeed's own way to set a whole tensor fails where the last partition has padding.
        padded = nn.functional.pad(own, (0, size - len(own)))
        self._optimizer.set_local_hp_param(padded, parameter, None if kind == "weight" else kind)

    @override
    def apply(self) -> None:
        optimizer = self._optimizer
        optimizer.checkpoint_event_prologue()  # releases whole parameters, which still have the old weights
        for number in range(len(optimizer.fp16_groups)):
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        optimizer.checkpoint_event_epilogue()

    @override
    def _tensors(self) -> list[Tensor]:
        return list(self._optimizer.fp32_partitioned_groups_flat)


def master_weights_of(stage: int, optimizer: Any, parameters: list[nn.Parameter]) -> MasterWeights:
    """Return access to the state of DeepSpeed's `optimizer` over `parameters` at a ZeRO stage."""
    kind = (MasterWeights, _Fragments, _Fragments, _Partitions)[stage]
    return kind(optimizer, parameters)
