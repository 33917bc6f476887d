"""The record of a file of records, whatever the file's format, and its images."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlparse

from datagen.inputs.image_ids import document_of_image, image_id_of
from datagen.source import Unit
from varyforge.errors import WrongFormat, kind_of
from varyforge.outcome import Failed

Span = tuple[int, int]
"""Offset and size of a part of a file, in bytes."""

Keys = tuple[str | int, ...]
"""Keys and positions that lead to a value in a record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The bytes of a file from which the values of one record can be read again, without the rest of the file."""

    spans: Mapping[str, Span]  # of each column; in JSON of the whole record, under ""
    footer: Span | None = None  # of a Parquet file
    group: int = 0  # row group
    row: int = 0  # within the row group


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedImage:
    """The address and the identity of an image that is stored inside its record."""

    sha256: str
    name: str  # file name in the data set; "" where there is none
    home: Home
    path: Keys
    is_image: bool = True  # False for bytes that do not begin as an image does

    @property
    def id(self) -> str:
        """The image's id in all data sets, or else one of its bytes."""
        return image_id_of(self.name) or f"image/{self.sha256[:24]}"


class UnknownClass(int):
    """A class number that the names in the file's own metadata do not reach, such as -1."""


ImageRef = str | EmbeddedImage
"""The file name of an image, or an image in the record itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record of a file, or its fault."""

    number: int  # from 0; of the line in a file of lines, of the row in a table
    value: Any = None  # of JSON types; in Parquet with an `EmbeddedImage` for each binary value
    wrong: str = ""  # the fault; "" for a readable record
    nulls: tuple[str, ...] = ()  # columns that are null in this row of a table
    home: Home

    @property
    def fields(self) -> Mapping[str, Any]:
        """The record as an object.

        Raises:
            WrongFormat: the record is no object.
        """
        if self.wrong or not isinstance(self.value, dict):
            raise WrongFormat(self.wrong or f"expected an object, found {kind_of(self.value)}")
        return self.value

    def embedded(self) -> Iterator[EmbeddedImage]:
        """Yield the binary values of a record in Parquet, read or not."""
        return _embedded_in(self.value) if self.home.footer else iter(())

    def image(self, value: object, path: Keys) -> ImageRef:
        """Return the image that the value at `path` stands for.

        Args:
            value: an image in Parquet, a file name, a data URL, or an object with one of these under "url".
            path: keys that lead to the value.

        Raises:
            WrongFormat: the value is none of these, or a web address.
        """
        if isinstance(value, EmbeddedImage):
            return value
        if isinstance(value, Mapping) and value.get("url"):
            return self.image(value["url"], (*path, "url"))
        if isinstance(value, Mapping) and value.get("path"):  # whose bytes are null
            return self.image(value["path"], (*path, "path"))
        if not isinstance(value, str) or not value:
            kind = "empty" if value == "" else kind_of(value)
            raise WrongFormat(f"{place(path)} is {kind}, expected an image or its file name")
        if value.startswith("data:"):
            digest = hashlib.sha256(of_data_url(value, path)).hexdigest()
            return EmbeddedImage(sha256=digest, name="", home=self.home, path=path)
        if value.startswith(("http://", "https://")):
            raise WrongFormat(
                f"{place(path)} is the web address {value!r:.80}; nothing is fetched: save the image to a file"
            )
        return unquote(urlparse(value).path) if value.startswith("file://") else value


def _embedded_in(value: object) -> Iterator[EmbeddedImage]:
    if isinstance(value, EmbeddedImage):
        yield value
    elif isinstance(value, Mapping | list):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _embedded_in(one)


def image_name(image: ImageRef) -> str:
    """Return the file name of an image in its data set, or ""."""
    return image if isinstance(image, str) else image.name


def image_key(image: ImageRef) -> str:
    """Return the identity of an image's content: its file name, or the id of an embedded one."""
    return image if isinstance(image, str) else image.id


def document_of(image: ImageRef) -> str:
    """Return the document for the split: the same for all records with this image."""
    return document_of_image(image) if isinstance(image, str) else image.id


def failed_record(name: str, error: WrongFormat, nulls: Sequence[str] = ()) -> Unit:
    """Return the failed unit of a record that is not in its format. `nulls` are those of the record."""
    detail = f"{error}; null: {', '.join(nulls[:9])}" if nulls else str(error)
    return Unit(id=name, document=name, content=name, verdict=Failed(reason="wrong_form", detail=detail))


def place(path: Keys) -> str:
    """Name the place of a value in its record, such as messages[0].content."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


_DATA_URL = re.compile(r"data:[^,;]*((?:;[^,;]*)*),")


def of_data_url(url: str, path: Keys) -> bytes:
    """Return the bytes of a data URL, such as "data:image/png;base64,iVBORw0…".

    Raises:
        WrongFormat: it is none, or not in base64.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise WrongFormat(f"{place(path)} is a data URL without data: {url[:40]!r}")
    data = url[head.end() :]
    if not head[1].endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return base64.b64decode(unquote(data).strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WrongFormat(f"{place(path)} is no data URL in base64: {error}") from error
