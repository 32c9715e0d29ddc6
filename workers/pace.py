"""An account's pace and its breaker, shared by all workers through the accounts table.

A call waits for its turn only briefly; beyond that the payout is given back. After many failures in
a row the account is paused, and the sweep probes it with one call at a time. How the calls went is
counted here and told to the record now and then.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from workers.clock import Clock
from workers.providers.transport import Paced
from workers.record.accounts import AccountBook
from workers.record.calls import CallBook, Count, Kind, range_of

log = logging.getLogger(__name__)

# Failures in a row (no answer, or 5xx) that open the breaker; refusals never count.
BREAKER_FAILURES = 10
# A call that would wait longer than this is not made now.
WAIT_S_MAX = 20
BURST_US = 1_000_000
# The step of a call that is no payout's: a question about the account.
ASK = "ask"
# Counts of calls are told to the record no more often than this.
COUNTS_S = 5


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
        self._counts = _Counts(account, CallBook(book.database), clock)

    @contextmanager
    def no_later_than(self, start_by: float, *, step: str = ASK) -> Iterator[None]:
        """Have this thread's calls begin by then, or not at all.

        Args:
            start_by: seconds of the monotonic clock.
            step: what they are counted as.
        """
        self._calls.start_by, self._calls.step = start_by, step
        try:
            yield
        finally:
            self._calls.start_by, self._calls.step = math.inf, ASK

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

    def leave(self, *, answered: bool, answer: str, took_us: int) -> None:
        """Count the call, and failures in a row; enough of them open the breaker."""
        with self._lock:
            self._failures = 0 if answered else self._failures + 1
            opened = self._failures == BREAKER_FAILURES
            if opened:
                self._failures = 0
        if opened:
            reason = f"{BREAKER_FAILURES} calls in a row were not answered"
            self._book.pause(self._account, "outage", reason, self._clock.now())
        step = getattr(self._calls, "step", ASK)
        self._counts.add(step, answer, took_us)
        if step == ASK:
            self._counts.tell_sometimes()

    def tell_counts(self) -> None:
        """Tell the record how the calls went, if it was not told in the last seconds.

        For a moment when no payout waits for its answer to be recorded: nothing may come between
        the two.
        """
        self._counts.tell_sometimes()

    def close(self) -> None:
        """Tell the record what it was not told yet."""
        self._counts.tell()

    def wait_s(self) -> int:
        """Whole seconds until a call would find room; less than a second counts as none."""
        if not self._interval_us:
            return 0
        wait_us = self._book.slot_wait_us(
            self._account, self._clock.now(), burst_us=self._burst_us - self._interval_us
        )
        return math.floor(wait_us / 1_000_000)


class _Counts:
    """The calls of one account that the record was not told of yet. Safe for threads."""

    def __init__(self, account: str, book: CallBook, clock: Clock) -> None:
        self._account = account
        self._book = book
        self._clock = clock
        self._lock = threading.Lock()
        self._untold: dict[Kind, Count] = {}
        self._tell_at = clock.monotonic() + COUNTS_S

    def add(self, step: str, answer: str, took_us: int) -> None:
        """Count one call."""
        with self._lock:
            self._put({Kind(step, answer, range_of(took_us)): Count(1, took_us)})

    def tell_sometimes(self) -> None:
        """Tell the record, unless somebody has just done so."""
        now = self._clock.monotonic()
        with self._lock:
            due = now >= self._tell_at and bool(self._untold)
            if due:
                self._tell_at = now + COUNTS_S
        if due:
            self.tell()

    def tell(self) -> None:
        """Tell the record; what it does not take is kept for the next time."""
        with self._lock:
            counts, self._untold = self._untold, {}
        try:
            # Outside the lock: who only counts does not wait for the record.
            self._book.add(self._account, counts)
        except Exception as error:  # noqa: BLE001 - a count is never worth a payout's trouble
            log.warning(
                "calls not counted yet",
                extra={"account": self._account, "reason": type(error).__name__},
            )
            with self._lock:
                self._put(counts)

    def _put(self, counts: Mapping[Kind, Count]) -> None:
        for kind, count in counts.items():
            number, total_us = self._untold.get(kind, (0, 0))
            self._untold[kind] = Count(number + count.number, total_us + count.total_us)
