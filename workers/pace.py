"""An account's pace and its breaker, shared by all workers through the accounts table.

A call waits for its turn only briefly; beyond that the payout is given back. After many failures in
a row the account is paused, and the sweep probes it with one call at a time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from workers.clock import Clock
from workers.providers.transport import Paced
from workers.record.accounts import AccountBook

# Failures in a row (no answer, or 5xx) that open the breaker; refusals never count.
BREAKER_FAILURES = 10
# A call that would wait longer than this is not made now.
WAIT_S_MAX = 20
BURST_US = 1_000_000


class AccountGate:
    """What every call of one account passes. Safe for threads."""

    def __init__(self, account: str, rate_per_s: float, book: AccountBook, clock: Clock) -> None:
        """
        Args:
            rate_per_s: calls a second over all processes; 0: no limit.
        """
        self._account = account
        self._interval_us = int(1_000_000 / rate_per_s) if rate_per_s else 0
        # The burst is one second's calls, and never less than one call.
        self._burst_us = max(BURST_US, self._interval_us)
        self._book = book
        self._clock = clock
        self._failures = 0
        self._lock = threading.Lock()
        self._calls = threading.local()

    @contextmanager
    def no_later_than(self, start_by: float) -> Iterator[None]:
        """Have this thread's calls begin by then, or not at all.

        Args:
            start_by: seconds of the monotonic clock.
        """
        self._calls.start_by = start_by
        try:
            yield
        finally:
            self._calls.start_by = math.inf

    def enter(self) -> None:
        """Wait for the account's next slot.

        Raises:
            Paced: it is too far off, or beyond what `no_later_than` allows.
        """
        self._wait_for_slot()
        # Right before sending: a process that was stopped in between wakes up too late.
        if self._clock.monotonic() > getattr(self._calls, "start_by", math.inf):
            raise Paced(1)

    def _wait_for_slot(self) -> None:
        if not self._interval_us:
            return
        wait_us = self._book.take_slot(
            self._account,
            self._clock.now(),
            interval_us=self._interval_us,
            burst_us=self._burst_us,
            wait_us_max=WAIT_S_MAX * 1_000_000,
        )
        if wait_us is None:
            raise Paced(WAIT_S_MAX)
        if wait_us:
            self._clock.sleep(wait_us / 1_000_000)

    def leave(self, *, answered: bool) -> None:
        """Count failures in a row; enough of them open the breaker."""
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
            opened = self._failures == BREAKER_FAILURES
            if opened:
                self._failures = 0
        if opened:
            reason = f"{BREAKER_FAILURES} calls in a row were not answered"
            self._book.pause(self._account, "outage", reason, self._clock.now())

    def wait_s(self) -> int:
        """Whole seconds until a call would find room; less than a second counts as none."""
        if not self._interval_us:
            return 0
        wait_us = self._book.slot_wait_us(
            self._account, self._clock.now(), burst_us=self._burst_us - self._interval_us
        )
        return math.floor(wait_us / 1_000_000)
