"""Schedules with real inboxes, a real record and a real simulator, on one clock moved by hand."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from batches import approval
from batches.settlement import Settled, settle
from tests.batches.cli_world import Row, usd_row
from tests.conftest_servers import PostgresServer
from tests.workers.kinds import KINDS, Kind
from tests.workers.provider_world import BUDGETS, ProviderWorld, TwinClock
from tests.worlds import CHECKER, settings
from workers.record.batches import Batch, BatchBook
from workers.record.model import Actor
from workers.record.runs import File, Run, RunBook
from workers.record.status import State, is_final
from workers.record.tables import payouts
from workers.runtime import Runtime
from workers.schedules import Schedule
from workers.simulator.server import Running

PAYELATA = KINDS["payelata"]
# A Monday, an hour before the run of every test that says nothing else.
MONDAY = date(2026, 3, 2)
ROUNDS_MAX = 60


class SettlementWorld(ProviderWorld):
    """An installation with one schedule, `nightly`, due at 02:30 UTC on weekdays."""

    def __init__(self, folder: Path, running: Running, database_url: str, **schedule: Any) -> None:
        self.inbox = folder / "inbox"
        self.inbox.mkdir(exist_ok=True)
        self.given = {
            "name": "nightly",
            "time": "02:30",
            "time_zone": "UTC",
            "inbox": str(self.inbox),
            "approval": "automatic",
            **schedule,
        }
        # What is not the schedule's own goes to the other settings.
        general = ("approvals", "mappings")
        self.general = {name: self.given.pop(name) for name in general if name in self.given}
        clock = TwinClock()
        super().__init__(folder, PAYELATA, running, clock, {}, None, database_url)
        clock.move_to(datetime(2026, 3, 2, 1, 30, tzinfo=UTC))
        # It is known before it is due.
        self.settle()

    def open(self) -> Runtime:
        account = {**self.kind.account_at(self.running), **BUDGETS, **self.changes}
        chosen = settings(
            self.folder,
            accounts={"main": account},
            database_url=self.database_url,
            schedules=[self.given],
            **self.general,
        )
        return Runtime.open(chosen, self.clock)

    # --- time and files ---

    def at(self, text: str) -> None:
        """Let it be that time of 2026-03, in UTC: `02T02:30` is the second day's."""
        self.clock.move_to(datetime.fromisoformat(f"2026-03-{text}:00+00:00"))

    def deliver(
        self, name: str, rows: Iterable[Row] | str, *, age_s: float = 120, at: str = ""
    ) -> Path:
        """Put a file into the inbox that was last changed so long ago."""
        path = self.inbox / name
        if isinstance(rows, str):
            path.write_text(rows)
        else:
            given = list(rows)
            columns = list(dict.fromkeys(column for row in given for column in row))
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(given)
        then = self.clock.now() - timedelta(seconds=age_s)
        if at:
            then = datetime.fromisoformat(f"2026-03-{at}:00+00:00")
        os.utime(path, (then.timestamp(), then.timestamp()))
        return path

    def lying(self, place: str = "") -> list[str]:
        """The names in the inbox, or in one of its folders."""
        folder = self.inbox / place
        if not folder.is_dir():
            return []
        return sorted(each.name for each in folder.iterdir() if each.is_file())

    # --- work ---

    @property
    def schedule(self) -> Schedule:
        [schedule] = self.runtime.settings.schedules
        return schedule

    def settle(self, day: date | None = None) -> Settled:
        return settle(self.schedule, self.runtime, day)

    def pay(self) -> None:
        """Let the workers do what they can, until nothing is left to do for now."""
        for _ in range(ROUNDS_MAX):
            if self.step() == 0:
                if not self._moving():
                    return
                self.clock.sleep(5)
        raise AssertionError("never settled")

    def _moving(self) -> list[str]:
        resting = ("draft", "held")
        with self.runtime.database.read() as connection:
            states = connection.execute(select(payouts.c.state)).scalars()
            return [s for s in states if not is_final(State(s)) and s not in resting]

    # --- what became of it ---

    @property
    def runs(self) -> Sequence[Run]:
        return RunBook(self.runtime.database).latest("nightly", 100)[::-1]

    def run(self, day: date = MONDAY) -> Run:
        run = RunBook(self.runtime.database).run("nightly", day)
        assert run is not None
        return run

    def outcomes(self) -> dict[str, str]:
        return {str(run.business_date): run.outcome for run in self.runs}

    def files(self, day: date = MONDAY) -> Sequence[File]:
        return RunBook(self.runtime.database).of(self.run(day))

    def fates(self, day: date = MONDAY) -> dict[str, str]:
        return {file.name: file.fate for file in self.files(day)}

    def batch(self, name: str, day: date = MONDAY) -> Batch:
        [file] = [file for file in self.files(day) if file.name == name]
        found = BatchBook(self.runtime.store).get(file.batch_id or "")
        assert found is not None
        return found

    def made(self) -> Sequence[Batch]:
        return BatchBook(self.runtime.store).latest(100)

    def approve(self, batch_id: str, actor: Actor = CHECKER) -> None:
        approval.approve(batch_id, self.runtime, actor)

    def paid(self) -> Mapping[str, int]:
        """How often money was committed at the provider for each reference id."""
        ledger = self.control.get("ledger").json()
        return {
            each["reference_id"]: sum(len(one["releases"]) for one in each["invoices"])
            for each in ledger
        }

    def spendable(self, usd: str) -> None:
        """Have the account so much at the provider."""
        self.control.post("balances", json={"USD": usd}).raise_for_status()

    def report(self, suffix: str, day: date = MONDAY) -> str:
        return (self.folder / "reports" / f"nightly.{day}{suffix}").read_text()

    def table(self, day: date = MONDAY) -> list[Row]:
        return list(csv.DictReader(self.report(".csv", day).splitlines()))


def rows(first: int, last: int, **changes: str) -> list[Row]:
    """Rows of the service `test_usd` with these numbers."""
    return [usd_row(number, **changes) for number in range(first, last + 1)]


@contextmanager
def settlement_world(
    folder: Path, *, database_url: str | None = None, **schedule: Any
) -> Iterator[SettlementWorld]:
    """A world for the length of a `with` block."""
    chosen = {"manual_clock": TwinClock().now().timestamp(), "quiet": True}
    kind: Kind = PAYELATA
    with kind.serve(**kind.harsh, **chosen) as running:
        url = database_url or f"sqlite:///{folder}/paybatch.db"
        made = SettlementWorld(folder, running, url, **schedule)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database; the test is parametrised with its kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/paybatch.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create()
    yield url
    server.drop(url)
