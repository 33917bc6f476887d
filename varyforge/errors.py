"""A user's mistake ends in one clear line, never in a traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can mend. The message is one line that names the file, the key or value, and the remedy."""


class WrongForm(ValueError):
    """An input, or a record of it, is not of the form that its source reads; the message says in one line how not.

    Raised while a source cuts an input into units, it costs that input: one unit, failed with reason "wrong_form".
    """


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """Turns `main` into a command line: exit 0 (or what it returns), 130 for Ctrl-C, 2 for what a user can mend.

    That is a `UserError`, or a file that cannot be read or written (a full disk among them).
    """

    @functools.wraps(main)
    def run() -> None:
        try:
            sys.exit(main())
        except BrokenPipeError:  # `… | head`: the reader has seen enough
            sys.stderr.close()
            sys.exit(0)
        except UserError as error:
            if os.environ.get("RANK", "0") == "0":  # of several ranks with the same mistake one says so
                print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except OSError as error:
            if error.filename is None:
                raise  # not about a file of the user's
            print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped; what is finished is kept: run the same command again to go on", file=sys.stderr)
            sys.exit(130)

    return run


_NAMES = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "a number", float: "a number"}


def kind_of(value: object) -> str:
    """What a JSON value is, for people."""
    return _NAMES.get(type(value), "null")
