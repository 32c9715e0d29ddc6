"""A bar for work that is counted, on a terminal; plain lines elsewhere. Both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from batches import screens

# Without a terminal, one line of progress now and then.
PLAIN_EVERY_S = 5


@contextmanager
def steps(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function to tell how many more are done."""
    if screens.err.is_terminal:
        columns = (
            TextColumn(what),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=screens.err) as progress:
            task = progress.add_task(what, total=total)
            yield lambda more: progress.advance(task, more)
        return
    done, said_at = 0, time.monotonic()

    def tell(more: int) -> None:
        nonlocal done, said_at
        done += more
        if time.monotonic() - said_at >= PLAIN_EVERY_S:
            said_at = time.monotonic()
            screens.warn(f"{what}: {done:,} of {total:,}")

    yield tell
