"""The record on real databases, SQLite and PostgreSQL, and threads that start together."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, insert, select, text

from tests.conftest_servers import PostgresServer, postgres_server
from tests.worlds import KEY, HandClock, approved
from workers.record.accounts import AccountBook
from workers.record.batches import BatchBook
from workers.record.database import Database
from workers.record.decisions import Decisions
from workers.record.due import DueWork
from workers.record.model import Order, Payout, Reply
from workers.record.status import Outcome, State, Step
from workers.record.store import Claim, Store
from workers.record.tables import accounts, payout_events, payouts
from workers.record.told import Recorded
from workers.record.vault import Vault
from workers.record.verdict import Policy
from workers.settings import AccountSettings

__all__ = ["postgres_server"]

BOTH = ["sqlite", "postgresql"]
THREADS_S_MAX = 60


def policy(*, changes: dict[str, Any] | None = None, **can: Any) -> Policy:
    """A provider that can do everything, in two steps, and an account with the usual budgets."""
    values: dict[str, Any] = {
        "settings": AccountSettings(provider="payelata", **(changes or {})),
        "two_step": True,
        "refuses_duplicates": True,
        "look_up": True,
        "balances": True,
        "watch_paid_days": 7,
    }
    return Policy(**{**values, **can})


def together(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls gave or raised, each in a thread of its own, begun at the same moment."""
    barrier = threading.Barrier(len(calls), timeout=THREADS_S_MAX)

    def begun(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - the test judges it
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(begun, call) for call in calls]
        return [one.result(THREADS_S_MAX) for one in running]


@dataclass
class Record:
    """One record with the accounts `main` and `other`, and hands to move it with."""

    database: Database
    clock: HandClock = field(default_factory=HandClock)
    policies: dict[str, Policy] = field(
        default_factory=lambda: {"main": policy(), "other": policy()}
    )

    def __post_init__(self) -> None:
        self.store = Store(self.database, Vault.from_text(KEY))
        self.due = DueWork(self.database)
        self.book = AccountBook(self.database)
        self.batches = BatchBook(self.store)
        self.decisions = Decisions(self.store)

    def again(self) -> Record:
        """The same record as another process sees it."""
        url = self.database.engine.url.render_as_string(hide_password=False)
        return Record(Database(url, connections_max=4), self.clock, self.policies)

    def queue(self, *orders: Order) -> list[int]:
        """Approve these orders as one batch; the payouts' ids."""
        batch_id = approved(self.batches, orders, now=self.clock.now())
        with self.database.read() as connection:
            which = select(payouts.c.id).where(payouts.c.batch_id == batch_id)
            return list(connection.execute(which.order_by(payouts.c.row)).scalars())

    def claim(self, payout_id: int) -> Claim | None:
        return self.store.claim(payout_id, self.policies, self.clock.now())

    def take(self, payout_id: int) -> Payout:
        """Claim it, which must succeed."""
        claim = self.claim(payout_id)
        assert claim is not None
        return claim.payout

    def answer(
        self, payout: Payout, step: Step, outcome: Outcome, *, keep_s: float = 0, **reply: Any
    ) -> Recorded:
        """Record an answer to a claimed payout."""
        said = Reply(outcome=outcome, **reply)
        used = self.policies[payout.account]
        return self.store.record(payout, step, said, used, self.clock.now(), keep_s=keep_s)

    def created(self, payout_id: int) -> Row[Any]:
        """Have the provider take a queued payout, and lose the answer to its release: it is given
        back as created, due soon."""
        recorded = self.answer(
            self.take(payout_id), Step.CREATE, Outcome.CREATED, provider_payout_id=f"p{payout_id}"
        )
        self.answer(recorded.payout, Step.PROCESS, Outcome.UNKNOWN)
        return self.row(payout_id)

    def unknown(self, payout_id: int) -> Row[Any]:
        """Have the answer to a create of a queued payout lost."""
        self.answer(self.take(payout_id), Step.CREATE, Outcome.UNKNOWN)
        return self.row(payout_id)

    def held(self, payout_id: int) -> Row[Any]:
        """Have a queued payout sent, and found twice."""
        row = self.unknown(payout_id)
        self.clock.move_to(row.due_at)
        self.answer(self.take(payout_id), Step.LOOK_UP, Outcome.EXISTS)
        return self.row(payout_id)

    def settle(
        self, payout_id: int, target: State, *, actor: str = "ann", reason: str = ""
    ) -> Payout:
        """Carry out a person's decision on a held payout."""
        with self.database.write() as connection:
            return self.store.settle(
                connection, payout_id, target, actor=actor, reason=reason, now=self.clock.now()
            )

    def row(self, payout_id: int) -> Row[Any]:
        with self.database.read() as connection:
            return connection.execute(select(payouts).where(payouts.c.id == payout_id)).one()

    def state(self, payout_id: int) -> State:
        return State(self.row(payout_id).state)

    def events(self, payout_id: int) -> list[Row[Any]]:
        which = select(payout_events).where(payout_events.c.payout_id == payout_id)
        with self.database.read() as connection:
            return list(connection.execute(which.order_by(payout_events.c.id)).all())

    def path(self, payout_id: int) -> list[tuple[str, str]]:
        """The moves that were journalled, without the notes."""
        events = self.events(payout_id)
        return [(e.from_state, e.to_state) for e in events if e.from_state != e.to_state]

    def sql(self, statement: str, **values: Any) -> int:
        """Change the database behind the record's back; the number of rows."""
        with self.database.write() as connection:
            return connection.execute(text(statement), values).rowcount

    def close(self) -> None:
        self.database.close()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables in it."""
    path = tmp_path_factory.mktemp("template") / "paybatch.db"
    database = Database(f"sqlite:///{path}")
    database.prepare()
    database.close()
    return path


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database; the test is parametrised with its kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/paybatch.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=BOTH)
def record(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path
) -> Iterator[Record]:
    """An empty record on each of the databases."""
    if request.param == "sqlite":
        shutil.copy(sqlite_template, tmp_path / "paybatch.db")
        made = opened(f"sqlite:///{tmp_path}/paybatch.db")
        yield made
        made.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.borrow()
    made = opened(url)
    yield made
    made.close()
    server.give_back(url)


def opened(url: str) -> Record:
    record = Record(Database(url))
    with record.database.write() as connection:
        rows = [{"name": name, "provider": "payelata"} for name in ("main", "other")]
        connection.execute(insert(accounts), rows)
    return record
