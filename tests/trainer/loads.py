"""Loading functions for the pool's tests. Light, for each pool imports this in a fresh interpreter."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DoAsTold:
    """Items are (what to do, a number or a path)."""

    def __call__(self, item: tuple[str, Any]) -> Any:
        what, about = item
        return getattr(self, what)(about)

    def pixels(self, size: int) -> dict[str, Any]:
        return {"pid": os.getpid(), "first": np.full(size // 2, size % 251, np.uint8), "ids": np.arange(3)}

    def text(self, length: int) -> list[int]:
        return list(range(length))

    def no_pixels(self, size: int) -> list[np.ndarray]:
        return [np.zeros((0, size, 3), np.uint8), np.ones(2)]

    def wait_for_ever(self, _: int) -> None:
        time.sleep(1e6)

    def wait_once(self, path: str) -> str:
        """The first time it ends its worker's life."""
        if not Path(path).exists():
            Path(path).touch()
            os._exit(7)
        return path

    def spin(self, seconds: float) -> tuple[int, int]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return os.getpid(), os.getppid()

    def abort(self, _: int) -> None:
        os.abort()

    def kill(self, number: int) -> None:
        os.kill(os.getpid(), number)

    def raise_value_error(self, text: str) -> None:
        raise ValueError(text)

    def raise_key_error(self, text: str) -> None:
        raise KeyError(text)

    def raise_user_error(self, text: str) -> None:
        from varyforge.errors import UserError

        raise UserError(text)

    def surroundings(self, _: int) -> dict[str, Any]:
        return {
            "cuda": os.environ["CUDA_VISIBLE_DEVICES"],
            "threads": os.environ["OMP_NUM_THREADS"],
            "pid": os.getpid(),
            "server": os.getppid(),
        }


@dataclass(frozen=True)
class CannotStart:
    """Fails, or sleeps, where a worker is set up."""

    sleep_s: float = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        time.sleep(state["sleep_s"])
        raise RuntimeError("no such tokenizer")

    def __call__(self, item: object) -> object:
        return item
