"""The simulator's own time: wall time, faster than it, or moved by hand."""

from __future__ import annotations

import time


class SimulatorClock:
    """Unix seconds as the simulated provider sees them.

    It never shows a time before `not_before`, the last one in the ledger, so that a restart
    continues an accelerated or advanced run.
    """

    def __init__(
        self, *, scale: float = 1.0, manual: float | None = None, not_before: float = 0.0
    ) -> None:
        self._scale = scale
        self._manual = manual is not None
        self._base = max(time.time() if manual is None else manual, not_before)
        self._started = time.monotonic()

    def now(self) -> float:
        if self._manual:
            return self._base
        return self._base + (time.monotonic() - self._started) * self._scale

    def move_to(self, now: float) -> None:
        """Go to that time, which is never earlier than now."""
        self._base = max(now, self.now())
        self._started = time.monotonic()
