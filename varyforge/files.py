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
    """Open a binary file that appears at `path` when the block ends without an exception, and else not at all.

    A kill at any moment leaves the old file or the new one, and perhaps a `*.tmp` beside it.
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
            error.filename = str(path)  # the error of a full disk names a descriptor, not the file
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a folder that appears at `path` with all that the block wrote into it, or not at all.

    Leftovers of killed processes beside `path` are removed first. A kill at any moment leaves the old folder or the new
    one whole, or (between two renames) none.

    Raises:
        UserError: `path` exists and `replace` is false, or another process is writing the folder.
        OSError: the disk is full, also if a library raised an error of its own for that; it names `path`.
    """
    if path.exists() and not replace and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists already; delete it or choose another name")
    name, path = str(path), path.absolute()  # "." has no name
    path.parent.mkdir(parents=True, exist_ok=True)
    for torn in path.parent.glob(f".{glob.escape(path.name)}.*{TEMP_SUFFIX}/"):
        with suppress(UserError), locked(torn):  # a process that is still writing holds the lock
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
            raise OSError(number, os.strerror(number), name) from error
        raise


def _as_new_files(folder: Path) -> None:
    """Set the permissions of the user's new files: some libraries write files that only the owner can read."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def _swap(new: Path, path: Path) -> None:
    """Rename `new` to `path`, then remove the folder that was there."""
    old = new.with_name(f"{new.name.removesuffix(TEMP_SUFFIX)}-old{TEMP_SUFFIX}")
    if path.exists():
        os.replace(path, old)
    os.replace(new, path)
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _no_room(error: BaseException | None) -> int | None:
    """Return the number of a full disk's error behind `error`, if any. safetensors and tokenizers give it as text."""
    while error is not None:
        match = re.search(r"\(os error (\d+)\)", str(error))
        number = int(match[1]) if match else getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return number
        error = error.__cause__ or error.__context__
    return None


def sync_tree(folder: Path) -> None:
    """Flush everything below `folder` to the disk, before the rename that makes it count."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Flush the renames in `folder`, so that they survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Lock `folder`, made if need be, for one writer; yield the lock's file descriptor.

    The kernel releases the lock when the last process that holds the descriptor has ended. If the block raises, folders
    that were made for it and hold no file are removed.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written to.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
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
        try:
            yield lock.fileno()
        except BaseException:
            if missing and [path.name for path in folder.iterdir()] == [_LOCK]:
                (folder / _LOCK).unlink()
                for path in missing:
                    with suppress(OSError):  # another process uses it by now
                        path.rmdir()
            raise


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of killed processes directly in `folder`."""
    for temp in folder.glob(f".*{TEMP_SUFFIX}"):
        temp.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
