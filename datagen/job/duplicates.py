"""Near duplicates: the same page twice, versions of a document. Pure arithmetic on fingerprints of 64 bytes.

A fingerprint is a MinHash by one permutation (Li, Owen and Zhang 2012): the hashes of a text's shingles fall into 64
bins, and each bin keeps eight bits of its least. The share of equal bytes estimates the Jaccard similarity of two
texts' shingles, standard error 0.05 at 0.8. Four neighbouring bytes are a band: texts that agree in one of the 16
bands are compared, which are 99.98 % of the pairs with similarity 0.8, 98.8 % at 0.7 and 2.5 % at 0.2.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint8]

SIZE = 64  # bytes of a fingerprint, and bins
MIN_CHARS = 200  # printed characters; of less text one cannot say (running heads, licence lines)
ALIKE = 0.68  # estimated similarity of near duplicates: 98.9 % of the pairs at 0.8 reach it, 0.2 % of those at 0.5
SHARED = 5  # documents belong together when a 5th of the smaller one's pages are shared

_BAND = 4  # bytes
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # odd; the primes of xxHash64
_EDGES = np.arange(SIZE, dtype=np.uint64) << np.uint64(58)  # of the bins in the range of the hashes
_CHANCE = 1 / 256  # that bytes of different shingles are equal
_LEADERS = 16  # of a bucket, at most; see `_candidates`
_WINDOW = 8  # documents of a cluster that each is paired with; see `group_documents`
_CHUNK = 1 << 18  # rows compared at a time


def fingerprint(text: str) -> bytes:
    """64 bytes that are alike for texts that are alike; the same on every machine.

    Shingles are four characters: of lower-cased text without white space, in compatibility form (so that ligatures and
    full-width letters do not matter). Returns b"" for a text of fewer than 200 printed characters.
    """
    printed = unicodedata.normalize("NFKC", "".join(text.split())).lower()
    if len(printed) < MIN_CHARS:
        return b""
    codes = np.frombuffer(printed.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)
    hashes = np.sort(_shingles(codes))
    least = hashes[np.searchsorted(hashes, _EDGES) % len(hashes)]  # an empty bin borrows from the next
    return least.astype(np.uint8).tobytes()


def _shingles(codes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """(N,) characters → (N - 3,) hashes of four neighbours."""
    pairs = _mixed(codes[:-1] * np.uint64(_MULTIPLIERS[0]) + codes[1:])
    return _mixed(pairs[:-2] * np.uint64(_MULTIPLIERS[1]) + pairs[2:])


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every bit of the input moves every bit of the output (the finaliser of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


def similarity(a: bytes, b: bytes) -> float:
    """Estimated Jaccard similarity of two fingerprints, from 0 to 1; 0 where one is empty."""
    if not a or not b:
        return 0.0
    equal = np.count_nonzero(np.frombuffer(a, np.uint8) == np.frombuffer(b, np.uint8)) / SIZE
    return max(0.0, (float(equal) - _CHANCE) / (1 - _CHANCE))


def stack(fingerprints: Iterable[bytes]) -> Rows:
    """Fingerprints as rows (N, 64); zeros for an empty one."""
    return np.frombuffer(b"".join(one or bytes(SIZE) for one in fingerprints), dtype=np.uint8).reshape(-1, SIZE)


def cluster(rows: Rows) -> Ints:
    """Near duplicates, and near duplicates of near duplicates: (N, 64) fingerprints → (N,) smallest row of its cluster.

    −1 for rows of zeros (no fingerprint). Which rows belong together is a function of the set of fingerprints: neither
    their order nor how often one occurs matters. Time is N log N whatever the number of duplicates, memory about 45
    bytes per row beside the rows: see `benchmarks/near_duplicates.py`.
    """
    rows = np.ascontiguousarray(rows, dtype=np.uint8)
    present = np.flatnonzero(rows.view(np.uint64).any(axis=1))
    found = np.full(len(rows), -1, dtype=np.int64)
    if len(present) == 0:
        return found
    first, distinct = _distinct(rows, present)
    label = np.arange(len(first))
    bands = rows.view(np.uint32)
    for band in range(bands.shape[1]):
        for left, right in _candidates(rows, first, bands[first, band]):
            _join(label, left, right)
    smallest = np.full(len(first), len(rows), dtype=np.int64)
    np.minimum.at(smallest, label, first)
    found[present] = smallest[label[distinct]]
    return found


def _distinct(rows: Rows, present: Ints) -> tuple[Ints, Ints]:
    """The first row of each distinct fingerprint, in an order of their own, and each row's place there.

    Equal hashes of 64 bits are taken for equal fingerprints: for ten million, wrong once in 400,000 times.
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
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(fresh) - 1
    return present[order[fresh]], place


def _candidates(rows: Rows, first: Ints, keys: npt.NDArray[np.uint32]) -> Iterator[tuple[Ints, Ints]]:
    """Pairs of places in `first` with equal keys whose fingerprints are alike.

    A bucket of equal keys may hold very many, of several clusters (forms of one kind): all are compared with the
    bucket's first and with their neighbour, those that are not like the first with the first of them, and so on for 16
    leaders. That is linear; what it misses the other bands may find.
    """
    packed = (keys.astype(np.uint64) << np.uint64(32)) | np.arange(len(keys), dtype=np.uint64)
    packed.sort()
    bucket, place = packed >> np.uint64(32), (packed & np.uint64(0xFFFFFFFF)).astype(np.int64)
    same = np.zeros(len(place), dtype=bool)  # as the one before
    same[1:] = bucket[1:] == bucket[:-1]
    crowded = _crowded(same)
    bucket, place, same = bucket[crowded], place[crowded], same[crowded]
    neighbours = np.flatnonzero(same)
    yield _alike(rows, first, place[neighbours - 1], place[neighbours])
    for _ in range(_LEADERS):
        if len(place) == 0:
            return
        starts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] ^ np.uint64(1)) != 0)
        leader = np.repeat(place[starts], np.diff(np.append(starts, len(place))))
        left, right = _alike(rows, first, leader, place)  # with itself too
        yield left, right
        settled = np.isin(place, right, assume_unique=True)
        bucket, place = bucket[~settled], place[~settled]


def _crowded(same: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Of rows that are the same as the one before: those that are the same as a neighbour."""
    crowded = same.copy()
    crowded[:-1] |= same[1:]
    return crowded


def _alike(rows: Rows, first: Ints, left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Those of the pairs whose estimated similarity is at least `ALIKE`."""
    enough = SIZE * (ALIKE * (1 - _CHANCE) + _CHANCE)
    kept = np.empty(len(left), dtype=bool)
    for start in range(0, len(left), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        equal = rows[first[left[chunk]]] == rows[first[right[chunk]]]
        kept[chunk] = np.count_nonzero(equal, axis=1) >= enough
    return left[kept], right[kept]


def _join(label: Ints, left: Ints, right: Ints) -> None:
    """Joins pairs. `label` (N,) points at the smallest of each component, before and after."""
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
    """Documents that share pages: (P,) clusters and (P,) documents of pages → (D,) smallest document of its group.

    Two documents belong together when the clusters that both have pages of are at least a fifth of the clusters of the
    smaller one: versions of a paper do, manuals with one licence page do not. Pages of cluster −1 do not count. The
    result has a place for every number up to the largest in `document`.

    An approximation for clusters of more than nine documents: each is paired with the cluster's first and the next
    eight, not with all. Documents that share many pages with many others still meet along the chain.

    Documents and clusters are numbers below 2³¹.
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
    """Pairs of documents, and how many clusters they share. The entries are distinct and sorted."""
    again = np.diff(clusters, prepend=-1) == 0
    common = _crowded(again)  # most clusters are of one document: leave them out
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
