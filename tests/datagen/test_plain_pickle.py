from __future__ import annotations

import collections
import datetime
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen import plain_pickle
from datagen.plain_pickle import load_plain_pickle, loads_plain_pickle

REFS = [
    {
        "ref_id": 45,
        "image_id": 581857,
        "split": "val",
        "file_name": "COCO_train2014_000000581857_16.jpg",
        "sentences": [{"tokens": ["the", "left", "woman"], "sent": "the left woman", "sent_id": 3}],
        "area": 1.5,
        "pair": (1, None, True, b"bytes", 2**70),
    }
] * 2
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", range(3, 6))
def test_plain_data_of_python_3(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol))
    assert load_plain_pickle(tmp_path / "refs(unc).p") == REFS


@pytest.mark.parametrize("protocol", range(3))
def test_plain_data_of_the_protocols_of_python_2(protocol: int) -> None:
    refs = [{**REFS[0], "pair": (1, None, True, 2**70)}]  # bytes of Python 3 need an import there
    assert loads_plain_pickle(pickle.dumps(refs, protocol)) == refs


@given(PLAIN, st.sampled_from([3, 4, 5]))
def test_any_plain_data(value: Any, protocol: int) -> None:
    assert loads_plain_pickle(pickle.dumps(value, protocol)) == value


def test_text_that_python_2_wrote() -> None:
    as_written = b"(lp0\n(dp1\nS'sent'\np2\nS'caf\\xc3\\xa9'\np3\nsS'image_id'\np4\nI581857\nsa."
    assert loads_plain_pickle(as_written) == [{"sent": "café", "image_id": 581857}]
    assert loads_plain_pickle(b"S'caf\\xe9'\n.") == "café"  # Latin-1


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [Runs(), os.system, collections.OrderedDict(a=1), {1, 2}, datetime.date(2020, 1, 1), object(), bytearray(b"x"), 1j],
    ids=lambda value: type(value).__name__,
)
def test_what_imports_or_calls_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps([1, value], protocol)
    with pytest.raises(ValueError, match=r"pickle is refused: [A-Z]\w+ at byte \d+ is no plain data"):
        loads_plain_pickle(data)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"(S'touch ran'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch ran'\no.",
        b"\x80\x02\x82\x01.",
        b"P1\n.",
        b"I1\nQ.",
        b"(l(dp0\nI1\nb.",
        b"\x80\x02]K\x01R.",
        b"\x80\x02](K\x01t\x81.",
    ],
)
def test_programs_by_hand_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="pickle is refused"):
        loads_plain_pickle(data)
    assert not (tmp_path / "ran").exists()


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def test_bombs_are_refused() -> None:
    doubled: list[Any] = [0]
    for _ in range(30):
        doubled = [doubled, doubled]
    with pytest.raises(ValueError, match="more than 100000000 values"):
        loads_plain_pickle(pickle.dumps(doubled, 2))
    for deep in (pickle.dumps(nested(60), 2), b"]" * 100_000 + b"a" * 99_999 + b".", b"]q\x00h\x00a."):
        with pytest.raises(ValueError, match="nested more than 32 deep"):
            loads_plain_pickle(deep)
    assert loads_plain_pickle(pickle.dumps(nested(20), 2)) == nested(20)
    for table in (b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFF0) + b".", b"(lp4294967280\n."):
        with pytest.raises(ValueError, match="a table larger than the file"):
            loads_plain_pickle(table)
    for length in (b"T\xff\xff\xff\x7fab.", b"B\xff\xff\xff\x7fab.", b"\x8b\xff\xff\xff\x7fab."):
        with pytest.raises(ValueError, match="pickle is broken"):
            loads_plain_pickle(length)


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        loads_plain_pickle(pickle.dumps("a long text", 2))


@pytest.mark.parametrize("data", [b"", b"no pickle", b"<html>", pickle.dumps(REFS, 2)[:-9], b"]", b"a.", b"(]]d."])
def test_broken_ones(data: bytes) -> None:
    with pytest.raises(ValueError, match="pickle is"):
        loads_plain_pickle(data)


@given(st.binary(max_size=60))
def test_any_bytes_end_in_a_value_or_a_line(data: bytes) -> None:
    try:
        loads_plain_pickle(data)
    except ValueError as error:
        assert str(error).startswith("pickle")
