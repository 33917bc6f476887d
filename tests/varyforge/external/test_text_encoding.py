from __future__ import annotations

import pytest

from varyforge.external.text_encoding import probable_encoding


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("Une boîte, déjà vue".encode("cp1252"), "Windows-1252"),
        ("a “quoted” word – and more".encode("cp1252"), "Windows-1252"),
        ("一个盒子 box".encode("gbk"), "GBK"),
        ("a box".encode("utf-16"), "UTF-16"),
        (b"\x81\x00", "no text"),
    ],
)
def test_encodings_are_named(data: bytes, name: str) -> None:
    assert probable_encoding(data) == name
