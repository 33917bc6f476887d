"""RapidOCR: PaddleOCR's models under onnxruntime, in this process. Its package holds the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from typing_extensions import override

from datagen.scan.engine import Engine, OcrLine, OcrWord
from varyforge.files import sha256_file

_SIZE, _DESCENT = 0.8, 0.15  # of a box's height: the font size, and the room below the baseline
_DOUBT = 2.0  # scores are nearer to 1 than tesseract's confidence where as many letters are wrong; this evens them out
_SIDEWAYS = 1.5  # height / width; the engine turns a higher box before it reads it


@dataclass(frozen=True, slots=True, kw_only=True)
class RapidOcr(Engine):
    """The models of the package `rapidocr`: Chinese, Japanese, English and other Latin languages at once."""

    side_px: int  # the longest side that is read without making the picture smaller

    @property
    @override
    def name(self) -> str:
        return f"rapidocr {version('rapidocr')}"

    @property
    @override
    def versions(self) -> Mapping[str, str]:
        models = {f"rapidocr {task.lower()}": sha256_file(path)[:12] for task, path in _models().items()}
        return {package: version(package) for package in ("rapidocr", "onnxruntime")} | models

    @override
    def read(self, picture: PIL.Image.Image) -> Sequence[OcrLine]:
        result = _reader(self.side_px)(np.asarray(picture.convert("RGB"))[:, :, ::-1])  # it expects BGR
        if result.boxes is None:
            return []
        return [_line(*each) for each in zip(result.txts, result.boxes, result.scores, strict=True)]


def _line(text: str, corners: Any, confidence: float) -> OcrLine:
    """Return the line of a box, whose corners go round from the upper left one."""
    x0, y0, x1, y1 = (float(edge) for edge in (*np.min(corners, axis=0), *np.max(corners, axis=0)))
    word = OcrWord(text.strip(), (x0, y0, x1, y1), max(1 - _DOUBT * (1 - float(confidence)), 0.0))
    if y1 - y0 > _SIDEWAYS * (x1 - x0):
        return OcrLine((word,), y1, max(_SIZE * (x1 - x0), 1.0), level=False)
    height = float(np.hypot(*(corners[3] - corners[0])))
    return OcrLine((word,), (y0 + y1) / 2 + (0.5 - _DESCENT) * height, max(_SIZE * height, 1.0))


@cache
def _reader(side_px: int) -> Any:
    """Return the reader with one thread, which keeps every line whatever its score."""
    from rapidocr import RapidOCR  # noqa: PLC0415  # an extra, and seconds to import

    settings = {
        "Global.text_score": 0.0,
        "Global.max_side_len": side_px,
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return RapidOCR(params=settings | {f"{task}.model_path": str(path) for task, path in _models().items()})


def _models() -> dict[str, Path]:
    """Return the models of the package by task."""
    import rapidocr  # noqa: PLC0415  # an extra

    folder = Path(rapidocr.__path__[0]) / "models"
    return {task: next(folder.glob(f"*_{task.lower()}_*.onnx")) for task in ("Det", "Cls", "Rec")}
