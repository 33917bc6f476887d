from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.inputs import plain_pickle
from datagen.inputs.plain_pickle import load_plain_pickle


def load(folder: Path, data: bytes) -> Any:
    file = folder / "refs(unc).p"
    file.write_bytes(data)
    return load_plain_pickle(file)


PYTHON_2 = {  # {'sent': 'woman', 'raw': u'caf\xe9', 'sent_id': 7, 'tokens': ['a', 'b'], 'big': 7L} as Python 2 wrote it
    "0": b"(dp0\nS'sent'\np1\nS'woman'\np2\nsS'raw'\np3\nVcaf\xe9\np4\nsS'sent_id'\np5\nI7\n"
    b"sS'tokens'\np6\n(lp7\nS'a'\naS'b'\nasS'big'\np8\nL7L\ns.",
    "1": b"}q\x00(U\x04sentq\x01U\x05womanU\x03rawX\x05\x00\x00\x00caf\xc3\xa9q\x02U\x07sent_idK\x07"
    b"U\x06tokens](U\x01aU\x01beU\x03bigL7L\nu.",
    "2": b"\x80\x02}q\x00(U\x04sentq\x01U\x05womanU\x03rawX\x05\x00\x00\x00caf\xc3\xa9q\x02U\x07sent_idK\x07"
    b"U\x06tokens](U\x01aU\x01beU\x03big\x8a\x01\x07u.",
}


@pytest.mark.parametrize("protocol", PYTHON_2)
def test_what_python_2_wrote(tmp_path: Path, protocol: str) -> None:
    expected = {"sent": "woman", "raw": "café", "sent_id": 7, "tokens": ["a", "b"], "big": 7}
    assert load(tmp_path, PYTHON_2[protocol]) == expected


def test_byte_strings_are_utf_8_or_else_latin_1(tmp_path: Path) -> None:
    assert load(tmp_path, b"U\x05caf\xc3\xa9.") == "café"
    assert load(tmp_path, b"U\x04caf\xe9.") == "café"
    assert load(tmp_path, rb"S'caf\xe9'" + b"\n.") == "café"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_every_protocol(tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int) -> None:
    assert load(tmp_path_factory.getbasetemp(), pickle.dumps(value, protocol)) == value


class Shell:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps([{"sent": Shell(f"touch {tmp_path}/ran")}], protocol)
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p: not a pickle of plain data: instruction (STACK_)?GLOBAL"):
        load(tmp_path, data)
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)  # it would have
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("data", "instruction"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "GLOBAL"),
        (b"(S'touch x'\nios\nsystem\n.", "INST"),
        (b"(cos\nsystem\nS'true'\no.", "GLOBAL"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "STACK_GLOBAL"),
        (b"\x82\x01.", "EXT1"),
        (b"Pname\n.", "PERSID"),
        (b"}}b.", "BUILD"),
        (b"(I1\nI2\nt.", "TUPLE"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "BYTEARRAY8"),
        (b"\xff.", "255"),
    ],
)
def test_instructions_that_are_none_of_plain_data(tmp_path: Path, data: bytes, instruction: str) -> None:
    with pytest.raises(ValueError, match=rf"refs\(unc\)\.p: .*instruction {instruction} is none of plain data"):
        load(tmp_path, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"prose",
        b"]",  # no end
        b".",
        b"a.",
        b"}]K\x01s.",  # a list as a key
        b"g1\n.",  # what was never put
        b"X\xff\xff\xff\x7fabc.",  # text of 2 GB in a file of 9 bytes
        b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b".",
        b"I" + b"9" * 5000 + b"\n.",
        b"\x80\x63].",
        pickle.dumps([{"sent": "woman"}] * 3)[:-4],
    ],
)
def test_broken_ones(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^refs\(unc\)\.p: not a pickle"):
        load(tmp_path, data)


def test_hostile_sizes(tmp_path: Path) -> None:
    assert load(tmp_path, b"]r\xff\xff\xff\xff.") == []  # an entry of the memo numbered 4e9
    deep = load(tmp_path, b"]" * 200_000 + b"a" * 199_999 + b".")
    for _ in range(1000):
        (deep,) = deep
    assert isinstance(deep, list)


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_pickle, "MAX_BYTES", 2)
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p: larger than"):
        load(tmp_path, b"]..")
