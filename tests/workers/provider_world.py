"""One provider's simulator and a record that pays through it, on one clock moved by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from tests.workers.kinds import Kind
from tests.worlds import HandClock, Post, approved, settings
from workers import payment, sweep
from workers.providers.port import Capabilities
from workers.record.batches import BatchBook
from workers.record.model import Order
from workers.record.status import State, is_final
from workers.record.tables import payout_events, payouts
from workers.runtime import Runtime
from workers.simulator.server import Running

ROUNDS_MAX = 400
# The control call moves a day at a time at most.
STEP_S_MAX = 86_000
BUDGETS = {
    "connect_timeout_s": 1,
    "read_timeout_s": 0.4,
    "call_deadline_s": 0.5,
    "poll_first_s": 2,
    "poll_max_s": 300,
    "lookup_first_s": 30,
    "lookup_grace_s": 600,
}


class TwinClock(HandClock):
    """Time that the simulator shares."""

    def __init__(self) -> None:
        super().__init__()
        self.control: httpx.Client | None = None

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        while seconds > 0 and self.control is not None:
            step = min(seconds, STEP_S_MAX)
            # Six decimals are as many as the control call takes.
            answer = self.control.post("clock", json={"advance_s": round(step, 6)})
            answer.raise_for_status()
            seconds -= step


class ProviderWorld:
    """A record with the account `main` at a running simulator."""

    def __init__(
        self,
        folder: Path,
        kind: Kind,
        running: Running,
        clock: TwinClock,
        account: Mapping[str, Any],
        callback_base_url: str | None,
        database_url: str,
    ) -> None:
        self.kind = kind
        self.running = running
        self.clock = clock
        self.folder = folder
        self.control = httpx.Client(base_url=running.control_url, timeout=10)
        clock.control = self.control
        self.changes = account
        self.callback_base_url = callback_base_url
        self.database_url = database_url
        self.runtime = self.open()
        self.batches = BatchBook(self.runtime.store)

    def open(self) -> Runtime:
        """A runtime as another process of the same installation has it."""
        account = {**self.kind.account_at(self.running), **BUDGETS, **self.changes}
        chosen = settings(
            self.folder,
            watch_paid_days=1,
            accounts={"main": account},
            callback_base_url=self.callback_base_url,
            database_url=self.database_url,
        )
        return Runtime.open(chosen, self.clock)

    def close(self) -> None:
        self.runtime.close()
        self.control.close()

    def declare(self, **wrong: Any) -> None:
        """Have the adapter claim something else of its provider."""
        main = self.runtime.accounts["main"]
        can: Capabilities = replace(main.provider.capabilities, **wrong)
        main.provider.capabilities = can
        shared = {"two_step", "refuses_duplicates", "look_up", "balances", "repeatable_for_s"}
        policy = replace(main.policy, **{k: v for k, v in wrong.items() if k in shared})
        self.runtime = replace(self.runtime, accounts={"main": replace(main, policy=policy)})

    @property
    def provider(self) -> Any:
        return self.runtime.accounts["main"].provider

    @property
    def can(self) -> Capabilities:
        can: Capabilities = self.provider.capabilities
        return can

    def queue(self, *orders: Order) -> list[int]:
        """Approve orders as one batch; the payouts' ids."""
        batch_id = approved(self.batches, orders, now=self.clock.now(), provider=self.kind.name)
        with self.runtime.database.read() as connection:
            which = select(payouts.c.id).where(payouts.c.batch_id == batch_id)
            return list(connection.execute(which.order_by(payouts.c.row)).scalars())

    def faults(self, spec: str, reference_id: str | None = None) -> None:
        """Have the simulator do something wrong."""
        asked = {"faults": spec, "reference_id": reference_id}
        self.control.post("faults", json=asked).raise_for_status()

    def step(self) -> int:
        """Do what is due now; the number of messages."""
        post = Post()
        sweep.sweep(self.runtime, post)
        messages = post.take()
        for payout_id in messages:
            payment.pay(payout_id, self.runtime)
        return len(messages)

    def settle(self, payout_id: int) -> State:
        """Let time pass until the payout is final or held."""
        for _ in range(ROUNDS_MAX):
            state = self.state(payout_id)
            if is_final(state) or state is State.HELD:
                return state
            if self.step() == 0:
                self.pass_time(payout_id)
        raise AssertionError(f"never settled: {self.told(payout_id)}")

    def pass_time(self, payout_id: int) -> None:
        """Go to when something can happen next."""
        now = self.clock.now()
        pauses = [pause.probe_at for pause in self.runtime.book.pauses()]
        times = [self.row(payout_id).due_at, *pauses]
        later = [at for at in times if at is not None and at > now]
        self.clock.sleep((min(later) - now).total_seconds() if later else 1)

    def row(self, payout_id: int) -> Any:
        with self.runtime.database.read() as connection:
            return connection.execute(select(payouts).where(payouts.c.id == payout_id)).one()

    def state(self, payout_id: int) -> State:
        return State(self.row(payout_id).state)

    def told(self, payout_id: int) -> str:
        """A payout's history in words."""
        with self.runtime.database.read() as connection:
            which = select(payout_events).where(payout_events.c.payout_id == payout_id)
            events = connection.execute(which.order_by(payout_events.c.id)).all()
        return "; ".join(f"{event.to_state} ({event.cause})" for event in events)

    def ledger(self, payout_id: int) -> Mapping[str, Any]:
        """What the simulator knows of it."""
        answer = self.control.get(f"ledger/{self.row(payout_id).reference_id}")
        if answer.status_code == 404:
            return {"invoices": [], "creates": 0}
        found: Mapping[str, Any] = answer.json()
        return found

    def releases(self, payout_id: int) -> int:
        """How often money was committed for it."""
        return sum(len(each["releases"]) for each in self.ledger(payout_id)["invoices"])

    def calls(self, point: str) -> int:
        return int(self.control.get("calls").json()[point])


@contextmanager
def provider_world(
    folder: Path,
    kind: Kind,
    *,
    harsh: bool = True,
    account: Any = None,
    callback_base_url: str | None = None,
    database_url: str | None = None,
    **options: Any,
) -> Iterator[ProviderWorld]:
    """A world for the length of a `with` block.

    Args:
        harsh: the simulator takes a second create for a second payout, whatever the provider does.
        account: settings of the account beside the usual ones.
        callback_base_url: where our receiver is.
        database_url: the record's; by default a file in the folder.
        options: the simulator's.
    """
    clock = TwinClock()
    chosen = {"manual_clock": clock.now().timestamp(), "quiet": True, **options}
    with kind.serve(**(kind.harsh if harsh else {}), **chosen) as running:
        url = database_url or f"sqlite:///{folder}/paybatch.db"
        made = ProviderWorld(folder, kind, running, clock, account or {}, callback_base_url, url)
        try:
            yield made
        finally:
            made.close()
