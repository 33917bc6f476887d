"""Evenly spread picks: the rows that a card, a page or a measurement takes from many."""

from __future__ import annotations


def spread(total: int, most: int) -> list[int]:
    """Return at most `most` numbers below `total`, each in the middle of one of equal ranges.

    >>> spread(100, 4)
    [12, 37, 62, 87]
    """
    count = min(total, most)
    return [(2 * number + 1) * total // (2 * count) for number in range(count)]
