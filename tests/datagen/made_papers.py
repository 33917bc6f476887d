"""Small documents for the tests of typesetting: written here, in LaTeX and Markdown, English and Chinese."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

ENGLISH = "We measure how the yield of a reactor depends on pressure and show that the simple law holds well. "
CHINESE = "我们测量反应器的产率如何随压力变化，并说明简单的规律在很大范围内成立。实验结果与理论一致。"


def latex(body: str, preamble: str = "") -> str:
    """A document around a body."""
    return f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"


def write_project(folder: Path, files: dict[str, str]) -> Path:
    """Writes files below a folder and gives the path of the first."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / next(iter(files))


def pack(path: Path, members: list[tarfile.TarInfo], contents: dict[str, str]) -> Path:
    """A .tar.gz of the given texts and of members made by hand."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in contents.items():
            about = tarfile.TarInfo(name)
            about.size = len(text.encode())
            tar.addfile(about, io.BytesIO(text.encode()))
        for about in members:
            tar.addfile(about, io.BytesIO(b"\0" * about.size))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))
    return path


def everything(text: str, heading: str) -> str:
    """A Markdown document with every kind of block, long enough for several pages of any template."""
    paragraph = text * 5
    items = "\n".join(f"- {text}\n  1. {text}\n  2. short" for _ in range(4))
    rows = "\n".join(f"| {heading} {n} | {n * n} | $x_{{{n}}}$ |" for n in range(16))
    code = "\n".join(f"    line_{n} = call({n})  # {'x' * (n % 7 * 10)}" for n in range(12))
    return f"""---
title: {heading} with a **Title**
author: [A. Author, B. Author]
abstract: {text}
---

# {heading} One

{paragraph} A **bold {text}end** and *slanted words* and `code words`.[^note]

{paragraph}

## {heading} Two

{items}

> {paragraph}

| Name | Value | Formula |
|:-----|------:|:-------:|
{rows}

$$\\sum_{{k=0}}^n k = \\frac{{n(n+1)}}{{2}}$$

{paragraph} Inline $a^2 + b^2 = c^2$ here.

```
{code}
```

---

{paragraph}

[^note]: {text * 3}
"""
