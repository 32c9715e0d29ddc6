"""A real PostgreSQL for the tests: the one that PAYBATCH_TEST_POSTGRES_URL names, else a cluster of
their own in a temporary folder. A plug-in: a `conftest.py` imports the fixture from here.

Without either, tests that need it are skipped and say what is missing; in CI they fail.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from tests.worlds import give_up
from workers.record.database import Database
from workers.record.schedule_tables import metadata

START_TRIES = 3
# The data need not outlive the tests.
OPTIONS = (
    "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
    " -c listen_addresses=127.0.0.1"
)


class PostgresServer:
    """A server that lends each test a database of its own."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._admin = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._prepared: list[str] = []

    def create(self) -> str:
        """The address of a new, empty database."""
        name = f"paybatch_test_{secrets.token_hex(8)}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self._run(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def borrow(self) -> str:
        """The address of a database with the tables and nothing in them, for one test at a time."""
        if self._prepared:
            return self._prepared.pop()
        url = self.create()
        database = Database(url, connections_max=1)
        database.prepare()
        database.close()
        return url

    def give_back(self, url: str) -> None:
        """Empty a borrowed database for the next test: much faster than to make a new one."""
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self._prepared.append(url)

    def close(self) -> None:
        for url in self._prepared:
            self.drop(url)

    def _run(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of this process."""
    given = os.environ.get("PAYBATCH_TEST_POSTGRES_URL")
    if given:
        server = PostgresServer(given)
        yield server
        server.close()
        return
    binaries = installed_postgres()
    if binaries is None:
        give_up("no PostgreSQL: set PAYBATCH_TEST_POSTGRES_URL, or install initdb and pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="paybatch-postgres-"))
    cluster = PostgresCluster(binaries, folder)
    try:
        cluster.make()
        port = cluster.start()
        yield PostgresServer(f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres")
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


class PostgresCluster:
    """A cluster of the tests' own, in a folder; it can be stopped and started again."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        self._data = folder / "data"
        self._port = 0
        self._user: str | None = None
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root.
            self._user = unprivileged()
            shutil.chown(folder, self._user)

    def make(self) -> None:
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "-N")

    def start(self) -> int:
        """The port it listens at: the same at each start."""
        for tries_left in reversed(range(START_TRIES)):
            port = self._port or free_port()
            options = f"{OPTIONS} -p {port} -k {self._folder}"
            try:
                self._ctl("start", "-t", "60", "-l", self._folder / "log", "-o", options)
            except subprocess.CalledProcessError:
                # Somebody else may have taken the port meanwhile.
                if not tries_left:
                    raise
            else:
                self._port = port
                return port
        raise AssertionError("unreachable")

    @property
    def is_running(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    def stop(self) -> None:
        """As a crash would: without a word to anybody."""
        if self.is_running:
            self._ctl("stop", "-m", "immediate")

    def _ctl(self, what: str, *arguments: str | Path) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", *arguments, what)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command: Sequence[str | Path] = [self._binaries / program, *arguments]
        groups = [] if self._user else None
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            extra_groups=groups,
        )


def installed_postgres() -> Path | None:
    """The folder with the newest PostgreSQL's programs."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0,
        reverse=True,
    )
    on_path = shutil.which("initdb")
    for folder in [*installed, *([Path(on_path).parent] if on_path else [])]:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    return None


def unprivileged() -> str:
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
