"""Measures have the same bytes whatever the number of threads and the processor."""

from __future__ import annotations

import os
import subprocess
import sys

_MEASURE = """
import numpy as np, PIL.Image
from datagen.pdf.audit.gates import measure
from datagen.pdf.page import Line, Page, Span
from varyforge.language import read

random = np.random.default_rng(7)
levels = (random.random((1400, 1024, 3)) ** 8 * 256).astype(np.uint8)
words = ["".join(chr(97 + int(code)) for code in random.integers(0, 26, size)) for size in random.integers(1, 9, 12000)]
lines = []
for number in range(200):
    text, y, length = " ".join(words[60 * number : 60 * number + 60]), 7.0 * number, 900 + 100 * random.random()
    box = (10.0, y, 10 + length, y + 6.3)
    lines.append(Line((Span(text, box, 6.1, "Serif", 0, bool(random.random() < 0.9)),), box))
page = Page(PIL.Image.fromarray(levels), tuple(lines), rasters=((100.0, 100.0, 600.0, 700.0),))
text = "\\n".join(line.text for line in lines)
print(len(text.split()), sorted(measure(page, text, read(text)).items()))
"""


def test_measures_do_not_depend_on_threads_or_processor() -> None:
    machines = ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "2"}, {"OPENBLAS_CORETYPE": "Haswell"})
    children = [
        subprocess.Popen([sys.executable, "-c", _MEASURE], env=os.environ | machine, stdout=subprocess.PIPE, text=True)
        for machine in machines
    ]
    first, *others = [child.communicate(timeout=60)[0] for child in children]
    assert first.startswith("12000 ")
    assert others == [first, first]
