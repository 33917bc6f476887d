"""Near duplicates among millions of pages: seconds and memory.

    python benchmarks/near_duplicates.py --pages 10000000

Made-up fingerprints: seven of ten pages are unrelated, one of ten is one of a thousand pages that all documents copy,
two of ten are versions of another page at a similarity near 0.9. Prints the share of versions found with their page.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from datagen.job.duplicates import SIZE, Rows, cluster, fingerprint, group_documents
from varyforge.console import say

COPIED, CHANGED = 1_000, 0.1  # pages that many copy; share of bytes in which a version differs


def made(pages: int, rng: np.random.Generator) -> Rows:
    """(pages, 64); rows [0.7, 0.8) are copies, rows [0.8, 1) versions of the first 0.2."""
    rows = np.empty((pages, SIZE), dtype=np.uint8)
    step = 1 << 18
    for start in range(0, pages, step):
        rows[start : start + step] = rng.integers(0, 256, size=rows[start : start + step].shape, dtype=np.uint8)
    copies, versions = slice(7 * pages // 10, 8 * pages // 10), 8 * pages // 10
    rows[copies] = rows[rng.integers(0, COPIED, size=copies.stop - copies.start)]
    for start in range(versions, pages, step):
        stop = min(start + step, pages)
        keep = rng.random((stop - start, SIZE)) >= CHANGED
        np.copyto(rows[start:stop], rows[start - versions : stop - versions], where=keep)
    return rows


def peak_gib() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 30 if sys.platform == "darwin" else 1 << 20)


def main() -> None:
    """Makes the fingerprints, clusters them, groups documents of ten pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=2_000_000)
    pages = parser.parse_args().pages
    text = "".join(map(chr, np.random.default_rng(1).integers(97, 123, size=3_000)))
    began = time.perf_counter()
    for _ in range(1_000):
        fingerprint(text)
    say(f"fingerprint of 3,000 letters: {time.perf_counter() - began:.3f} ms")
    rows = made(pages, np.random.default_rng(0))
    say(f"{pages:,} fingerprints: {rows.nbytes / (1 << 30):.2f} GiB, peak memory {peak_gib():.2f} GiB")
    began = time.perf_counter()
    found = cluster(rows)
    clustered = time.perf_counter()
    versions = 8 * pages // 10
    share = float((found[versions:] == found[: pages - versions]).mean())
    say(f"clusters: {clustered - began:.1f} s, {share:.2%} of the versions found, peak memory {peak_gib():.2f} GiB")
    documents = np.arange(pages) // 10
    began = time.perf_counter()
    groups = group_documents(found, documents)
    taken = time.perf_counter() - began
    say(
        f"{len(groups):,} documents: {len(np.unique(groups)):,} groups, {taken:.1f} s, peak memory {peak_gib():.2f} GiB"
    )


if __name__ == "__main__":
    main()
