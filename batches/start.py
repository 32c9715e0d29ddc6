"""What the `paybatch` program begins and ends with."""

from __future__ import annotations

import gc
import signal
import sys
from typing import NoReturn

# New objects before a search among the young, and searches before one among the older.
GARBAGE = (50_000, 20, 100)


def main() -> NoReturn:
    """Run one command and end the process with its exit code."""
    # What a command loads, and a file's rows, are many small values that live to the end: to look
    # through them all for garbage, again and again and once more when all is done, takes a quarter
    # of the time of any command, and a third of that of a check.
    gc.set_threshold(*GARBAGE)
    from batches import cli  # noqa: PLC0415 - as was said

    gc.freeze()
    signal.signal(signal.SIGTERM, _interrupt)
    code = cli.main()
    gc.freeze()
    sys.exit(code)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
