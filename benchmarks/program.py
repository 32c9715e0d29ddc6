"""How the programs of this folder end: told to, they stop all that they have started.

What they start has a session of its own, so Ctrl-C reaches none of it: each is stopped in its turn,
the database last, by the blocks that have started them.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
# SIGHUP comes when the terminal is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Told:
    """Whether this program was told to end, and whether that has to wait."""

    to_end: bool = False
    is_held: bool = False


_told = _Told()


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program to its end, and leave with its exit code."""
    for each in SIGNALS:
        signal.signal(each, _interrupt)
    try:
        code = main()
    except KeyboardInterrupt:
        print("Interrupted; all that was started is stopped.", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Be interrupted after this block, not in it: what is being started is then known."""
    _told.is_held, before = True, _told.to_end
    try:
        yield
    finally:
        _told.is_held = False
    if _told.to_end and not before:
        raise KeyboardInterrupt


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # Told again, it is at it: nothing may keep it from stopping the rest.
    if _told.to_end:
        return
    _told.to_end = True
    if not _told.is_held:
        raise KeyboardInterrupt
