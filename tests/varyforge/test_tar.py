"""Tars that others wrote: every form that tarfile writes, and what a hostile or broken one may hold."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varyforge.tar import Member, TarError, members, parse_header

BLOCK = 512


def tar(*entries: tuple[str, bytes], form: int = tarfile.GNU_FORMAT, mark: bool = True) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, data in entries:
            made.addfile(info(name, len(data)), io.BytesIO(data))
        end = made.offset
    return out.getvalue() if mark else out.getvalue()[:end]


def info(name: str, size: int = 0, **about: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = size
    for key, value in about.items():
        setattr(made, key, value)
    return made


def header(name: str, size: int = 0, **about: object) -> bytes:
    return info(name, size, **about).tobuf(tarfile.GNU_FORMAT)


def read(data: bytes) -> list[Member]:
    return list(members(io.BytesIO(data)))


def contents(data: bytes) -> list[tuple[str, bytes]]:
    return [(one.name, data[one.offset : one.offset + one.size]) for one in read(data)]


@settings(max_examples=60)
@given(
    entries=st.lists(
        st.tuples(st.text("ab./é图", max_size=300).map(lambda name: name + "a"), st.binary(max_size=1100)), max_size=4
    ),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(entries: list[tuple[str, bytes]], form: int) -> None:
    if form == tarfile.USTAR_FORMAT:
        entries = [(name[-30:], data) for name, data in entries]  # that form has short names alone
    data = tar(*entries, form=form)
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        expected = [(one.name, one.offset_data, one.size) for one in opened if one.isfile()]
    found = [(one.name, one.offset, one.size) for one in read(data) if one.kind == "a file"]
    assert found == expected


def test_one_tar_behind_another() -> None:
    assert contents(tar(("a", b"1")) + tar(("b", b"2"))) == [("a", b"1"), ("b", b"2")]
    assert read(bytes(10240)) == []


def test_what_is_no_file() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        made.addfile(info("folder", type=tarfile.DIRTYPE))
        made.addfile(info("link", 7, type=tarfile.SYMTYPE, linkname="/etc/passwd"))
        made.addfile(info("hard", type=tarfile.LNKTYPE, linkname="a" * 200))
        made.addfile(info("disk", type=tarfile.BLKTYPE))
        made.addfile(info("odd", 3, type=b"Z"), io.BytesIO(b"abc"))
        made.addfile(info("hole", 3, pax_headers={"GNU.sparse.major": "1"}), io.BytesIO(b"abc"))
        made.addfile(info("a", 3), io.BytesIO(b"abc"))
    kinds = ["a folder", "a link", "a link", "a device", "of an unknown kind", "a sparse file", "a file"]
    assert [one.kind for one in read(out.getvalue())] == kinds


def test_the_old_form_of_sparse_files() -> None:
    sparse = bytearray(header("hole", 3, type=tarfile.GNUTYPE_SPARSE))
    sparse[482] = 1  # a block of header follows
    sparse[148:156] = b"%06o\0 " % (256 + sum(sparse[:148]) + sum(sparse[156:]))
    data = bytes(sparse) + bytes(BLOCK) + b"abc".ljust(BLOCK, b"\0") + tar(("a", b"1"))
    assert [(one.name, one.kind) for one in read(data)] == [("hole", "a sparse file"), ("a", "a file")]


@pytest.mark.parametrize(
    ("data", "before", "why"),
    [
        (b"", [], "without an end marker"),
        (tar(("a", b"1"), mark=False), ["a"], "ends at byte 1024 without an end marker"),
        (tar(("a", b"1"), ("b", bytes(900)))[: 3 * BLOCK + 100], ["a"], "b at byte 1024 is cut: 100 of 900 bytes"),
        (tar(("a", b"1"), ("b", b"2"))[: 2 * BLOCK + 100], ["a"], "no header at byte 1024: truncated header"),
        (tar(("a", b"1"), mark=False) + b"x" * BLOCK, ["a"], "no header at byte 1024: "),
        (header("bomb", 1 << 60), [], "bomb at byte 0 is cut"),
        (header("below", -1), [], "a size of -1 at byte 0"),
        (header("long", 2 << 20, type=b"L") + bytes(2 << 20), [], "a header of 2097152 bytes"),
        (header("pax", 9, type=b"x") + b"5 a=b\n0 x".ljust(BLOCK, b"\0"), [], "a PAX header that is none"),
        (header("pax", 9, type=b"x") + b"99999 a=b".ljust(BLOCK, b"\0"), [], "a PAX header that is none"),
        (
            header("pax", 10, type=b"x") + b"10 size=x\n".ljust(BLOCK, b"\0") + header("a"),
            [],
            "a size of x at byte 1024",
        ),
        (b"PK\x03\x04" + bytes(2000), [], "no header at byte 0"),
    ],
)
def test_where_a_tar_breaks_off_is_said(data: bytes, before: list[str], why: str) -> None:
    found = []
    with pytest.raises(TarError) as raised:
        for one in members(io.BytesIO(data)):
            found.append(one.name)
    assert found == before
    assert why in str(raised.value)


@settings(max_examples=200)
@given(data=st.binary(max_size=600), place=st.integers(0, 4 * BLOCK), kind=st.sampled_from(b"0xLgSK"))
def test_damage_ends_in_members_or_an_error(data: bytes, place: int, kind: int) -> None:
    whole = bytearray(tar(("a" * 150, b"1" * 700), ("b", b"2"), form=tarfile.PAX_FORMAT))
    whole[place : place + len(data)] = data
    whole[156] = kind
    whole[148:156] = b"%06o\0 " % (256 + sum(whole[:148]) + sum(whole[156:BLOCK]))
    try:
        found = read(bytes(whole))
    except TarError:
        return
    assert all(0 <= one.offset <= one.offset + one.size <= len(whole) for one in found)


@settings(max_examples=300)
@given(data=st.binary(max_size=40), place=st.integers(0, BLOCK - 1), signed=st.booleans())
def test_a_header_is_read_as_tarfile_reads_it(data: bytes, place: int, signed: bool) -> None:
    block = bytearray(info("some/name", 1234, mtime=1).tobuf(tarfile.USTAR_FORMAT))
    block[place : place + len(data)] = data[: BLOCK - place]
    if signed:
        block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    try:
        expected = tarfile.TarInfo.frombuf(bytes(block), "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, IndexError):
        return  # some of it, such as a mode that is no number, does not matter here
    assert parse_header(bytes(block), 0) == (expected.name, expected.type, expected.size)
