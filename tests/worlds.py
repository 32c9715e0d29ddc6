"""A small world for tests: a clock moved by hand, a record in a folder, orders with defaults."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from workers.errors import BrokerUnreachable
from workers.queues import queue_of
from workers.record.batches import BatchBook, NewRow
from workers.record.due import Due, Message
from workers.record.fingerprints import Looked
from workers.record.model import Actor, ContentHash, Order
from workers.record.money import Currency, Money
from workers.runtime import settings_of
from workers.settings import Settings

USD = Currency.of("USD")
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
MAKER = Actor("maker", "a test")
CHECKER = Actor("checker", "a test")
_numbers = count(1)


class HandClock:
    """Time that moves only when it is told to, or slept."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.ticks = 1000.0
        self.stopped = False

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.ticks

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.ticks += seconds

    @property
    def stopping(self) -> bool:
        return self.stopped

    def stop(self) -> None:
        self.stopped = True

    def move_to(self, at: datetime) -> None:
        if at > self.at:
            self.sleep((at - self.at).total_seconds())


class Post:
    """A broker: takes what is published, and has it until it is taken."""

    def __init__(self) -> None:
        self.messages: list[Due] = []
        # What every use of it says while it cannot be reached.
        self.away: BrokerUnreachable | None = None

    def publish(self, due: Sequence[Due]) -> None:
        if self.away:
            raise self.away
        self.messages += due

    def waiting(self, queue: str) -> int:
        if self.away:
            raise self.away
        found = [queue_of(one.account, to_send=one.to_send) for one in self.messages]
        return found.count(queue)

    def next_of(self, queue: str) -> Message | None:
        for one in self.messages:
            if queue_of(one.account, to_send=one.to_send) == queue:
                return Message(one.payout_id, one.expires_at)
        return None

    def take(self) -> list[int]:
        """The payouts announced, their messages taken."""
        taken = [one.payout_id for one in self.messages]
        self.messages.clear()
        return taken


def order(**changes: Any) -> Order:
    """An order of 10.00 USD to a test account, with a reference id of its own."""
    values: dict[str, Any] = {
        "reference_id": f"T-{next(_numbers):06}",
        "account": "main",
        "amount": Money(1000, USD),
        "service": "test_usd",
        "fields": {"account": "987654321"},
    }
    return Order(**{**values, **changes})


def settings(folder: Path, *, base_url: str = "http://127.0.0.1:9/api", **changes: Any) -> Settings:
    """Settings with one Payelata account `main` whose budgets are those of the design."""
    account = {
        "provider": "payelata",
        "base_url": base_url,
        "public_base_url": base_url.removesuffix("/api"),
        "account_id": "coma_Demo0000Demo0001",
        "api_key": "demo-api-key",
        "public_key": "pk_test_demo",
        "signing_key": "sk_test_demo",
        "test_mode": True,
        "rate_per_s": 0,
        **changes.pop("account", {}),
    }
    values = {
        "database_url": f"sqlite:///{folder}/paybatch.db",
        "encryption_key": KEY,
        "accounts": {"main": account, **changes.pop("accounts", {})},
        **changes,
    }
    return Settings.load(settings_of, defaults=values, environ={}, folder=folder)


def stored(
    book: BatchBook,
    orders: Iterable[Order],
    *,
    now: datetime,
    provider: str = "payelata",
    looked: Looked | None = None,
) -> str:
    """A batch of drafts of these orders; its id."""
    content = ContentHash()
    rows = []
    for number, one in enumerate(orders, 1):
        content.add(one)
        fee = Money(0, one.amount.currency)
        rows.append(NewRow(row=number, order=one, provider=provider, fee=fee))
    return book.save(
        rows,
        file_name="test.csv",
        content_hash=content.hexdigest(),
        file_hash=content.hexdigest(),
        columns=["reference_id"],
        count=len(rows),
        actor=MAKER,
        note=None,
        now=now,
        looked=looked,
    )


def approved(
    book: BatchBook, orders: Iterable[Order], *, now: datetime, provider: str = "payelata"
) -> str:
    """A batch of queued payouts; its id."""
    batch = book.get(stored(book, orders, now=now, provider=provider))
    assert batch is not None
    assert book.approve(batch, actor=CHECKER, now=now, spendable={}, approvals_seen={})
    return batch.id


def give_up(why: str) -> None:
    """Skip where a server is missing; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
