"""The audit of an OCR label: confidence, agreement with a hidden layer, and the measures of the audit of PDF pages."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datagen.pdf.audit import gates as pdf
from datagen.pdf.text.glyphs import UNSPACED
from datagen.scan.engine import OcrLine
from varyforge.outcome import Rejected

OWN_MEASURES = (
    "layer",  # 1 where the PDF's text layer passes its audit
    "lines",  # number of lines that the engine read
    "confidence",  # mean over the characters of the page, 0 to 1
    "line_confidence",  # of the line that the engine is least sure of
    "agreement",  # share of words that the hidden text layer and OCR have in common
    "confirmed",  # 1 where the label is that of a hidden layer which OCR confirms
)
MEASURES = (*OWN_MEASURES, *pdf.MEASURES)
"""Names of the measures, which are columns of ledger and index. Those of `datagen.pdf` are of the label."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanGates(pdf.PageGates):
    """The thresholds of a page: those of OCR, which are checked first, then those of PDF pages."""

    max_layer: float = 0.0  # a page whose text layer passes the audit is for datagen.pdf; 1 reads it, too
    min_confidence: float = 0.85
    min_line_confidence: float = 0.5  # one line in doubt costs the page: no line is ever left out
    max_text_in_images: float = 0.2  # letters that the engine did not read, estimated from the ink

    def __post_init__(self) -> None:
        for name in ("min_confidence", "min_line_confidence", "max_text_in_images"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"gates.{name} is a share from 0 to 1, not {getattr(self, name)}")


_OWN_GATES = {  # threshold → measure, and the meaning of a rejected value
    "max_layer": ("layer", "the page has a text layer that passes the audit; datagen.pdf reads it"),
    "min_confidence": ("confidence", "the engine is not sure of the page"),
    "min_line_confidence": ("line_confidence", "the engine is not sure of a line"),
}


def judge_scan(measures: Mapping[str, float], language: str, gates: ScanGates) -> Rejected | None:
    """Return the rejection by the first gate that the page does not pass, or None.

    The confidence of a page that two engines read alike does not matter. A page without letters has none.
    """
    for gate, (name, meaning) in _OWN_GATES.items():
        value, threshold = measures[name], getattr(gates, gate)
        if gate != "max_layer" and (measures["confirmed"] or not measures["lines"]):
            continue
        if value < threshold if gate.startswith("min_") else value > threshold:
            return Rejected(gate=gate, value=value, threshold=threshold, detail=meaning)
    return pdf.judge(measures, language, gates)


def confidences(lines: Sequence[OcrLine]) -> dict[str, float]:
    """Return the measures of the engine's confidence; zeros for a page without lines."""
    if not lines:
        return {}
    characters = [sum(len(word.text) for word in line.words) for line in lines]
    total = sum(line.confidence * count for line, count in zip(lines, characters, strict=True))
    return {
        "lines": float(len(lines)),
        "confidence": total / sum(characters),
        "line_confidence": min(line.confidence for line in lines),
    }


def agreement(text: str, other: str) -> float:
    """Return the share of words that two readings of a page have in common: 2 × common ÷ all, 0 to 1.

    A word is a run of letters and digits, or a Chinese, Japanese or Thai character. Case and order do not matter.
    """
    words, others = (Counter(_WORD.findall(unicodedata.normalize("NFKC", one).casefold())) for one in (text, other))
    return 2 * (words & others).total() / max(words.total() + others.total(), 1)
