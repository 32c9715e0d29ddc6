"""Calls that share a transaction, and who gets in its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.batches.cli_world import until
from tests.workers.record.conftest import Record
from workers.record.database import Database
from workers.record.groups import Groups

S_MAX = 60


@contextmanager
def in_one_group(together: Groups[Any], *calls: Callable[[], Any]) -> Iterator[list[Future[Any]]]:
    """The calls, which come while somebody else is at it and are carried out as one group."""
    together._busy = True
    with ThreadPoolExecutor(len(calls)) as pool:
        running: list[Future[Any]] = []
        for call in calls:
            running.append(pool.submit(call))
            until(lambda: len(together._waiting) == len(running), limit_s=S_MAX)
        with together._lock:
            together._hand_over()
        yield running


def came_of(call: Future[Any]) -> Any:
    """What it gave or raised."""
    return call.exception(S_MAX) or call.result()


@contextmanager
def keeping(record: Record, row: str) -> Iterator[Callable[[], None]]:
    """Somebody keeps a row, until told to let go of it."""
    with record.database.engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT 1 FROM {row} FOR UPDATE")
        yield connection.rollback


def waits_for_a_lock(record: Record) -> bool:
    return bool(
        record.sql(
            "SELECT 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    )


class Forgetful(Database):
    """A database that goes away right after the next commit, before anybody is told of it."""

    goes = False

    @contextmanager
    def write(self, *, by_key: bool = False, patient: bool = True) -> Iterator[Connection]:
        with super().write(by_key=by_key, patient=patient) as connection:
            yield connection
        if self.goes:
            self.goes = False
            raise OperationalError("COMMIT", {}, Exception("connection lost"))
