from __future__ import annotations

import errno

import pytest

from varyforge.errors import command


def raising(error: Exception) -> Exception:
    """Return an error with another one as its cause, as libraries wrap them."""
    wrapped = RuntimeError("saving failed")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.ENOSPC, "No space left on device", "a.tar"),
        raising(OSError(errno.EDQUOT, "Disk quota exceeded")),
        Exception('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left" })'),
        RuntimeError("[enforce fail at inline_container.cc:626] . PytorchStreamWriter failed writing file data/7"),
    ],
)
def test_a_full_disk_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "no space left on the disk; free some and run the same command again" in line


def test_other_errors_keep_their_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> int:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        main()
