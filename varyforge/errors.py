"""Errors of a user: one clear line and an exit status, no traceback."""

from __future__ import annotations

import errno
import functools
import os
import re
import sys
from collections.abc import Callable
from types import TracebackType

_EXTRAS = {
    **dict.fromkeys(("ray", "pymupdf", "simplejpeg", "wandb"), "data"),
    **dict.fromkeys(("pypandoc", "pypandoc_binary", "typst", "fontTools"), "latex"),
    "matplotlib": "charts",
    **dict.fromkeys(("rapidocr", "onnxruntime"), "ocr"),
    "pypdfium2": "pdfium",
    **dict.fromkeys(("torch", "deepspeed", "transformers", "tokenizers", "safetensors", "huggingface_hub"), "train"),
    **dict.fromkeys(("rapidfuzz", "webdataset"), "train"),
}
"""Libraries that not every installation has, and the extra of this package that brings each."""

_KINDS = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}


class UserError(ValueError):
    """A mistake that the user can mend. The message is one line with the file, the key or value, and the remedy."""


class WrongFormat(ValueError):
    """An input, or a record of it, that does not have the format its source reads. The message says in one line why.

    Raised while a source cuts an input into units, it costs that input: one unit, failed with reason "wrong_form".
    """


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """Turn `main` into a command line that ends the process with an exit status.

    The status is 0 or what `main` returns, 130 after Ctrl-C, and 2 for what the user can mend: a `UserError`, a file
    that cannot be read or written (also on a full disk), or a library that is not installed.
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            sys.exit(main())
        except BrokenPipeError:  # `… | head` has closed the pipe
            sys.stderr.close()
            sys.exit(0)
        except UserError as error:
            _fail(str(error))
        except ModuleNotFoundError as error:
            _fail(_missing_library(error))
            raise
        except KeyboardInterrupt:
            print("stopped; what is finished is kept: run the same command again to go on", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            _fail(_full_disk(error) or _file_error(error))
            raise

    return run


def _file_error(error: Exception) -> str:
    """Describe an error about a file; "" for any other error."""
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename is not None else ""


def _full_disk(error: BaseException | None) -> str:
    """Describe an error of a full disk, which safetensors and torch raise as errors of their own; "" for any other."""
    while error is not None:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if is_full or re.search(r"StorageFull|No space left on device|PytorchStreamWriter failed writing", str(error)):
            file = getattr(error, "filename", None)
            place = f"{file}: " if file else ""
            return f"{place}no space left on the disk; free some and run the same command again: it goes on from there"
        error = error.__cause__ or error.__context__
    return ""


def _fail(message: str) -> None:
    """Print a line and end the process with status 2; an empty message does nothing."""
    if message:
        if os.environ.get("RANK", "0") == "0":  # all ranks have the same mistake
            print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _missing_library(error: ModuleNotFoundError) -> str:
    """Name the library that is not installed and the line that installs it; "" where no extra brings the library."""
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRAS:
        return ""
    return f"{library} is not installed; type: pip install 'varyforge[{_EXTRAS[library]}]'"


def _on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, ModuleNotFoundError):
        _fail(_missing_library(error))
    sys.__excepthook__(kind, error, trace)


if re.search(r" -m (datagen|trainer|pipelines)\b", " ".join(sys.orig_argv)):  # `command` sees no import before `main`
    sys.excepthook = _on_exception


def kind_of(value: object) -> str:
    """Name the type of a JSON value in a word or two, for messages."""
    return _KINDS.get(type(value), "null" if value is None else "binary data")
