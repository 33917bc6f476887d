"""RapidOCR: PaddleOCR's models under onnxruntime, in this process. Its package holds the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from typing_extensions import override

from datagen.pdf.text.glyphs import IS_UNSPACED
from datagen.scan.engine import Engine, OcrLine, OcrWord
from varyforge.files import sha256_file

_SIZE, _DESCENT = 0.8, 0.15  # of a box's height: the font size, and the room below the baseline
_DOUBT = 2.0  # scores are nearer to 1 than tesseract's confidence where as many letters are wrong; this evens them out
_NARROW = 0.45  # font sizes; the width of a letter that is not Chinese
_FILLED = 0.4  # share of the box that a text fills at least, also with wide spaces
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
        return [line_of(*each) for each in zip(result.txts, result.boxes, result.scores, strict=True)]


def line_of(text: str, corners: npt.NDArray[np.float32], score: float) -> OcrLine:
    """Return the line of a box, whose corners (4, 2) go round from the upper left one.

    The models leave out letters of a script that they do not know, and are sure of the rest. So the confidence of a
    text that fills too little of its box is lowered.
    """
    x0, y0, x1, y1 = (float(edge) for edge in (*np.min(corners, axis=0), *np.max(corners, axis=0)))
    level = len(text.strip()) == 1 or y1 - y0 <= _SIDEWAYS * (x1 - x0)
    length, height = (float(np.hypot(*(corners[n] - corners[0]))) for n in ((1, 3) if level else (3, 1)))
    size = max(_SIZE * height, 1.0)
    natural = sum(1.0 if IS_UNSPACED.match(char) else _NARROW for char in text) * size
    filled = min(natural / (_FILLED * max(length, 1.0)), 1.0)
    confidence = max(1 - _DOUBT * (1 - float(score)), 0.0) * filled
    word = OcrWord(text.strip(), (x0, y0, x1, y1), confidence)
    return OcrLine((word,), (y0 + y1) / 2 + (0.5 - _DESCENT) * height if level else y1, size, level)


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
