from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.job.duplicates import SIZE, cluster, fingerprint, group_documents, stack

FIRST_BYTES = "1e88b991b91399d524f88cdf857c3b4c"  # of the letters from a on
HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 1500)]


def english(seed: int, words: int = 400) -> str:
    rng = random.Random(seed)
    lexicon = ["".join(rng.choices("etaoinshrdlucmfwypvbgk", k=rng.randint(2, 9))) for _ in range(300)]
    return " ".join(rng.choices(lexicon, k=words))


def chinese(seed: int, letters: int = 900) -> str:
    return "".join(random.Random(seed).choices(HAN, k=letters))


def noisy(text: str, share: float, seed: int = 0) -> str:
    """Text as an OCR system returns it: a letter is dropped, doubled or confused with another."""
    rng = random.Random(seed)
    damaged = {"": lambda c: "", "twice": lambda c: c + c, "other": lambda c: rng.choice(text)}
    return "".join(damaged[rng.choice(list(damaged))](c) if rng.random() < share else c for c in text)


def edited(text: str, share: float, seed: int = 0) -> str:
    """Some words in a row are replaced, as when a paragraph is rewritten."""
    words, rng = text.split(), random.Random(seed)
    length = round(share * len(words))
    start = rng.randrange(len(words) - length)
    return " ".join([*words[:start], *english(seed + 10_000, length).split(), *words[start + length :]])


def similarity(a: bytes, b: bytes) -> float:
    """Return the estimated Jaccard similarity of two fingerprints, from 0 to 1; 0 if one is empty."""
    chance = 1 / 256  # that bytes of different shingles are equal
    equal = float(np.mean(np.frombuffer(a, np.uint8) == np.frombuffer(b, np.uint8))) if a and b else 0.0
    return max(0.0, (equal - chance) / (1 - chance))


def partition(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist()) - {-1}}


def related(seed: int, families: int, members: int) -> np.ndarray:
    """Fingerprints (families x members, 64): members differ from a first one in up to a third of the bytes."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, size=(families, 1, SIZE), dtype=np.uint8)
    other = rng.integers(0, 256, size=(families, members, SIZE), dtype=np.uint8)
    changed = rng.random((families, members, SIZE)) < rng.random((families, members, 1)) / 3
    return np.where(changed, other, first).reshape(-1, SIZE)


def test_a_fingerprint_is_the_same_everywhere() -> None:
    code = "from datagen.job.duplicates import fingerprint; print(fingerprint('A page, 一页。 ' * 40).hex())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == fingerprint("A page, 一页。 " * 40).hex()
    assert len(printed) == 2 * SIZE


def test_fingerprints_do_not_change_between_versions() -> None:
    """They are stored in indexes: a change of this value needs a new name for the column."""
    assert fingerprint("".join(map(chr, range(97, 97 + 400)))).hex().startswith(FIRST_BYTES)


def test_spaces_case_and_ligatures_do_not_matter() -> None:
    text = "The efficient office 第一页 " * 30
    assert fingerprint(text) == fingerprint(text.upper().replace(" ", "\n\n"))
    assert fingerprint(text) == fingerprint(text.replace("ffi", "\N{LATIN SMALL LIGATURE FFI}"))


@pytest.mark.parametrize("text", ["", " " * 999, "x" * 199, "许" * 199, "\ud800" * 5])
def test_short_texts_have_none(text: str) -> None:
    assert fingerprint(text) == b""
    assert similarity(fingerprint(text), fingerprint(text)) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=200, max_size=400))
def test_any_text_has_one(text: str) -> None:
    assert len(fingerprint(text)) in {0, SIZE}
    assert fingerprint(text) == fingerprint("\t".join(text))


@pytest.mark.parametrize("make", [english, chinese])
def test_similarity_estimates_the_shared_shingles(make: object) -> None:
    def shingles(text: str) -> set[str]:
        plain = "".join(text.split())
        return {plain[i : i + 4] for i in range(len(plain) - 3)}

    errors = []
    for seed in range(60):
        one = make(seed)  # type: ignore[operator]
        other = noisy(one, 0.002 * seed, seed)
        exact = len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))
        errors.append(similarity(fingerprint(one), fingerprint(other)) - exact)
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 0.07


@pytest.mark.parametrize("make", [english, chinese])
def test_the_same_page_read_with_errors_is_found(make: object) -> None:
    """3 % wrong characters leave 0.79 of the shingles: found nine times of ten or more."""
    pages = [make(seed) for seed in range(200)]  # type: ignore[operator]
    found = cluster(stack(map(fingerprint, pages + [noisy(page, 0.03, 1) for page in pages])))
    assert np.mean(found[200:] == np.arange(200)) > 0.88
    assert (found[:200] == np.arange(200)).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(seed: int, rng: random.Random) -> None:
    rows = np.vstack([related(seed, families=20, members=6), related(seed, families=20, members=2)])
    order = np.array(rng.sample(range(len(rows)), len(rows)))
    shuffled = {frozenset(order[list(group)].tolist()) for group in partition(cluster(rows[order]))}
    assert shuffled == partition(cluster(rows))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=60))
def test_equal_texts_are_together_and_unrelated_ones_are_not(picks: list[int]) -> None:
    texts = [*map(english, range(4)), *map(chinese, range(4)), "too short"]
    found = cluster(stack(fingerprint(texts[pick]) for pick in picks))
    assert found.tolist() == [picks.index(pick) if pick < 8 else -1 for pick in picks]


def test_pages_at_four_fifths_are_found() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, size=(20_000, SIZE), dtype=np.uint8)
    same = rng.random((10_000, SIZE)) < 0.8
    rows[10_000:] = np.where(same, rows[:10_000], rows[10_000:])
    assert np.mean(cluster(rows)[10_000:] == np.arange(10_000)) >= 0.98


def test_many_pages_and_giant_clusters() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, size=(200_000, SIZE), dtype=np.uint8)
    rows[50_000:100_000] = rows[7]  # one page 50,000 times
    changed = rng.random((50_000, SIZE)) < 0.1
    rows[100_000:150_000] = np.where(changed, rows[100_000:150_000], rows[9])  # 50,000 versions of one page
    rows[150_000:160_000, :12] = 5  # 10,000 forms with one head
    found = cluster(rows)
    assert (found[50_000:100_000] == 7).all()
    assert np.mean(found[100_000:150_000] == 9) > 0.9999
    assert (found[150_000:] == np.arange(150_000, 200_000)).all()


def test_no_pages() -> None:
    assert cluster(stack([])).tolist() == []
    assert cluster(stack([b"", b""])).tolist() == [-1, -1]
    assert group_documents(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []
    assert group_documents(np.array([-1, -1]), np.array([0, 1])).tolist() == [0, 1]


def test_two_versions_of_a_paper_are_grouped_and_a_licence_page_welds_nothing() -> None:
    licence = english(999)
    documents = [[english(100 * number + page) for page in range(9)] + [licence] for number in range(20)]
    documents.append([edited(page, 0.1, number) for number, page in enumerate(documents[3])])  # the second version
    documents.append([*documents[5][:3], *map(chinese, range(7))])  # an excerpt of three pages
    pages = [(number, page) for number, document in enumerate(documents) for page in document]
    found = cluster(stack(fingerprint(page) for _, page in pages))
    groups = group_documents(found, np.array([number for number, _ in pages]))
    assert groups.tolist() == [*range(20), 3, 5]


def test_short_documents_and_chains() -> None:
    # documents 0 and 1 share one of five pages, 1 and 2 one of six, 3 has none of its own
    pages = {0: [0, 1, 2, 3, 4], 1: [0, 5, 6, 7, 8, 9], 2: [5, 11, 12, 13, 14, 15], 3: [15]}
    clusters = np.array([page for own in pages.values() for page in own])
    document = np.array([number for number, own in pages.items() for _ in own])
    assert group_documents(clusters, document).tolist() == [0, 0, 2, 2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 8)), min_size=1, max_size=40), st.randoms())
def test_groups_are_those_of_a_plain_count(entries: list[tuple[int, int]], rng: random.Random) -> None:
    rng.shuffle(entries)
    own = {number: {page for page, of in entries if of == number and page >= 0} for number in range(9)}
    group = list(range(9))
    for _ in range(9):
        for a in range(9):
            for b in range(9):
                shared = len(own[a] & own[b])
                if shared and 5 * shared >= min(len(own[a]), len(own[b])):
                    group[a] = group[b] = min(group[a], group[b])
    clusters, document = (np.array(column) for column in zip(*entries, strict=True))
    assert group_documents(clusters, document).tolist() == group[: document.max() + 1]


def test_a_form_that_100_000_documents_hold_is_linear() -> None:
    form = np.tile(np.arange(3), 100_000)  # the same three pages
    groups = group_documents(form, np.arange(100_000).repeat(3))
    assert (groups == 0).all()
    own = np.concatenate([np.arange(9) * 0, np.arange(9 * 100_000) + 1])  # one licence page, nine pages of their own
    documents = np.concatenate([np.arange(9), np.arange(100_000).repeat(9)])
    assert len(np.unique(group_documents(own, documents))) == 100_000
