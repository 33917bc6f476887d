"""Measure time and memory of clustering near duplicates among millions of pages.

    python -m benchmarks.near_duplicates --pages 10000000

The fingerprints are random: seven of ten pages are unrelated, one of ten is a copy of one of a thousand pages, and two
of ten are versions of another page at a similarity near 0.9. "Versions recognised" is the share of versions that are in
one cluster with their page.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.bench import Table, main_of
from benchmarks.clocks import peak_mib
from datagen.job.duplicates import SIZE, Rows, cluster, fingerprint, group_documents
from varyforge.console import say

COPIED, CHANGED = 1_000, 0.1  # pages that have copies; share of bytes in which a version differs
TINY = {"pages": 2_000}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's own options."""
    parser.add_argument("--pages", type=int, default=2_000_000, help="(%(default)s)")


def random_fingerprints(pages: int, rng: np.random.Generator) -> Rows:
    """Return (pages, 64); rows [0.7, 0.8) are copies, rows [0.8, 1) versions of the first 0.2."""
    rows = np.empty((pages, SIZE), dtype=np.uint8)
    step = 1 << 18
    for start in range(0, pages, step):
        rows[start : start + step] = rng.integers(0, 256, size=rows[start : start + step].shape, dtype=np.uint8)
    copies, versions = slice(7 * pages // 10, 8 * pages // 10), 8 * pages // 10
    rows[copies] = rows[rng.integers(0, COPIED, size=copies.stop - copies.start)]
    for start in range(versions, pages, step):
        stop = min(start + step, pages)
        unchanged = rng.random((stop - start, SIZE)) >= CHANGED
        np.copyto(rows[start:stop], rows[start - versions : stop - versions], where=unchanged)
    return rows


def measure(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """Draw the fingerprints, cluster them, group documents of ten pages."""
    pages = arguments.pages
    text = "".join(map(chr, np.random.default_rng(1).integers(97, 123, size=3_000)))
    began = time.perf_counter()
    for _ in range(1_000):
        fingerprint(text)
    fingerprint_ms = time.perf_counter() - began
    rows = random_fingerprints(pages, np.random.default_rng(0))
    peaks = [peak_mib()]
    say(f"{pages:,} fingerprints drawn")
    began = time.perf_counter()
    clusters = cluster(rows)
    cluster_s = time.perf_counter() - began
    peaks.append(peak_mib())
    versions = 8 * pages // 10
    recognised = float((clusters[versions:] == clusters[: pages - versions]).mean())
    say(f"clustered in {cluster_s:.0f} s")
    began = time.perf_counter()
    groups = group_documents(clusters, np.arange(pages) // 10)
    group_s = time.perf_counter() - began
    peaks.append(peak_mib())
    yield f"The fingerprint of a text of 3,000 letters takes {fingerprint_ms:.2f} ms."
    gib = [f"{peak / 1024:.2f}" for peak in peaks]
    yield Table(
        head=("part", "s", "peak GiB", "result"),
        rows=[
            (f"{pages:,} fingerprints", "-", gib[0], f"{rows.nbytes / (1 << 30):.2f} GiB"),
            ("clusters of pages", f"{cluster_s:.1f}", gib[1], f"{recognised:.2%} of the versions recognised"),
            (f"groups of {len(groups):,} documents", f"{group_s:.1f}", gib[2], f"{len(np.unique(groups)):,} groups"),
        ],
    )


if __name__ == "__main__":
    main_of("benchmarks.near_duplicates")
