"""The database: its tables are those of the code, and its promises are switched on."""

from __future__ import annotations

import multiprocessing
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from tests.batches.cli_world import until
from tests.workers.record.conftest import BOTH, Record, together
from tests.worlds import order, stored
from workers.errors import OperatorError, SettingsError
from workers.record import database as record_database
from workers.record.database import Database
from workers.record.schedule_tables import metadata
from workers.record.tables import accounts, payouts

both = pytest.mark.parametrize("new_url", BOTH, indirect=True)
only_sqlite = pytest.mark.parametrize("new_url", ["sqlite"], indirect=True)


@pytest.fixture
def database(new_url: str) -> Iterator[Database]:
    made = Database(new_url)
    yield made
    made.close()


def _where(index: Any) -> dict[str, str]:
    return {name: str(value) for name, value in index.get("dialect_options", {}).items()}


def _shape(connection: Connection) -> dict[str, Any]:
    """Everything of the tables that a database can tell: columns, keys, checks and indexes."""
    found = inspect(connection)
    shape: dict[str, Any] = {}
    for name in metadata.tables:
        columns = found.get_columns(name)
        shape[name] = {
            "columns": {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in columns},
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "foreign": sorted(
                (k["constrained_columns"], k["referred_table"])
                for k in found.get_foreign_keys(name)
            ),
            "checks": {c["name"]: c["sqltext"] for c in found.get_check_constraints(name)},
            "indexes": {
                i["name"]: (i["column_names"], i["unique"], _where(i))
                for i in found.get_indexes(name)
            },
        }
    return shape


def _is_there(dialect: str, item: Any, *_: object) -> bool:
    """Whether the code means a key or an index for that kind of database."""
    only = getattr(item, "_ddl_if", None)
    return only is None or only.dialect == dialect


@both
def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    database.prepare()
    with database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_object": partial(_is_there, connection.dialect.name),
            },
        )
        assert compare_metadata(context, metadata) == []


@both
def test_the_migrations_make_the_same_checks_and_conditions_as_the_code(
    database: Database, tmp_path: Path
) -> None:
    database.prepare()
    with database.read() as connection:
        migrated = _shape(connection)
    with database.write() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    with database.read() as connection:
        assert _shape(connection) == migrated


def test_the_newest_revision_is_that_of_the_last_file() -> None:
    scripts = ScriptDirectory.from_config(record_database._config())
    assert record_database._head() == scripts.get_current_head()


@both
def test_a_prepared_database_is_left_as_it_is(database: Database) -> None:
    database.prepare()
    with database.write() as connection:
        connection.execute(insert(accounts).values(name="a", provider="p"))
    database.prepare()
    with database.read() as connection:
        assert connection.execute(select(accounts.c.name)).scalars().all() == ["a"]


@both
def test_any_number_may_prepare_at_once(new_url: str) -> None:
    made = [Database(new_url, connections_max=2) for _ in range(8)]
    told = together([one.prepare for one in made])
    with made[0].read() as connection:
        versions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
        assert versions.all() == [record_database._head()]
    for one in made:
        one.close()
    assert told == [None] * 8


def _opened(url: str) -> None:
    database = Database(url, connections_max=1)
    database.prepare()
    database.close()


def test_a_new_file_may_be_opened_by_many_processes_at_once(tmp_path: Path) -> None:
    """Forty files, because the moment that once failed is short: the switch to WAL mode."""
    with multiprocessing.get_context("fork").Pool(8) as processes:
        for n in range(40):
            processes.map(_opened, [f"sqlite:///{tmp_path}/{n}.db"] * 8, chunksize=1)


@only_sqlite
def test_every_sqlite_connection_keeps_intents_through_a_power_cut(database: Database) -> None:
    database.prepare()
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    with database.read() as one, database.read() as two, database.write() as three:
        for connection in (one, two, three):
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in wanted
            }
            assert found == wanted


@only_sqlite
def test_a_new_database_is_its_owners_alone(database: Database) -> None:
    database.prepare()
    assert database.path is not None
    with database.write() as connection:
        connection.execute(insert(accounts).values(name="a", provider="p"))
        for file in database.path.parent.glob("paybatch.db*"):
            if not file.name.endswith(".lock"):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_an_error_rolls_everything_back(record: Record) -> None:
    def fails() -> None:
        with record.database.write() as connection:
            connection.execute(insert(accounts).values(name="a", provider="p"))
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fails()
    with record.database.read() as connection:
        assert set(connection.execute(select(accounts.c.name)).scalars()) == {"main", "other"}


def test_a_read_sees_nothing_of_an_open_write(record: Record) -> None:
    with record.database.write() as writer:
        writer.execute(insert(accounts).values(name="a", provider="p"))
        with record.database.read() as reader:
            assert "a" not in set(reader.execute(select(accounts.c.name)).scalars())


def test_writers_at_the_same_time_all_get_their_turn(record: Record) -> None:
    others = [record.again() for _ in range(4)]

    def count(mine: Record) -> None:
        for _ in range(5):
            mine.sql("UPDATE accounts SET approvals = approvals + 1 WHERE name = 'main'")

    assert together([lambda r=r: count(r) for r in [record, *others] * 2]) == [None] * 10
    for other in others:
        other.close()
    assert record.book.approvals("main") == 50


def test_a_refused_duplicate_tells_nothing_of_what_was_stored(record: Record) -> None:
    one = order(fields={"account": "SECRET-FIELD"}, description="SECRET-TEXT")
    stored(record.batches, [one], now=record.clock.now())
    with pytest.raises(IntegrityError) as refused:
        stored(record.batches, [one], now=record.clock.now())
    assert "SECRET" not in str(refused.value)
    assert "SECRET" not in repr(refused.value)


def test_times_come_back_aware_in_utc(record: Record) -> None:
    stored(record.batches, [order()], now=record.clock.now())
    with record.database.read() as connection:
        at = connection.execute(select(payouts.c.created_at)).scalar_one()
    assert at == record.clock.now()
    assert at.utcoffset().total_seconds() == 0


def test_a_time_without_a_zone_is_not_stored(record: Record) -> None:
    naive = record.clock.now().replace(tzinfo=None)
    with pytest.raises(Exception, match="without a zone"):
        stored(record.batches, [order()], now=naive)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/name",
        "postgresql://user:hunter2@host/name",
        "not an address hunter2",
        "",
    ],
)
def test_another_kind_of_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="expected sqlite:///FILE or postgresql") as refused:
        Database(url)
    assert "hunter2" not in str(refused.value)


def test_an_unreachable_server_is_the_operators_matter_and_hides_the_password() -> None:
    database = Database("postgresql+psycopg://user:hunter2@127.0.0.1:9/name")
    with pytest.raises(OperatorError, match="cannot be used") as refused:
        database.prepare()
    database.close()
    assert "hunter2" not in str(refused.value)


def test_a_file_that_cannot_be_made_is_the_operators_matter(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/missing/paybatch.db")
    with pytest.raises(OperatorError, match="cannot be used"):
        database.prepare()


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("server", "session"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_a_commit_is_on_disk_before_it_is_answered_whatever_the_server_is_set_to(
    new_url: str, server: str, session: str
) -> None:
    admin = create_engine(new_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        name = connection.engine.url.database
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = {server}'))
    database = Database(new_url)
    with database.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == session
    database.close()


@pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)
def test_postgresql_answers_in_utc_whatever_its_own_zone(new_url: str) -> None:
    engine = create_engine(new_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            text(f"ALTER DATABASE \"{engine.url.database}\" SET timezone = 'Asia/Tokyo'")
        )
    database = Database(new_url)
    with database.read() as connection:
        assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"
    database.close()


only_postgres = pytest.mark.parametrize("new_url", ["postgresql"], indirect=True)


@only_postgres
def test_the_server_ends_the_transaction_of_a_process_that_sleeps(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _opened(new_url)
    monkeypatch.setattr(record_database, "IDLE_IN_TRANSACTION_MS", 100)
    sleeper, other = Database(new_url), Database(new_url)

    def sleep_on_a_lock() -> None:
        with sleeper.write() as connection:
            connection.execute(insert(accounts).values(name="a", provider="slept"))
            # Waits until the row is free, which it never is while the other transaction lives.
            with other.write() as waiting:
                waiting.execute(insert(accounts).values(name="a", provider="woke"))

    with pytest.raises(DBAPIError):
        sleep_on_a_lock()
    with other.read() as connection:
        assert connection.execute(select(accounts.c.provider)).scalars().all() == ["woke"]
    sleeper.close()
    other.close()


@only_postgres
def test_a_transaction_that_waits_for_a_file_is_given_time(
    new_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _opened(new_url)
    monkeypatch.setattr(record_database, "IDLE_IN_TRANSACTION_MS", 100)
    reader, other = Database(new_url), Database(new_url)
    with reader.write() as connection, other.read() as looking_once:
        reader.have_time(connection)
        connection.execute(insert(accounts).values(name="a", provider="p"))
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        idle = text(
            "SELECT clock_timestamp() - state_change > interval '0.5 s' FROM pg_stat_activity"
            " WHERE pid = :pid"
        )
        # The view of a transaction stays as it was at its first look.
        looking = looking_once.execution_options(isolation_level="AUTOCOMMIT")
        until(lambda: looking.execute(idle, {"pid": pid}).scalar_one())
        connection.execute(insert(accounts).values(name="b", provider="p"))
    with other.read() as connection:
        assert len(connection.execute(select(accounts)).all()) == 2
    reader.close()
    other.close()
