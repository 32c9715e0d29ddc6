"""Large files: stored whole or not at all, and in memory that does not grow with their rows."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from benchmarks.files import write
from tests.batches.cli_world import COLUMNS, ROOT, World, provided, until
from tests.conftest_servers import PostgresServer, postgres_server
from tests.worlds import KEY

__all__ = ["postgres_server"]

ROWS = 20_000
# What remembers 50,000 rows before it is made small is not full yet, and SQLite keeps a cache of 2
# MB; 17,500 rows kept as orders would be more than 40 MB.
GROWTH_BYTES_MAX = 16_000_000
BALANCE = ("--balance", "USD=999999999.00")


@dataclass(frozen=True)
class Large:
    """A world with a database that can be looked into while a command uses it."""

    world: World
    url: str
    env: dict[str, str]

    def ask(self, sql: str) -> Any:
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.connect() as connection:
            return connection.execute(text(sql)).scalar_one()

    def stored(self) -> tuple[int, int]:
        """The number of batches and of payouts."""
        return self.ask("SELECT count(*) FROM batches"), self.ask("SELECT count(*) FROM payouts")

    def is_storing(self) -> bool:
        """Whether rows are on their way into the database, and not yet committed."""
        if self.url.startswith("sqlite"):
            log = self.world.folder / "paybatch.db-wal"
            return log.exists() and log.stat().st_size > 4_000_000
        try:
            return bool(
                self.ask(
                    "SELECT count(*) FROM pg_stat_progress_copy"
                    " WHERE relid = 'payouts'::regclass AND tuples_processed > 1000"
                )
            )
        except OperationalError:
            return False


@pytest.fixture(params=["sqlite", "postgresql"])
def large(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Large]:
    with contextlib.ExitStack() as stack:
        world, _ = stack.enter_context(provided(tmp_path, *BALANCE))
        url = f"sqlite:///{world.folder}/paybatch.db"
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres_server")
            url = server.create()
            stack.callback(server.drop, url)
        env = {"PAYBATCH_DATABASE_URL": url, "PAYBATCH_ENCRYPTION_KEY": KEY}
        world.paybatch("migrate", **env)
        yield Large(world, url, env)


def test_a_submit_that_is_killed_while_it_stores_leaves_nothing_and_can_be_repeated(
    large: Large,
) -> None:
    file = large.world.folder / "p.csv"
    write(file, ROWS)
    with large.world.start("submit", file, **large.env) as command:
        command.until(large.is_storing)
        command.send(signal.SIGKILL)
        assert command.wait().code == -signal.SIGKILL
    # PostgreSQL notices a moment later that nobody is there any more.
    until(lambda: not large.is_storing() or large.url.startswith("sqlite"))
    assert large.stored() == (0, 0)
    large.world.paybatch("submit", file, **large.env)
    assert large.stored() == (1, ROWS)


def test_a_fault_in_the_last_row_keeps_all_others_out(large: Large) -> None:
    file = large.world.folder / "p.csv"
    write(file, 5_000)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[1]]) + "\n")
    facts = large.world.paybatch("submit", file, "--json", code=3, **large.env).json
    assert [(fault["line"], fault["kind"]) for fault in facts["faults"]][:1] == [
        (5_002, "duplicate_reference")
    ]
    assert large.stored() == (0, 0)


def test_csv_and_parquet_become_the_same_batch_and_the_same_results(large: Large) -> None:
    folder = large.world.folder
    for name in ("p.csv", "p.parquet"):
        write(folder / name, 5_000)
    stored = large.world.paybatch("submit", "p.csv", "--json", **large.env).json
    again = large.world.paybatch("submit", "p.parquet", code=3, **large.env)
    assert stored["batch_id"] in again.err
    large.world.paybatch("approve", stored["batch_id"], **large.env)
    for ending in ("csv", "parquet", "xlsx"):
        large.world.paybatch("results", stored["batch_id"], "-o", f"r.{ending}", **large.env)
    with (folder / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == pq.read_table(folder / "r.parquet").to_pylist()
    with (folder / "p.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    for name in ("reference_id", "amount", "currency", "service"):
        assert [row[name] for row in rows] == [row[name] for row in given]
    assert {row["state"] for row in rows} == {"queued"}


def peak_bytes(large: Large, *command: str) -> int:
    """The most memory that a command had."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.batches.peak", *command],
        cwd=large.world.folder,
        env={**os.environ, **large.world.env, **large.env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.splitlines()[-1])


@pytest.mark.timeout(400)
def test_peak_memory_does_not_grow_with_the_rows(large: Large) -> None:
    peaks: dict[str, list[int]] = defaultdict(list)
    for count in (2_500, ROWS):
        # Its own reference ids; that it pays the same people again is allowed.
        file = large.world.folder / f"{count}.csv"
        write(file, count)
        file.write_text(file.read_text().replace("SAL-", f"N{count}-"))
        peaks["submit"].append(peak_bytes(large, "submit", file.name, "--allow-repeats"))
        batch = large.ask("SELECT id FROM batches ORDER BY made_at DESC LIMIT 1")
        peaks["approve"].append(peak_bytes(large, "approve", batch))
        peaks["results"].append(peak_bytes(large, "results", batch, "-o", "out.csv"))
    for command, (small, big) in peaks.items():
        assert big - small < GROWTH_BYTES_MAX, (command, small, big)
