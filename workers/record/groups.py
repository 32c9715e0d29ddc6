"""What many threads want stored at about the same time, in one transaction.

A commit waits for the disk, and every statement for the server; sharing them costs a thread a few
milliseconds at most, and only where others share too. Whoever comes first, while nobody is at it,
stores for all who have come until then; the others wait for what became of theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError

from workers.errors import DeveloperError

# How long the first of a group waits for more, where the last group had more than one.
LINGER_S = 0.008
GROUP_MAX = 64
# The database is not there, or gave up: what was to be stored may have been.
DATABASE_AWAY = (OperationalError, InterfaceError, InternalError)
# What a group gives whoever has to see to it alone: one of them could not be stored, or a row that
# one of them needs is kept by others.
ALONE = object()

Asked = TypeVar("Asked")


def as_one(
    asked: Sequence[Asked], store: Callable[[Sequence[Asked]], Sequence[Any]]
) -> Sequence[Any]:
    """What became of each, all in the one transaction of `store`; `ALONE` for each, where one of
    them had it undone.
    """
    try:
        return store(asked)
    except DATABASE_AWAY as error:
        if not _is_of_one(error):
            raise
    except Exception:  # noqa: BLE001, S110 - it is raised for the one whose it is
        pass
    return [ALONE] * len(asked)


def _is_of_one(error: DBAPIError) -> bool:
    """Whether the server is there and has undone the transaction for something in it: a lock, or a
    value that it cannot store.
    """
    return not error.connection_invalidated and getattr(error.orig, "sqlstate", None) is not None


def is_away(error: DBAPIError) -> bool:
    """Whether the server is not there, or has ended the connection. SQLite is always there."""
    # What its driver refuses here, as a text with a NUL in it, has no code of the server's either.
    says_nothing = isinstance(error, DATABASE_AWAY) and getattr(error.orig, "sqlstate", "") is None
    return error.connection_invalidated or says_nothing


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
        try:
            with self._lock:
                self._waiting.append(place)
                place.leads = not self._busy
                self._busy = True
            if not place.leads:
                place.wake.acquire()
            if place.leads:
                self._lead(place)
        except BaseException:
            # Interrupted before it was its turn: whoever leaves must not leave the others waiting.
            self._leave(place)
            raise
        if isinstance(place.given, BaseException):
            raise place.given
        return place.given

    def _lead(self, leader: _Place[Asked]) -> None:
        if self._last > 1:
            leader.wake.acquire(timeout=LINGER_S)
        group: list[_Place[Asked]] = []
        given: Sequence[Any] = []
        try:
            with self._lock:
                group, self._waiting = self._waiting[:GROUP_MAX], self._waiting[GROUP_MAX:]
            self._last = len(group)
            given = self._carry_out([place.asked for place in group])
            if len(given) != len(group):
                raise DeveloperError(f"{len(given)} results of {len(group)}")
        except BaseException as error:
            given = [error] * len(group)
            raise
        finally:
            if group:
                with self._lock:
                    self._hand_over()
            for place, what in zip(group, given, strict=True):
                place.given = what
                if place is not leader:
                    place.wake.release()

    def _leave(self, place: _Place[Asked]) -> None:
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                if place.leads:
                    self._hand_over()

    def _hand_over(self) -> None:
        """Have the next one lead, if there is one; with the lock."""
        self._busy = bool(self._waiting)
        if self._busy:
            self._waiting[0].leads = True
            self._waiting[0].wake.release()
