"""A user's mistake ends in one clear line, never in a traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can mend. The message is one line that names the file, the key or value, and the remedy."""


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """Turns `main` into a command line: exit 0 (or what it returns), 2 for a `UserError`, 130 for Ctrl-C."""

    @functools.wraps(main)
    def run() -> None:
        try:
            sys.exit(main())
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped; what is finished is kept: run the same command again to go on", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:  # `… | head`: the reader has seen enough
            sys.stderr.close()
            sys.exit(0)

    return run
