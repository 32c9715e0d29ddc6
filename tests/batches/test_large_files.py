"""Large files: stored whole or not at all, and in memory that does not grow with their rows."""

from __future__ import annotations

import contextlib
import csv
import signal
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from batches import approval, results
from batches.loading import open_sheet
from batches.preflight import Options, Plan, Preflight
from benchmarks.files import GROUP_ROWS, write
from tests.batches.cli_world import COLUMNS, Command, World, provided, until
from tests.batches.test_formats import LIMITS
from tests.conftest_servers import PostgresServer, postgres_server
from tests.worlds import CHECKER, KEY, MAKER
from workers.runtime import Runtime, settings_of
from workers.settings import Settings

__all__ = ["postgres_server"]

ROWS = 60_000
# Of this that is more in the second file; 20,000 orders would take more than 30 MB. A check has 2
# to 6 MB more now and then: garbage that was not looked for yet.
GROWTH_BYTES_MAX = 12_000_000
# A batch of Parquet, what is buffered of its columns and a page of each. In one row group of
# 120,000 rows, dictionaries of all texts would take 70 MB.
PARQUET_BYTES_MAX = 35_000_000
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

    @contextlib.contextmanager
    def opened(self) -> Iterator[Runtime]:
        """What a command works with, in this process."""
        path = self.world.folder / "paybatch.toml"
        environ = {**self.env, "PAYBATCH_CONFIG": str(path)}
        runtime = Runtime.open(Settings.load(settings_of, environ=environ))
        try:
            yield runtime
        finally:
            runtime.close()

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

    def is_stopped_storing(self, command: Command) -> bool:
        """Whether the command was stopped before its commit; otherwise it goes on."""
        if not self.is_storing():
            return False
        command.send(signal.SIGSTOP)
        if self.is_storing() and self.stored() == (0, 0):
            return True
        command.send(signal.SIGCONT)
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
        command.until(lambda: large.is_stopped_storing(command))
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


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most memory that Python had at once for something, above what it had before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peaks_of(large: Large, file: Path) -> Mapping[str, int]:
    """The most memory for each thing that is done with a file."""
    out = file.with_suffix(".out.csv")
    plans: list[Plan] = []
    ids: list[str] = []
    with large.opened() as runtime:
        # Another file pays the same people; that is meant here.
        options = Options(account="main", allow_repeats=True)
        preflight = Preflight(runtime, options, runtime.clock.now())
        return {
            "check": peak_bytes(lambda: plans.append(preflight.examine(file))),
            "store": peak_bytes(lambda: ids.append(approval.store(plans[0], preflight, MAKER))),
            "approve": peak_bytes(lambda: approval.approve(ids[0], runtime, CHECKER)),
            "results": peak_bytes(lambda: results.write_results(ids[0], preflight.book, out)),
        }


@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_rows(large: Large, tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 40_000):
        file = tmp_path / f"{count}.csv"
        write(file, count)
        file.write_text(file.read_text().replace("SAL-", f"N{count}-"))
        peaks.append(peaks_of(large, file))
    small, big = peaks
    grown = {work: big[work] - small[work] for work in small}
    assert max(grown.values()) < GROWTH_BYTES_MAX, grown


@pytest.mark.parametrize("group_rows", [GROUP_ROWS, 20_000])
def test_reading_parquet_takes_the_same_memory_however_many_rows_a_row_group_has(
    tmp_path: Path, group_rows: int
) -> None:
    file, count = tmp_path / "p.parquet", 120_000
    write(file, count, group_rows)
    assert pq.ParquetFile(file).num_row_groups == -(-count // group_rows)
    before, most, read = pa.total_allocated_bytes(), 0, 0
    limits = replace(LIMITS, rows_max=count, bytes_max=100_000_000)
    for chunk in open_sheet(file, limits).chunks():
        most = max(most, pa.total_allocated_bytes() - before)
        read += len(chunk.lines)
    assert read == count
    assert most < PARQUET_BYTES_MAX
