"""Near duplicates, such as versions of a page or a document: pure arithmetic on fingerprints of 64 bytes.

A fingerprint is a MinHash by one permutation (Li, Owen and Zhang 2012): the hashes of a text's shingles fall into 64
bins, and each bin stores eight bits of its smallest hash. The share of equal bytes estimates the Jaccard similarity of
two texts' shingles, with a standard error of 0.05 at 0.8. Four neighbouring bytes are a band. Texts that agree in one
of the 16 bands are compared: 99.98 % of the pairs with similarity 0.8, 98.8 % at 0.7 and 2.5 % at 0.2.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint8]

SIZE = 64  # bytes of a fingerprint, and bins
MIN_CHARS = 200  # printed characters; shorter texts repeat for other reasons (running heads, licence lines)
ALIKE = 0.68  # least estimated similarity of near duplicates; 98.9 % of pairs at 0.8 reach it, 0.2 % at 0.5
SHARED = 5  # documents form a group when a 5th of the smaller one's pages is shared

_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd; the primes of xxHash64
_EDGES = np.arange(SIZE, dtype=np.uint64) << np.uint64(58)  # lower edges of the bins
_CHANCE = 1 / 256  # probability that the bytes of different shingles are equal
_LEADERS = 16  # at most, per bucket of `_candidates`
_WINDOW = 8  # following documents of a cluster that each document is paired with in `group_documents`
_CHUNK = 1 << 18  # rows compared at a time


def fingerprint(text: str) -> bytes:
    """Return 64 bytes that are similar for similar texts, and the same on every machine.

    Shingles are four characters of the lower-cased text without white space, in compatibility form, so that ligatures
    and full-width letters do not matter. The result is b"" for a text of fewer than 200 printed characters.
    """
    printed = "".join(text.split())
    printed = (printed if printed.isascii() else unicodedata.normalize("NFKC", printed)).lower()
    if len(printed) < MIN_CHARS:
        return b""
    codes = np.frombuffer(printed.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)
    hashes = np.sort(_shingles(codes))
    smallest = hashes[np.searchsorted(hashes, _EDGES) % len(hashes)]  # an empty bin takes that of the next
    return smallest.astype(np.uint8).tobytes()


def _shingles(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Hash each four neighbours: (N,) characters → (N - 3,) hashes."""
    pairs = _mixed(codes[:-1] * np.uint64(_MULTIPLIERS[0]) + codes[1:])
    return _mixed(pairs[:-2] * np.uint64(_MULTIPLIERS[1]) + pairs[2:])


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix the bits of each value (the finaliser of MurmurHash3): each input bit changes every output bit."""
    mixed = values ^ (values >> np.uint64(33))
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def stack(fingerprints: Iterable[bytes]) -> Rows:
    """Return fingerprints as rows (N, 64), with zeros for an empty one."""
    return np.frombuffer(b"".join(each or bytes(SIZE) for each in fingerprints), dtype=np.uint8).reshape(-1, SIZE)


def cluster(rows: Rows) -> Ints:
    """Find clusters of near duplicates, transitively: (N, 64) fingerprints → (N,) smallest row of each row's cluster.

    Rows of zeros (no fingerprint) get −1. The clusters depend on the set of fingerprints alone, not on their order or
    on how often one occurs. Time is N log N whatever the number of duplicates; memory is about 45 bytes per row beside
    the rows (`benchmarks/near_duplicates.py`).
    """
    rows = np.ascontiguousarray(rows, dtype=np.uint8)
    present = np.flatnonzero(rows.view(np.uint64).any(axis=1))
    result = np.full(len(rows), -1, dtype=np.int64)
    if len(present) == 0:
        return result
    first, distinct = _distinct(rows, present)
    label = np.arange(len(first))
    bands = rows.view(np.uint32)
    for band in range(bands.shape[1]):
        for left, right in _candidates(rows, first, bands[first, band]):
            _join(label, left, right)
    smallest = np.full(len(first), len(rows), dtype=np.int64)
    np.minimum.at(smallest, label, first)
    result[present] = smallest[label[distinct]]
    return result


def _distinct(rows: Rows, present: Ints) -> tuple[Ints, Ints]:
    """Return the first row of each distinct fingerprint, and for each present row the index of its fingerprint there.

    Equal hashes of 64 bits count as equal fingerprints: for ten million, wrong once in 400,000 times.
    """
    words = rows.view(np.uint64)
    hashes = np.zeros(len(present), dtype=np.uint64)
    for start in range(0, len(present), _CHUNK):
        part, value = words[present[start : start + _CHUNK]], hashes[start : start + _CHUNK]
        for column in part.T:
            value[:] = _mixed(value * np.uint64(_MULTIPLIERS[0]) + column)
    order = np.argsort(hashes, kind="stable")
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = hashes[order[1:]] != hashes[order[:-1]]
    index = np.empty(len(order), dtype=np.int64)
    index[order] = np.cumsum(fresh) - 1
    return present[order[fresh]], index


def _candidates(rows: Rows, first: Ints, keys: npt.NDArray[np.uint32]) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of indices into `first` with equal keys whose fingerprints are similar.

    A bucket of equal keys may be very large and hold several clusters (forms of one kind). All its members are compared
    with their neighbour and with the first member, the leader. The rest, not similar to the leader, is compared with
    its own first member, and so on for 16 leaders. The time is linear. Other bands may find pairs that this one misses.
    """
    packed = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    bucket, index = packed >> np.uint64(32), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = np.zeros(len(index), dtype=bool)  # in the bucket of the previous row
    same[1:] = bucket[1:] == bucket[:-1]
    crowded = _crowded(same)
    bucket, index, same = bucket[crowded], index[crowded], same[crowded]
    neighbours = np.flatnonzero(same)
    yield _alike(rows, first, index[neighbours - 1], index[neighbours])
    for _ in range(_LEADERS):
        if len(index) == 0:
            return
        starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] ^ np.uint64(1)) != 0)
        leader = np.repeat(index[starts], np.diff(np.append(starts, len(index))))
        left, right = _alike(rows, first, leader, index)  # a leader also with itself
        yield left, right
        rest = ~np.isin(index, right, assume_unique=True)
        bucket, index = bucket[rest], index[rest]


def _crowded(same: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the rows that equal a neighbour, from those that equal the previous row."""
    crowded = same.copy()
    crowded[:-1] |= same[1:]
    return crowded


def _alike(rows: Rows, first: Ints, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Return the pairs whose estimated similarity is at least `ALIKE`."""
    enough = SIZE * (ALIKE * (1 - _CHANCE) + _CHANCE)
    alike = np.empty(len(left), dtype=bool)
    for start in range(0, len(left), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        equal = rows[first[left[chunk]]] == rows[first[right[chunk]]]
        alike[chunk] = np.count_nonzero(equal, axis=1) >= enough
    return left[alike], right[alike]


def _join(label: Ints, left: Ints, right: Ints) -> None:
    """Join pairs in place. `label` (N,) holds the smallest member of each component, before and after."""
    while True:
        low, high = np.minimum(label[left], label[right]), np.maximum(label[left], label[right])
        apart = low != high
        if not apart.any():
            return
        left, right = left[apart], right[apart]
        np.minimum.at(label, high[apart], low[apart])
        while not np.array_equal(label, further := label[label]):
            label[:] = further


def group_documents(page_cluster: Ints, document: Ints) -> Ints:
    """Group documents that share pages.

    Two documents belong to one group when the clusters that both have pages in are at least a fifth of the clusters of
    the smaller document, as with versions of a paper, but not with manuals that share a licence page.

    In a cluster of more than nine documents, each is paired with the first and the next eight, not with all. Documents
    that share many pages with many others still meet along the chain.

    Args:
        page_cluster: (P,) cluster of each page, below 2³¹. Pages of cluster −1 do not count.
        document: (P,) document of each page, from 0 to below 2³¹.

    Returns:
        (D,) smallest document of each document's group, for every number up to the largest in `document`.
    """
    count = int(document.max(initial=-1)) + 1
    label = np.arange(count)
    counted = page_cluster >= 0
    entries = (page_cluster[counted] << 32) | document[counted]
    entries.sort()  # in place: numpy.unique takes several times the memory
    entries = entries[np.diff(entries, prepend=-1) != 0]
    clusters, documents = entries >> 32, entries & 0xFFFFFFFF
    sizes = np.bincount(documents, minlength=count)
    left, right, shared = _shared(clusters, documents)
    enough = shared * SHARED >= np.minimum(sizes[left], sizes[right])
    _join(label, left[enough], right[enough])
    return label


def _shared(clusters: Ints, documents: Ints) -> tuple[Ints, Ints, Ints]:
    """Return pairs of documents and how many clusters each pair shares. The entries are distinct and sorted."""
    again = np.diff(clusters, prepend=-1) == 0
    common = _crowded(again)  # most clusters have one document: left out
    clusters, documents = clusters[common], documents[common]
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    first = np.repeat(starts, np.diff(np.append(starts, len(clusters))))
    far = np.flatnonzero(np.arange(len(clusters)) - first > _WINDOW)
    pairs = [(documents[first[far]] << 32) | documents[far]]
    for step in range(1, _WINDOW + 1):
        near = np.flatnonzero(clusters[step:] == clusters[:-step])
        pairs.append((documents[near] << 32) | documents[near + step])
    packed = np.concatenate(pairs)
    packed.sort()
    begins = np.flatnonzero(np.diff(packed, prepend=-1))
    shared = np.diff(np.append(begins, len(packed)))
    return packed[begins] >> 32, packed[begins] & 0xFFFFFFFF, shared
