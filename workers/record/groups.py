"""What many threads want stored at about the same time, in one transaction.

A commit waits for the disk, and every statement for the server; sharing them costs a thread a few
milliseconds at most, and only where others share too. Whoever comes first, while nobody is at it,
stores for all who have come until then; the others wait for what became of theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

# How long the first of a group waits for more, where the last group had more than one.
LINGER_S = 0.008
GROUP_MAX = 64

Asked = TypeVar("Asked")


class _Place(Generic[Asked]):
    """One that waits."""

    __slots__ = ("asked", "given", "leads", "wake")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.given: Any = None
        self.leads = False
        self.wake = threading.Lock()
        self.wake.acquire()


class Groups(Generic[Asked]):
    """Takes what is asked of one transaction, and gives what became of it. Safe for threads."""

    def __init__(self, carry_out: Callable[[Sequence[Asked]], Sequence[Any]]) -> None:
        """
        Args:
            carry_out: stores all that is asked, or nothing; for each what is to be given, or the
                error to be raised. What it raises itself is raised for each of them.
        """
        self._carry_out = carry_out
        self._lock = threading.Lock()
        self._waiting: list[_Place[Asked]] = []
        self._busy = False
        self._last = 1

    def take_part(self, asked: Asked) -> Any:
        """Have this stored, with whatever else is asked now; what `carry_out` gave for it.

        Raises:
            whatever `carry_out` raised or gave as its error.
        """
        place = _Place(asked)
        with self._lock:
            self._waiting.append(place)
            place.leads = not self._busy
            self._busy = True
        if not place.leads:
            place.wake.acquire()
        if place.leads:
            self._lead(place)
        if isinstance(place.given, BaseException):
            raise place.given
        return place.given

    def _lead(self, leader: _Place[Asked]) -> None:
        if self._last > 1:
            leader.wake.acquire(timeout=LINGER_S)
        with self._lock:
            group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
        self._last = len(group)
        given: Sequence[Any] = []
        try:
            given = self._carry_out([place.asked for place in group])
        except BaseException as error:
            given = [error] * len(group)
            raise
        finally:
            self._hand_over()
            for place, what in zip(group, given, strict=True):
                place.given = what
                if place is not leader:
                    place.wake.release()

    def _hand_over(self) -> None:
        """Have the next one lead, if there is one."""
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting[0].leads = True
                self._waiting[0].wake.release()
