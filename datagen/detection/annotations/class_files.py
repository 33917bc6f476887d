"""Files of class names by class number: YOLO's data.yaml, or a text with a name per line."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import yaml

from datagen.detection.annotations.reader import open_binary
from varyforge.errors import WrongFormat


class Classes(NamedTuple):
    """The classes of a data set."""

    names: Mapping[int, str]  # by class number
    has_points: bool  # key points follow the box (`kpt_shape` in data.yaml)


@lru_cache(maxsize=4)  # called for each of many thousand label files
def read_class_file(location: str, signature: str) -> Classes:
    """Read the class names from YOLO's data.yaml, or from a text with a name per line.

    Args:
        location: path or URL.
        signature: `varyforge.storage.signature` of the file, so that a changed file is read again.

    Raises:
        WrongFormat: the file is not YAML, or has no class names.
        OSError: the file cannot be read.
    """
    with open_binary(location) as file:
        text = file.read().decode("utf-8-sig", errors="replace")
    if not location.lower().endswith((".yaml", ".yml")):
        return Classes({number: line.strip() for number, line in enumerate(text.splitlines())}, False)
    try:
        about = yaml.load(text, Loader=yaml.BaseLoader)  # words stay words: yes, no, on, null, 007, 1e3
    except yaml.YAMLError as error:
        raise WrongFormat(f"{posixpath.basename(location)}: not YAML: {' '.join(str(error).split())}") from error
    names: Any = about.get("names") if isinstance(about, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not all(number.strip().isdecimal() for number in names):
        raise WrongFormat(f"{posixpath.basename(location)}: key 'names' is no list of class names, nor names by number")
    return Classes({int(number): str(name) for number, name in names.items()}, isinstance(about.get("kpt_shape"), list))
