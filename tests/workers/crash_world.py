"""A world in which every I/O boundary of a payout's life can end in any way.

A boundary is a commit or a provider call. A script counts them as a payout lives and, at those it
has a fault for, lets the process die, or the commit or call end as told. Calls that are let through
go over real HTTP to the simulator, whose ledger is the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.exc import OperationalError

from tests.workers.kinds import Kind
from tests.worlds import HandClock, Post, approved, settings
from workers import payment
from workers import sweep as sweeping
from workers.providers.port import load_provider
from workers.providers.transport import Transport
from workers.record.accounts import AccountBook
from workers.record.batches import BatchBook
from workers.record.database import Database
from workers.record.due import DueWork
from workers.record.status import State, is_final
from workers.record.store import Store
from workers.record.tables import accounts, payout_events, payouts, tokens
from workers.record.tokens import TokenBook
from workers.record.vault import Vault
from workers.record.verdict import Policy
from workers.record.webhooks import WebhookBook
from workers.runtime import Runtime
from workers.simulator.server import Running
from workers.tokens import SharedTokens

# A life with two faults takes some forty rounds; one that never ends is a finding.
ROUNDS_MAX = 150

COMMIT_FAULTS = ("die-before", "die-after", "fails", "lost-but-done")
# What the client library can raise: before anything was sent, and after.
NOT_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
NO_ANSWER = (
    "ReadTimeout",
    "WriteTimeout",
    "ReadError",
    "WriteError",
    "CloseError",
    "RemoteProtocolError",
    "LocalProtocolError",
    "ProxyError",
    "DecodingError",
)
# HTTP answers that leave open whether the provider did what was asked.
OPEN_ANSWERS = ("302", "400", "409", "500", "502", "503", "504", "html", "garbage", "empty")
# HTTP answers that say that it did not.
TURNED_AWAY = ("401", "403", "404", "405", "422", "429")
DEATHS = ("die-before", "die-after")


def _effects(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}:{when}" for name in names for when in ("undone", "done"))


CHANGING_FAULTS = (
    *DEATHS,
    *(f"{name}:undone" for name in (*NOT_SENT, *TURNED_AWAY)),
    *_effects((*NO_ANSWER, *OPEN_ANSWERS)),
)
READING_FAULTS = (
    "die-before",
    *(f"{name}:undone" for name in (*NOT_SENT, *NO_ANSWER, *OPEN_ANSWERS, *TURNED_AWAY)),
)
# `differs`: the answer to a create shows another amount than the ledger has.
FAULTS: Mapping[str, tuple[str, ...]] = {
    "commit": COMMIT_FAULTS,
    "create": (*CHANGING_FAULTS, "differs:done"),
    "process": CHANGING_FAULTS,
    "read": READING_FAULTS,
    "find": (*READING_FAULTS, "absent:undone"),
    "list": READING_FAULTS,
    "token": READING_FAULTS,
}


LIVES_A_DAY = 40
DAYS_BEHIND = 6
# The same for all providers, whatever their pages advise: a life is to be short.
BUDGETS = {
    "lookup_first_s": 301,
    "lookup_grace_s": 600,
    "poll_first_s": 2,
    "poll_max_s": 301,
}

_STANDS = (
    select(payouts, accounts.c.paused_kind, accounts.c.probe_at, accounts.c.blocked_until)
    .join(accounts, accounts.c.name == payouts.c.account)
    .where(payouts.c.id == bindparam("payout_id"))
)


class Died(BaseException):
    """The process ended here."""


class ConnectionCut(OperationalError):
    """The database went away here, and nobody knows whether the commit took effect."""

    def __init__(self) -> None:
        super().__init__("COMMIT", {}, Exception("connection cut"))


@dataclass
class Script:
    """What happens at which boundary of one payout's life, and what was met on the way."""

    plan: Mapping[int, str] = field(default_factory=dict)
    met: list[str] = field(default_factory=list)

    def at(self, boundary: str) -> str | None:
        self.met.append(boundary)
        return self.plan.get(len(self.met) - 1)

    @property
    def struck(self) -> list[tuple[str, str]]:
        """The faults that were met: boundary and fault."""
        return [(self.met[at], fault) for at, fault in self.plan.items() if at < len(self.met)]


class FragileDatabase(Database):
    """A database whose commits can end in every way."""

    script = Script()

    @contextmanager
    def write(self, *, by_key: bool = False, patient: bool = True) -> Iterator[Connection]:
        fault = self.script.at("commit")
        with super().write(by_key=by_key, patient=patient) as connection:
            yield connection
            if fault == "die-before":
                raise Died
            if fault == "fails":
                raise ConnectionCut
        if fault == "die-after":
            raise Died
        if fault == "lost-but-done":
            raise ConnectionCut


class FragileTransport(httpx.BaseTransport):
    """Real HTTP, with calls that can end in every way."""

    script = Script()

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._real = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        boundary = self._kind.boundary(request)
        fault = self.script.at(boundary)
        if fault is None:
            return self._real.handle_request(request)
        if fault == "die-before":
            raise Died
        how, _, when = fault.partition(":")
        answer = None
        if how == "die-after" or when == "done":
            answer = self._real.handle_request(request)
            answer.read()
        if how == "die-after":
            raise Died
        return _answer(how, answer, boundary, self._kind)

    def close(self) -> None:
        self._real.close()


def _answer(how: str, answer: httpx.Response | None, boundary: str, kind: Kind) -> httpx.Response:
    if how == "differs":
        assert answer is not None
        right, wrong = kind.amount
        assert right in answer.content
        return httpx.Response(answer.status_code, content=answer.content.replace(right, wrong))
    if how == "html":
        return httpx.Response(502, text="<html>Bad gateway</html>")
    if how == "garbage":
        return httpx.Response(201, text='{"data": {"id": "cp')
    if how == "empty":
        return httpx.Response(200)
    if how == "absent":
        status, document = kind.absent[boundary]
        return httpx.Response(status, json=document)
    if how == "422" and boundary == "create":
        status, document = kind.refusal
        return httpx.Response(status, json=document)
    if how.isdigit():
        headers = {"Retry-After": "3"} if how == "429" else {}
        return httpx.Response(int(how), json=kind.error(int(how)), headers=headers)
    raise getattr(httpx, how)(how)


@dataclass(frozen=True)
class Life:
    """How a payout ended."""

    script: Script
    state: State
    releases: int
    invoices: int
    events: Callable[[], Sequence[str]]

    def told(self) -> str:
        return (
            f"faults {self.script.struck}: {self.state}, {self.releases} releases of"
            f" {self.invoices} invoices; {'; '.join(self.events())}"
        )


class CrashWorld:
    """One record and one simulator, in which payouts live one after the other."""

    def __init__(self, folder: Path, kind: Kind, running: Running) -> None:
        self.clock = HandClock()
        self.kind = kind
        self.control = httpx.Client(base_url=running.control_url)
        # Look-ups far apart: fewer of them until absence is proven, so more cases a minute.
        chosen = settings(
            folder,
            watch_paid_days=0,
            accounts={"main": {**kind.account_at(running), **kind.crash_account, **BUDGETS}},
        )
        made = Runtime.open(chosen, self.clock)
        made.close()
        database = FragileDatabase(chosen.database_url)
        self.database = database
        self.transport = FragileTransport(kind)
        vault = Vault.from_text(_key(chosen))
        self.runtime = replace(
            made,
            database=database,
            store=Store(database, vault),
            due=DueWork(database),
            book=AccountBook(database),
            tokens=TokenBook(database, vault),
            webhooks=WebhookBook(database, vault),
        )
        self.batches = BatchBook(self.runtime.store)
        self._waiting: list[int] = []
        self._lives = 0
        self._adapter = load_provider(kind.name)
        options = dict(made.accounts["main"].settings.options)
        self._config = self._adapter.Config.model_validate(options)
        self._start()

    def _start(self) -> None:
        """A new process: what was in memory is gone."""
        main = self.runtime.accounts["main"]
        tokens = SharedTokens("main", self.runtime.tokens, self.clock, lease_s=60)
        wire = Transport(main.settings.options["base_url"], transport=self.transport)
        provider = self._adapter(self._config, wire, tokens)
        accounts = {"main": replace(main, provider=provider)}
        self.runtime = replace(self.runtime, accounts=accounts)

    def close(self) -> None:
        self.database.close()
        self.transport.close()
        self.control.close()

    @property
    def policy(self) -> Policy:
        return self.runtime.accounts["main"].policy

    def live(self, plan: Mapping[int, str]) -> Life:
        """One payout's whole life under a plan of faults, until it is final or held."""
        self._use(Script())
        self._lives += 1
        if self.kind.lists_days and self._lives % LIVES_A_DAY == 1:
            self._next_days()
        self.runtime.book.resume("main")
        payout_id = self._next()
        with self.database.write() as connection:
            connection.execute(delete(tokens))
        self._start()
        script = Script(plan)
        self._use(script)
        for _ in range(ROUNDS_MAX):
            row = self._row(payout_id)
            if is_final(State(row.state)) or row.state == State.HELD:
                break
            self._go_on(row)
        self._use(Script())
        return self._life(script, row)

    def _next_days(self) -> None:
        """Leave the payouts so far behind, so that lists stay short, and have one to be seen."""
        for _ in range(DAYS_BEHIND):
            self.control.post("clock", json={"advance_s": 86_400}).raise_for_status()
        assert self.live({}).state is State.PAID

    def _next(self) -> int:
        """A payout that waits for a worker; they are approved by the hundred, to be quick."""
        if not self._waiting:
            orders = [self.kind.an_order() for _ in range(100)]
            batch_id = approved(self.batches, orders, now=self.clock.now(), provider=self.kind.name)
            with self.database.write() as connection:
                connection.execute(update(payouts).values(due_at=None))
                ids = connection.execute(select(payouts.c.id).where(payouts.c.batch_id == batch_id))
                self._waiting = list(ids.scalars())
        payout_id = self._waiting.pop()
        with self.database.write() as connection:
            connection.execute(
                update(payouts).where(payouts.c.id == payout_id).values(due_at=self.clock.now())
            )
        return payout_id

    def _use(self, script: Script) -> None:
        self.database.script = self.transport.script = script

    def _go_on(self, row: Any) -> None:
        """Let time pass until something can happen, and let a fresh process try."""
        probe_at = row.probe_at if row.paused_kind else None
        times = [row.due_at, row.announced_until, probe_at, row.blocked_until]
        later = [at for at in times if at is not None and at > self.clock.now()]
        if row.due_at is None or row.due_at > self.clock.now() or row.announced_until:
            self.clock.move_to(min(later, default=self.clock.now()) + timedelta(seconds=1))
        elif later:
            self.clock.move_to(min(later) + timedelta(seconds=1))
        post = Post()
        # What a sweep does besides announcing has nothing to do here, most of the time.
        idle = row.paused_kind is None and row.state != State.CREATING
        work = sweeping.announce if idle else sweeping.sweep
        try:
            work(self.runtime, post)
            for payout_id in post.take():
                payment.pay(payout_id, self.runtime)
        except (Died, ConnectionCut):
            # Whatever was in memory is gone: the record is all that the next process has.
            slots = self.runtime.accounts["main"].slots
            assert slots.take() is None
            slots.leave(0)
            self._start()

    def _row(self, payout_id: int) -> Any:
        """The payout, and what its account waits for."""
        with self.database.read() as connection:
            return connection.execute(_STANDS, {"payout_id": payout_id}).one()

    def _life(self, script: Script, row: Any) -> Life:
        ledger = self.control.get(f"ledger/{row.reference_id}")
        invoices = ledger.json()["invoices"] if ledger.status_code == 200 else []
        return Life(
            script=script,
            state=State(row.state),
            releases=sum(len(invoice["releases"]) for invoice in invoices),
            invoices=len(invoices),
            events=lambda: self._events(row.id),
        )

    def _events(self, payout_id: int) -> Sequence[str]:
        with self.database.read() as connection:
            events = connection.execute(
                select(payout_events)
                .where(payout_events.c.payout_id == payout_id)
                .order_by(payout_events.c.id)
            ).all()
        return [f"{one.to_state} ({one.cause})" for one in events]


def _key(chosen: Any) -> str:
    key: str = chosen.encryption_key.get_secret_value()
    return key
