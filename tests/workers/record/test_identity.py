"""A record that wakes up in another PostgreSQL database than it went to sleep in is frozen."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from tests.batches.cli_world import until
from tests.conftest_servers import PostgresCluster, PostgresServer, installed_postgres
from tests.workers.record.conftest import together
from tests.worlds import HandClock, approved, give_up, order, settings
from workers.errors import OperatorError
from workers.record.batches import BatchBook
from workers.runtime import Runtime


@dataclass
class Place:
    """Databases of one server, and runtimes that are opened in them."""

    server: PostgresServer
    folder: Path
    url: str
    clock: HandClock

    def open(self, url: str = "", **changes: Any) -> Runtime:
        made = settings(self.folder, database_url=url or self.url, **changes)
        return Runtime.open(made, self.clock)

    def copied(self) -> str:
        """A copy of the database beside it, as a dump that is loaded into a new one makes it."""
        url = self.server.create()
        self.server.drop(url)
        target, source = make_url(url).database, make_url(self.url).database
        self.server._run(f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
        return url

    def put_copy_in_its_place(self) -> None:
        """The database is gone from one moment to the next, and a copy has its name."""
        name = make_url(self.url).database
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        self.server._run(cut)
        until(lambda: not self._in_use(str(name)))
        copy = self.copied()
        self.server.drop(self.url)
        self.server._run(f'ALTER DATABASE "{make_url(copy).database}" RENAME TO "{name}"')

    def _in_use(self, name: str) -> bool:
        admin = make_url(self.url).set(database="postgres")
        which = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
        return bool(sql(admin.render_as_string(hide_password=False), which))


@pytest.fixture
def place(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Place]:
    url = postgres_server.create()
    yield Place(postgres_server, tmp_path, url, HandClock())
    postgres_server.drop(url)


def frozen(runtime: Runtime) -> dict[str, str]:
    return {pause.account: pause.reason for pause in runtime.book.pauses()}


def sql(url: str, statement: str) -> Any:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return result.scalar_one_or_none() if result.returns_rows else None


def test_the_same_database_is_opened_again_as_if_nothing_had_happened(place: Place) -> None:
    for _ in range(2):
        runtime = place.open()
        assert frozen(runtime) == {}
        assert runtime.restores.standing("main").restored_at is None
        runtime.close()
    told = sql(place.url, "SELECT identity FROM installation")
    names = [part.split("=")[0] for part in told.split()]
    assert names == ["database", "system", "table", "timeline"]


def test_a_copy_is_frozen_once_and_the_original_never(place: Place) -> None:
    place.open().close()
    copy = place.copied()
    runtime = place.open(copy)
    assert frozen(runtime) == {
        "main": "the database is not as the record left it (another database): what was sent last"
        " may be missing"
    }
    assert runtime.restores.standing("main").restored_at == place.clock.now()
    runtime.restores.open(runtime.restores.standing("main"), "opened by ann")
    runtime.close()
    place.clock.sleep(5)
    for url in (copy, place.url):
        again = place.open(url)
        assert frozen(again) == {}
        again.close()
    place.server.drop(copy)


def test_a_dump_that_is_loaded_into_the_same_database_is_frozen(place: Place) -> None:
    place.open().close()
    binaries = installed_postgres()
    if binaries is None:
        give_up("no PostgreSQL programs: install pg_dump and pg_restore")
    at = place.url.replace("+psycopg", "")
    dump = place.folder / "paybatch.dump"
    backup = [binaries / "pg_dump", "-Fc", "-f", dump, at]
    restore = [binaries / "pg_restore", "--clean", "-d", at, dump]
    for program in (backup, restore):
        subprocess.run(program, check=True, stdin=subprocess.DEVNULL)
    runtime = place.open()
    assert "tables made anew" in frozen(runtime)["main"]
    runtime.close()


def test_an_account_that_the_backup_does_not_have_is_frozen_too(place: Place) -> None:
    place.open().close()
    copy = place.copied()
    second = settings(place.folder).accounts["main"].model_dump()
    runtime = place.open(copy, accounts={"second": second})
    assert set(frozen(runtime)) == {"main", "second"}
    runtime.close()
    place.server.drop(copy)


def test_many_processes_that_open_a_copy_at_once_freeze_it_once(place: Place) -> None:
    place.open().close()
    copy = place.copied()
    opened = together([lambda: place.open(copy)] * 8)
    assert {type(each) for each in opened} == {Runtime}, opened
    (at,) = {runtime.restores.standing("main").restored_at for runtime in opened}
    assert at == place.clock.now()
    for runtime in opened:
        assert set(frozen(runtime)) == {"main"}
        runtime.close()
    # One of them that comes late does not freeze what a person has opened.
    runtime = place.open(copy)
    runtime.restores.open(runtime.restores.standing("main"), "opened by ann")
    late = place.open(copy)
    assert frozen(late) == {}
    late.close()
    runtime.close()
    place.server.drop(copy)


def test_a_process_that_outlives_the_change_is_frozen_before_it_does_anything(
    place: Place,
) -> None:
    """Its connections are cut, and the new ones reach another database under the same name."""
    runtime = place.open()
    approved(BatchBook(runtime.store), [order()], now=place.clock.now())
    place.put_copy_in_its_place()

    def claim() -> object:
        while True:
            try:
                return runtime.store.claim(1, runtime.policies, place.clock.now())
            except OperationalError:
                # A connection that was cut; each of the pool's is met once.
                continue

    assert together([claim] * 4) == [None] * 4
    assert "another database" in frozen(runtime)["main"]
    assert runtime.restores.standing("main").restored_at == place.clock.now()
    runtime.close()


def test_a_role_that_may_not_ask_for_all_is_compared_by_the_rest(place: Place) -> None:
    place.open().close()
    told = sql(place.url, "SELECT identity FROM installation")
    # As it was stored when less could be read; and more.
    for known in (told.partition(" ")[0], f"{told} unheard=of"):
        sql(place.url, f"UPDATE installation SET identity = '{known}'")
        runtime = place.open()
        assert frozen(runtime) == {}
        runtime.close()
        assert told in sql(place.url, "SELECT identity FROM installation")


# --- a server of its own, whose timeline changes ---


class OwnServer:
    """A server that can recover, and so begin a new timeline."""

    def __init__(self, cluster: PostgresCluster, folder: Path) -> None:
        self._cluster, self._folder = cluster, folder
        cluster.make()
        self.start()

    def start(self) -> None:
        port = self._cluster.start()
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"

    def recover(self) -> None:
        """Stop, and come up again as a standby that is promoted does: with a new timeline."""
        self._cluster._ctl("stop", "-m", "fast")
        data = self._folder / "data"
        with (data / "postgresql.auto.conf").open("a") as conf:
            conf.write("restore_command = 'false'\n")
        (data / "recovery.signal").touch()
        self.start()
        until(lambda: not sql(self.url, "SELECT pg_is_in_recovery()"))

    def become_standby(self) -> None:
        self._cluster._ctl("stop", "-m", "fast")
        (self._folder / "data" / "standby.signal").touch()
        self.start()


@pytest.fixture
def own_server() -> Iterator[OwnServer]:
    binaries = installed_postgres()
    if binaries is None:
        give_up("no PostgreSQL: install initdb and pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="paybatch-postgres-"))
    cluster = PostgresCluster(binaries, folder)
    try:
        yield OwnServer(cluster, folder)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_failover_freezes_unless_the_standby_is_said_to_be_synchronous(
    own_server: OwnServer, tmp_path: Path
) -> None:
    clock = HandClock()

    def opened(*, freezes: bool) -> dict[str, str]:
        made = settings(tmp_path, database_url=own_server.url, freeze_after_failover=freezes)
        runtime = Runtime.open(made, clock)
        told = frozen(runtime)
        runtime.close()
        return told

    assert opened(freezes=True) == {}
    own_server.recover()
    assert opened(freezes=False) == {}
    # It is known from then on.
    assert opened(freezes=True) == {}
    own_server.recover()
    assert "after a failover or a recovery" in opened(freezes=True)["main"]
    own_server.become_standby()
    with pytest.raises(OperatorError, match="standby that has not been promoted"):
        opened(freezes=True)
