"""The only reader of the clock. Times are aware UTC; durations come from the monotonic clock.

Everything else is given `now`, or a `Clock`, so that tests move time by hand and nothing sleeps in
them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

log = logging.getLogger(__name__)

# How often a process asks the shared clock anew: two machines' clocks part by milliseconds in it.
ASK_EVERY_S = 10
# An answer that took longer says too little about when it was given.
ASK_S_MAX = 1
# What a process that is to stop still waits at most, each time.
STOPPING_SLEEP_S = 0.1
# Own clocks further off than this are told of: certificates, tokens and signatures depend on them.
SKEW_S_MAX = 5


class Clock(Protocol):
    """What the payment steps need of time."""

    @property
    def stopping(self) -> bool:
        """Whether the process is to stop: nothing new is begun, and nobody waits."""
        ...

    def now(self) -> datetime:
        """The time of day, aware, in UTC; the same for every process of the record."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait, less long if the process is to stop meanwhile; a test's clock only moves on."""
        ...

    def stop(self) -> None:
        """The process is to stop. Safe in a signal handler."""
        ...


class SystemClock:
    """The machine's clock."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        # Where there is one, a clock that also runs while the machine is suspended: what it slept
        # through counts against every deadline.
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if self.stopping:
            # Whatever is tried again and again must still give way in between.
            time.sleep(min(seconds, STOPPING_SLEEP_S))
        else:
            self._stop.wait(seconds)

    def stop(self) -> None:
        self._stop.set()


class SharedClock(SystemClock):
    """The database's clock, for processes on machines whose own may be wrong.

    Claims, grace times and pace are agreements between processes. The database is asked now and
    then; in between the monotonic clock carries its time on, so a machine's time of day, right,
    wrong or set anew, is used for nothing.
    """

    def __init__(self, ask: Callable[[], datetime]) -> None:
        """
        Args:
            ask: the database's time; may raise while there is no answer.
        """
        super().__init__()
        self._ask = ask
        self._asking = threading.Lock()
        # The database's time and the monotonic clock's at one moment, and when to ask anew.
        self._known = self._answer()
        self._ask_at = self._known[1] + ASK_EVERY_S
        self._told = False

    def now(self) -> datetime:
        if self.monotonic() >= self._ask_at and self._asking.acquire(blocking=False):
            try:
                self._ask_anew()
            finally:
                self._asking.release()
        then, ticks = self._known
        return then + timedelta(seconds=self.monotonic() - ticks)

    def skew_s(self) -> float:
        """How far the machine's own clock is ahead of the shared one."""
        return (super().now() - self.now()).total_seconds()

    def _ask_anew(self) -> None:
        self._ask_at = self.monotonic() + ASK_EVERY_S
        try:
            self._known = self._answer()
        except Exception:  # noqa: BLE001 - whatever keeps the database from answering
            # What is known is still right; whoever needs the database hears of it by itself.
            log.warning("clock not asked", extra={"reason": "the database did not answer"})
            return
        skew_s = (super().now() - self._known[0]).total_seconds()
        if abs(skew_s) > SKEW_S_MAX and not self._told:
            self._told = True
            reason = f"this machine's clock is {skew_s:.0f} s ahead of the database's"
            log.warning("clock skewed", extra={"reason": reason})

    def _answer(self) -> tuple[datetime, float]:
        while True:
            before = self.monotonic()
            answer = self._ask()
            after = self.monotonic()
            if after - before <= ASK_S_MAX or self.stopping:
                return answer, (before + after) / 2
