"""The database: opened once a process, with one way to read and one way to write.

SQLite runs in WAL mode with `synchronous=FULL`, and PostgreSQL never with `synchronous_commit=off`:
an intent must survive a power cut before the provider hears of it. Writes of one process queue up
here on SQLite, fairly, instead of in its busy wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    ExceptionContext,
    Table,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from workers.errors import BatchBusy, OperatorError, SettingsError

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_MS = 30_000
# A process that was stopped in the middle of a transaction must not keep its locks from others.
IDLE_IN_TRANSACTION_MS = 15_000
# Nobody waits longer for a lock than for one such process; what waited is done again.
LOCK_TIMEOUT_MS = 20_000
# Nor so long, where others would wait along who do not need it.
TOGETHER_LOCK_TIMEOUT_MS = 500
# How PostgreSQL says that a lock was waited for too long, and that a decision is being made: its
# connection has such a name meanwhile, of which the server keeps so many bytes.
_LOCK_TIMEOUT = "55P03"
_DECIDING = "paybatch decision: "
_NAME_BYTES_MAX = 63
# A server that is gone without a word is noticed by unacknowledged bytes, or by silence.
# Source: PostgreSQL documentation, "Database Connection Control Functions".
_POSTGRES_LINK: Mapping[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
# Of the connection that stores or seals a large file; new entries go all over the indexes.
SQLITE_CACHE_KB = 65_536
# The parameter of `Database.among`.
TEXTS = "texts"
_MIGRATIONS = Path(__file__).parent / "migrations"
# Until the transaction ends. A plan that was made for a small table is kept when the table grows.
_BY_KEY = "; ".join(f"SET LOCAL enable_{way} = off" for way in ("seqscan", "hashjoin", "mergejoin"))
_BY_KEY_TOGETHER = f"{_BY_KEY}; SET LOCAL lock_timeout = {TOGETHER_LOCK_TIMEOUT_MS}"
# Any number, as long as every Paybatch takes the same one.
_SCHEMA_LOCK = 5_081_119


class Database:
    """The record's database; safe for threads."""

    def __init__(self, url: str, *, connections_max: int = 70) -> None:
        """
        Args:
            url: `sqlite:///paybatch.db` or `postgresql+psycopg://user@host/name`.

        Raises:
            SettingsError: no such kind of database, or the address cannot be read.
            OperatorError: it cannot be opened.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise SettingsError(
                ["database_url: expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"]
            ) from None
        self.path = Path(parsed.database or ":memory:") if parsed.drivername == "sqlite" else None
        if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
            raise SettingsError(
                [
                    f"database_url: {parsed.drivername} is not supported;"
                    " expected sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
                ]
            )
        self.is_sqlite = self.path is not None
        self._write_lock = threading.Lock() if self.is_sqlite else contextlib.nullcontext()
        options: dict[str, Any] = {
            "pool_size": connections_max,
            "max_overflow": 8,
            # An error's text must not carry what was being stored.
            "hide_parameters": True,
        }
        if self.path is not None:
            _make_private(self.path)
        else:
            options["connect_args"] = {**_POSTGRES_LINK, **parsed.query}
        self.engine = create_engine(url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _sqlite_opened)
            event.listen(self.engine, "begin", _sqlite_begins)
        else:
            event.listen(self.engine, "connect", _postgres_opened)
            event.listen(self.engine, "handle_error", _without_details)
        self._writer = self.engine.execution_options(writes=True)
        # The schema's revision when `prepare` came to it; None: there was none.
        self.revision_found: str | None = None

    def prepare(self) -> None:
        """Bring the schema up to date, under a lock: any number of processes may start at once.

        Raises:
            OperatorError: the database cannot be reached, or is newer than this program.
        """
        try:
            # A new SQLite file must not even be read before it is in WAL mode, see `_use_wal`.
            if not self.is_sqlite and self._find_revision() == _head():
                return
            with self._schema_lock():
                if self.path is not None:
                    _use_wal(self.path)
                if self._find_revision() != _head():
                    self._upgrade()
        except (OSError, sqlite3.Error, DBAPIError) as error:
            why = error.orig if isinstance(error, DBAPIError) else error
            raise OperatorError(f"the database {self.shown} cannot be used: {why}") from error

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection with one consistent view."""
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self, *, by_key: bool = False, patient: bool = True) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on any error.

        Args:
            by_key: it finds every row by its key; PostgreSQL then never goes through a whole table,
                whatever it believed of the table's size when it planned a statement.
            patient: False, with `by_key`: it is not for one alone, and does not wait for long where
                somebody keeps a row.

        An error from the commit itself leaves open whether it took effect; the caller must then
        act as if it may have.
        """
        with self._write_lock, self._writer.begin() as connection:
            if by_key and not self.is_sqlite:
                connection.exec_driver_sql(_BY_KEY if patient else _BY_KEY_TOGETHER)
            yield connection

    @contextlib.contextmanager
    def decide(self, batch_id: str, doing: str, actor: str) -> Iterator[Connection]:
        """As `write`, for a decision about a batch: whoever has to wait for it can see whose it is.

        Args:
            doing: `approving`, for the others to read.

        Raises:
            BatchBusy: somebody else kept it waiting for too long.
        """
        try:
            with self.write() as connection:
                if not self.is_sqlite:
                    named = f"{_DECIDING}{batch_id} {doing} {actor}"[:_NAME_BYTES_MAX]
                    connection.execute(select(func.set_config("application_name", named, True)))
                yield connection
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_TIMEOUT:
                raise
            raise BatchBusy(
                f"batch {batch_id}: {self._deciding()}; nothing was changed here. Try again when"
                " that has ended: a large batch takes some minutes"
            ) from None

    def _deciding(self) -> str:
        """Who is deciding about which batch at this moment."""
        others = text(
            "SELECT application_name, xact_start FROM pg_stat_activity"
            " WHERE datname = current_database() AND starts_with(application_name, :mark)"
            " ORDER BY xact_start"
        )
        told = []
        with self.read() as connection:
            for name, since in connection.execute(others, {"mark": _DECIDING}):
                which, doing, actor = name.removeprefix(_DECIDING).split(" ", 2)
                told.append(f"{actor} is {doing} batch {which} since {since:%H:%M:%S} UTC")
        return " and ".join(told) or "a worker or another command keeps what this needs"

    def now(self) -> datetime:
        """The server's time of day; SQLite has none but this machine's."""
        with self.read() as connection:
            at: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            return at.astimezone(UTC)

    def have_time(self, connection: Connection) -> None:
        """Prepare this transaction for very many rows: it may wait for its own process, and SQLite
        keeps more of the indexes at hand than the 2 MB that it usually does.
        """
        if self.is_sqlite:
            connection.exec_driver_sql(f"PRAGMA cache_size=-{SQLITE_CACHE_KB}")
        self.wait_for_itself(connection)

    def wait_for_itself(self, connection: Connection) -> None:
        """Let this transaction stay while its own process does other things."""
        if not self.is_sqlite:
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10min'"))

    def find_by_key(self, connection: Connection) -> None:
        """Have the rest of this transaction find every row by its key, as `write` does `by_key`."""
        if not self.is_sqlite:
            connection.exec_driver_sql(_BY_KEY)

    def add_up(self, connection: Connection) -> None:
        """Have the rest of this transaction go through many rows at once: to compile a question
        takes PostgreSQL longer than it gains by that.
        """
        if not self.is_sqlite:
            connection.exec_driver_sql("SET LOCAL jit = off")

    def look_over(self, table: Table, *, rewritten: bool = False) -> None:
        """Have PostgreSQL look at a table of which much has changed at once, so that it plans for
        what is there; by itself it does so a minute later, or more. SQLite need not.

        Args:
            rewritten: many of its rows are new ones in place of old ones; what they were is cleared
                away too, or it would be gone through by whoever counts them.
        """
        if self.is_sqlite:
            return
        # It is no part of what was done: whoever may not, or finds somebody at it, goes on.
        with contextlib.suppress(DBAPIError), self.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            # A tenth of the usual sample does until then, and takes a tenth of its two seconds.
            connection.exec_driver_sql("SET default_statistics_target = 10")
            how = "VACUUM (ANALYZE, SKIP_LOCKED)" if rewritten else "ANALYZE (SKIP_LOCKED)"
            try:
                connection.exec_driver_sql(f"{how} {table.name}")
            finally:
                connection.exec_driver_sql("RESET default_statistics_target")

    def forget_journal(self) -> bool:
        """Have SQLite's journal keep nothing of what was changed; False: others still read in it.
        PostgreSQL's is its keeper's concern.
        """
        if not self.is_sqlite:
            return True
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        finally:
            connection.close()

    def among(self, column: ColumnElement[Any]) -> ColumnElement[bool]:
        """That a column is one of some texts or numbers, however many: `TEXTS` names them, as JSON.
        They are one parameter, so that the statement is made and planned once.
        """
        given = bindparam(TEXTS, type_=Text)
        if not self.is_sqlite and not isinstance(column.type, Text):
            # As an array: a planner looks each of its members up, whatever else it is asked.
            array = cast(func.translate(given, "[]", "{}"), postgresql.ARRAY(column.type))
            return column == func.any(array)
        listed = (
            func.json_each(given)
            if self.is_sqlite
            else func.json_array_elements_text(cast(given, JSON))
        )
        return column.in_(select(listed.table_valued("value").c.value))

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @property
    def shown(self) -> str:
        """Its address without user, password and query, which may hold another password."""
        url = self.engine.url
        port = f":{url.port}" if url.port else ""
        return f"{url.drivername}://{url.host or ''}{port}/{url.database or ''}"

    def revision(self) -> str | None:
        """Which revision of the tables it has; None: no tables yet."""
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            noted = connection.execute(text("SELECT version_num FROM alembic_version"))
            revision: str | None = noted.scalar_one_or_none()
            return revision

    def _find_revision(self) -> str | None:
        self.revision_found = self.revision()
        return self.revision_found

    def _upgrade(self) -> None:
        # Only the first start after an upgrade needs it, and it takes a tenth of any start.
        from alembic import command  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        config = _config()
        with self._writer.begin() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise OperatorError(
                    f"the database {self.shown} was made by a newer Paybatch: {error}"
                ) from error

    @contextlib.contextmanager
    def _schema_lock(self) -> Iterator[None]:
        if self.path is None:
            unpooled = create_engine(self.engine.url, poolclass=NullPool)
            with unpooled.connect() as connection:
                connection.execute(text("SELECT pg_advisory_lock(:n)"), {"n": _SCHEMA_LOCK})
                yield
            return
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _make_private(path: Path) -> None:
    """Have a new database file readable by its owner alone; its journal files follow it."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _sqlite_opened(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling is switched off: BEGIN is ours, below.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "synchronous=FULL",
        "foreign_keys=ON",
        # What is removed is overwritten in the file, not only left out (SQLite documentation).
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _use_wal(path: Path) -> None:
    """Switch the file to WAL mode, which it then keeps.

    The switch does not wait for other connections but fails with "database is locked", so it is
    made under the schema lock, before anybody else has opened the file (SQLite documentation,
    "Write-Ahead Logging").
    """
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def _sqlite_begins(connection: Connection) -> None:
    # A transaction that begins as a read and then writes can fail half-way; writers say so first.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres_opened(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}")
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        # A server may be set to answer a COMMIT before it is on disk, and then forgets the last
        # intents when it crashes: they would be sent again.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _without_details(context: ExceptionContext) -> None:
    """Keep the server's main sentence alone: its details quote the row that was refused."""
    error, shown = context.original_exception, context.sqlalchemy_exception
    sentence = getattr(getattr(error, "diag", None), "message_primary", None)
    if sentence is not None:
        error.args = (sentence,)
        if shown is not None:
            shown.args = (f"({type(error).__name__}) {sentence}",)


def _config() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - as in `_upgrade`

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _head() -> str:
    """The newest revision: each one's file begins with its number."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]
