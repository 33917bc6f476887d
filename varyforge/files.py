"""Files that are either whole or absent: temp file in the same folder, fsync, rename."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from varyforge.errors import UserError

TEMP_SUFFIX = ".tmp"
_LOCK = ".lock"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends without an exception, and not at all otherwise.

    A kill at any moment leaves either the old file or the new one, and perhaps a `*.tmp` beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMP_SUFFIX}")  # machines share folders
    try:
        with open(temp, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
        sync_folder(path.parent)
    except BaseException as error:
        temp.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk says so to a descriptor, which tells a person nothing
        raise


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder that appears at `path` with all that the block wrote into it, or not at all.

    What a killed process left half-written beside `path` is removed first. A kill at any moment leaves the old folder
    or the new one whole, or (between two renames) none.

    Raises:
        UserError: there is something at `path`, which is not to be replaced, or another process is writing it.
        OSError: the disk is full, also where a library says so in an error of its own kind; it names `path`.
    """
    if path.exists() and not replace and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists already; delete it or choose another name")
    asked, path = path, path.absolute()  # "." has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    for torn in path.parent.glob(f".{glob.escape(path.name)}.*{TEMP_SUFFIX}/"):
        with suppress(UserError), locked(torn):  # who is still writing holds its lock
            shutil.rmtree(torn, ignore_errors=True)
    temp = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMP_SUFFIX}")
    try:
        with locked(temp):
            yield temp
            (temp / _LOCK).unlink()
            _as_new_files(temp)
            sync_tree(temp)
            _swap(temp, path)
    except BaseException as error:
        shutil.rmtree(temp, ignore_errors=True)
        if number := _no_room(error):
            raise OSError(number, os.strerror(number), str(asked)) from error
        raise


def _as_new_files(folder: Path) -> None:
    """Whoever may read new files of the user's may read these: some libraries write theirs for the owner alone."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def _swap(new: Path, path: Path) -> None:
    """Renames `new` to `path`; what was there goes away whole, and after that."""
    old = new.with_name(f"{new.name.removesuffix(TEMP_SUFFIX)}-old{TEMP_SUFFIX}")
    if path.exists():
        os.replace(path, old)
    os.replace(new, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _no_room(error: BaseException | None) -> int | None:
    """The number of a full disk's error behind `error`; safetensors and tokenizers raise it as text, torch another."""
    while error is not None:
        said = re.search(r"\(os error (\d+)\)", str(error))
        number = int(said[1]) if said else getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return number
        error = error.__cause__ or error.__context__
    return None


def sync_tree(folder: Path) -> None:
    """Everything below `folder` on the disk, as before the rename that makes it count."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """One writer at a time in `folder`, which is made if need be; yields the lock's file descriptor.

    The kernel lets go of the lock when the last process that holds the descriptor is gone, however it ends.

    Raises:
        UserError: another process is at work there, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / _LOCK, "w")
    except OSError as error:
        raise UserError(f"{folder}: cannot write there: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is writing there; wait for it or choose another out") from error
        yield lock.fileno()


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed process left half-written directly in `folder`."""
    for temp in folder.glob(f".*{TEMP_SUFFIX}"):
        temp.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
