"""Which PostgreSQL database the record is in: rows that wake up in another one were restored.

The record remembers its database: the server's own number, its timeline (a new one with each
failover or point-in-time recovery), and the numbers of the database and of the payouts table (new
ones in whatever a dump was loaded into). What a role may not read is left out. SQLite has nothing
of the kind: a copied file is the same file.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import create_engine, event, select, update
from sqlalchemy.pool import NullPool

from workers.clock import Clock
from workers.errors import OperatorError
from workers.record.database import Database
from workers.record.restores import freeze
from workers.record.tables import installation

log = logging.getLogger(__name__)

TIMELINE = "timeline"
# Source: PostgreSQL 15 documentation, "System Administration Functions" and "System Information
# Functions": any role may call these unless that was taken from it. The control file tells a new
# timeline only after the first checkpoint; the name of the log file that is written to, at once.
_PARTS: Mapping[str, str] = {
    "system": "SELECT system_identifier FROM pg_control_system()",
    TIMELINE: "SELECT substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)",
    "database": "SELECT oid FROM pg_database WHERE datname = current_database()",
    "table": "SELECT 'payouts'::regclass::oid",
}
_WORDS: Mapping[str, str] = {
    "system": "another server",
    TIMELINE: "after a failover or a recovery",
    "database": "another database",
    "table": "tables made anew",
}

Parts = Mapping[str, str]


class Identity:
    """Compares this process's connections with the database that the record was written to."""

    def __init__(self, database: Database, clock: Clock, *, freeze_after_failover: bool) -> None:
        self._database = database
        self._clock = clock
        self._ignored = set[str]() if freeze_after_failover else {TIMELINE}
        self._known: Parts = {}
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Check now, and at every connection that is opened from now on, before its first use: a
        process that outlives a failover must not go on as if nothing had happened.

        Raises:
            OperatorError: the database is a standby.
        """
        if self._database.is_sqlite:
            return
        engine = create_engine(self._database.engine.url, poolclass=NullPool)
        with engine.connect() as connection:
            self._check(_read(connection.connection.driver_connection))
        event.listen(self._database.engine, "connect", self._opened)

    def _opened(self, connection: Any, _record: Any) -> None:
        try:
            found = _read(connection)
            if found != self._known:
                self._check(found)
        except BaseException:
            # What is refused here is nobody's: SQLAlchemy does not close it.
            connection.close()
            raise

    def _check(self, found: Parts) -> None:
        """Freeze where the stored identity is another one; many processes may do so at once."""
        # A connection of its own: the pool's is still being opened.
        engine = create_engine(self._database.engine.url, poolclass=NullPool, hide_parameters=True)
        which = select(installation.c.identity).where(installation.c.id == 1)
        with self._lock, engine.begin() as connection:
            stored = _parsed(connection.execute(which.with_for_update()).scalar_one())
            changed = sorted(
                (name for name in stored if stored[name] != found.get(name, stored[name])),
                key=list(_PARTS).index,
            )
            telling = [name for name in changed if name not in self._ignored]
            if telling:
                reason = _reason(telling)
                names = freeze(connection, reason, self._clock.now())
                log.error("accounts frozen", extra={"account": ",".join(names), "reason": reason})
            now_known = {**stored, **found}
            if now_known != stored:
                identity = _written(now_known)
                connection.execute(
                    update(installation).where(installation.c.id == 1).values(identity=identity)
                )
        self._known = found


def _reason(changed: list[str]) -> str:
    how = ", ".join(_WORDS[name] for name in changed)
    return f"the database is not as the record left it ({how}): what was sent last may be missing"


def _read(connection: Any) -> Parts:
    """What this connection's database says it is.

    Raises:
        OperatorError: it is a standby, which takes no writes, and may become another timeline.
    """
    if _ask(connection, "SELECT pg_is_in_recovery()") == "True":
        raise OperatorError(
            "the database is a standby that has not been promoted: nothing can be written to it"
        )
    asked = {name: _ask(connection, question) for name, question in _PARTS.items()}
    return {name: answer for name, answer in asked.items() if answer is not None}


def _ask(connection: psycopg.Connection[Any], question: str) -> str | None:
    """The answer; None: this role may not ask."""
    try:
        with connection.cursor() as cursor:
            row = cursor.execute(question.encode()).fetchone()
    except psycopg.errors.OperationalError:
        raise
    except psycopg.Error:
        return None
    finally:
        connection.rollback()
    return None if row is None else str(row[0])


def _written(parts: Parts) -> str:
    return " ".join(f"{name}={parts[name]}" for name in sorted(parts))


def _parsed(text: str | None) -> Parts:
    return dict(part.split("=", 1) for part in (text or "").split())
