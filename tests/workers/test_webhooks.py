"""The receiver over real HTTP: what verifies is kept once and answered at once; nothing else is."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.batches.cli_world import until
from tests.workers.receiver_world import served
from tests.worlds import HandClock, approved, order, settings
from workers import webhooks
from workers.providers.port import Delivery, News, Question, WebhookAnswers
from workers.record.batches import BatchBook
from workers.record.model import Notice, Reply
from workers.record.money import Money
from workers.record.status import Outcome, State, Step
from workers.record.webhooks import APPLIED_AT_ONCE, Applied, WebhookBook
from workers.runtime import Runtime
from workers.webhooks import BODY_BYTES_MAX

KEY = b"sk_test_demo"


def signed(body: bytes, key: bytes = KEY) -> dict[str, str]:
    digest = hashlib.sha1(key + body + key).digest()
    return {"X-Signature": base64.b64encode(digest).decode()}


def body_of(payout_id: str, reference_id: str = "", status: str = "processed") -> bytes:
    attributes = {"status": status, "reference_id": reference_id}
    data = {"type": "payout-invoices", "id": payout_id, "attributes": attributes}
    return json.dumps({"data": data}).encode()


@dataclass
class Receiver:
    """A receiver that listens, and the record behind it."""

    runtime: Runtime
    clock: HandClock
    http: httpx.Client

    def tell(
        self, body: bytes, path: str = "/webhooks/main", headers: Any = None
    ) -> httpx.Response:
        return self.http.post(
            path, content=body, headers=signed(body) if headers is None else headers
        )

    def open_payout(self) -> int:
        """A payout that the provider is paying, not due for a while."""
        book = BatchBook(self.runtime.store)
        batch_id = approved(book, [order()], now=self.clock.now())
        (row,) = book.each(batch_id)
        claim = self.runtime.store.claim(row.id, self.runtime.policies, self.clock.now())
        assert claim is not None
        reply = Reply(outcome=Outcome.PROCESSING, provider_payout_id=f"cpoi_{row.id}")
        policy = self.runtime.policies["main"]
        self.runtime.store.record(claim.payout, Step.CREATE, reply, policy, self.clock.now())
        return int(row.id)

    def row(self, payout_id: int) -> Any:
        with self.runtime.database.read() as connection:
            return connection.exec_driver_sql(f"SELECT * FROM payouts WHERE id = {payout_id}").one()

    def stored(self) -> Sequence[Any]:
        with self.runtime.database.read() as connection:
            return connection.exec_driver_sql("SELECT * FROM webhooks").all()


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    clock = HandClock()
    runtime = Runtime.open(settings(tmp_path), clock)
    with served(runtime) as url, httpx.Client(base_url=url, timeout=10) as http:
        yield Receiver(runtime, clock, http)
    runtime.close()


def test_a_signed_delivery_is_kept_once_and_wakes_its_payout(receiver: Receiver) -> None:
    one = receiver.open_payout()
    body = body_of(f"cpoi_{one}")
    assert [receiver.tell(body).status_code for _ in range(3)] == [200, 200, 200]
    (row,) = receiver.stored()
    assert row.times == 3
    receiver.runtime.webhooks.apply(receiver.clock.now())
    woken = receiver.row(one)
    assert (woken.state, woken.due_at is not None) == (State.PROCESSING, True)
    assert str(receiver.clock.now())[:19] == woken.due_at[:19]


class Held(WebhookBook):
    """A book whose first round of applying does not end before it is let."""

    def __init__(self, real: WebhookBook, let: threading.Event) -> None:
        super().__init__(real.database, real._vault)
        self._let = let
        self.rounds = 0

    def apply(self, now: datetime) -> Applied:
        self.rounds += 1
        done = super().apply(now)
        assert self._let.wait(30)
        return done


def test_what_is_kept_wakes_its_payout_without_a_sweep(receiver: Receiver) -> None:
    one, two = receiver.open_payout(), receiver.open_payout()
    let = threading.Event()
    book = Held(receiver.runtime.webhooks, let)
    with served(replace(receiver.runtime, webhooks=book)) as url:
        told = replace(receiver, http=httpx.Client(base_url=url, timeout=10))
        assert told.tell(body_of(f"cpoi_{one}")).status_code == 200
        until(lambda: receiver.row(one).woken_at)
        # It comes while the round is still under way.
        assert told.tell(body_of(f"cpoi_{two}")).status_code == 200
        assert book.rounds == 1
        let.set()
        until(lambda: receiver.row(two).woken_at)
        told.http.close()


def test_more_than_one_round_takes_wakes_its_payouts_without_a_sweep(receiver: Receiver) -> None:
    one, two = receiver.open_payout(), receiver.open_payout()
    many = [Notice(key=f"k{n}", provider_payout_id=f"cpoi_{one}") for n in range(APPLIED_AT_ONCE)]
    receiver.runtime.webhooks.keep("main", many, b"", receiver.clock.now())
    assert receiver.tell(body_of(f"cpoi_{two}")).status_code == 200
    until(lambda: receiver.row(two).woken_at)


def test_deliveries_at_the_same_time_to_two_receivers_are_all_kept_and_once_each(
    receiver: Receiver, tmp_path: Path
) -> None:
    ids = [receiver.open_payout() for _ in range(12)]
    bodies = [body_of(f"cpoi_{one}") for one in ids]
    other = Runtime.open(settings(tmp_path), receiver.clock)
    with served(other) as url, ThreadPoolExecutor(24) as pool:
        to = [f"{base}/webhooks/main" for base in (str(receiver.http.base_url), url)]
        told = [
            pool.submit(httpx.post, each, content=body, headers=signed(body), timeout=30)
            for body in bodies
            for each in to
        ]
        assert [one.result(30).status_code for one in told] == [200] * 24
        until(lambda: not any(row.pending for row in receiver.stored()))
    other.close()
    assert sorted(row.provider_payout_id for row in receiver.stored()) == sorted(
        f"cpoi_{one}" for one in ids
    )
    assert {row.times for row in receiver.stored()} == {2}
    assert all(receiver.row(one).woken_at for one in ids)


@pytest.mark.parametrize(
    "headers", [{}, {"X-Signature": "bm8="}, signed(b"another body"), signed(b"x", b"other key")]
)
def test_a_forged_delivery_is_refused_and_changes_nothing(
    receiver: Receiver, headers: dict[str, str]
) -> None:
    one = receiver.open_payout()
    before = receiver.row(one)
    assert receiver.tell(body_of(f"cpoi_{one}"), headers=headers).status_code == 401
    assert receiver.stored() == []
    assert receiver.row(one) == before


def test_what_a_delivery_says_moves_nothing(receiver: Receiver) -> None:
    one = receiver.open_payout()
    for status in ("processed", "process_failed", "canceled", "created"):
        receiver.tell(body_of(f"cpoi_{one}", status=status))
    receiver.runtime.webhooks.apply(receiver.clock.now())
    assert receiver.row(one).state == State.PROCESSING


def test_a_delivery_about_no_payout_is_taken_and_not_kept(receiver: Receiver) -> None:
    body = b'{"data": {"type": "payment-invoices", "id": "cpai_1"}}'
    assert receiver.tell(body).status_code == 200
    assert receiver.stored() == []


def test_a_long_body_is_refused_unread(receiver: Receiver) -> None:
    assert receiver.tell(b"x" * (BODY_BYTES_MAX + 1)).status_code == 413
    assert receiver.tell(b"x" * BODY_BYTES_MAX).status_code == 200
    assert receiver.stored() == []


def test_a_body_that_does_not_come_is_not_waited_for_for_ever(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "READ_S_MAX", 0.2)
    url = receiver.http.base_url
    with socket.create_connection((url.host, url.port), timeout=10) as caller:
        caller.sendall(b"POST /webhooks/main HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        assert caller.recv(64).startswith(b"HTTP/1.1 408")


def test_only_accounts_have_a_path_and_only_post(receiver: Receiver) -> None:
    body = body_of("cpoi_1")
    assert receiver.tell(body, path="/webhooks/nobody").status_code == 404
    assert receiver.tell(body, path="/").status_code == 404
    assert receiver.http.get("/webhooks/main").status_code == 405
    assert receiver.tell(body, path="/webhooks/main/verify").status_code == 200
    assert len(receiver.stored()) == 1


def test_a_record_that_cannot_be_written_is_our_own_trouble(receiver: Receiver) -> None:
    assert receiver.http.get("/health").json() == {"healthy": True}
    with receiver.runtime.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE webhooks RENAME TO gone")
    assert receiver.tell(body_of("cpoi_1")).status_code == 503


def test_a_broken_database_shows_in_the_health(receiver: Receiver, tmp_path: Path) -> None:
    receiver.runtime.database.close()
    (tmp_path / "paybatch.db").write_bytes(b"not a database" * 1000)
    (tmp_path / "paybatch.db-wal").unlink(missing_ok=True)
    (tmp_path / "paybatch.db-shm").unlink(missing_ok=True)
    assert receiver.http.get("/health").status_code == 503


class Asking:
    """A provider that asks before it pays, and whose news is answered in its own way."""

    webhook_answers = WebhookAnswers(taken=(202, b"{}"), forged=(404, b""))

    def __init__(self, real: Any) -> None:
        self.capabilities = replace(real.capabilities, verifies=True)

    def read_webhook(self, delivery: Delivery) -> Sequence[News] | None:
        told = json.loads(delivery.body)
        if delivery.tail != "secret" or delivery.headers["x-told"] != "yes":
            return None
        return [News(reference_id=told["id"], key="same")]

    def read_question(self, delivery: Delivery) -> Question | None:
        told = json.loads(delivery.body)
        if "uid" not in told:
            return None
        amount = Money(told["amount"], order().amount.currency)
        return Question(
            provider_payout_id=told["uid"],
            reference_id=told["id"],
            amount=amount,
            differs=tuple(told.get("differs", ())),
        )

    def answer_question(self, question: Question, *, allowed: bool) -> bytes:
        return json.dumps({"uid": question.provider_payout_id, "allowed": allowed}).encode()


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Receiver]:
    clock = HandClock()
    runtime = Runtime.open(settings(tmp_path), clock)
    main = runtime.accounts["main"]
    provider: Any = Asking(main.provider)
    told = replace(runtime, accounts={"main": replace(main, provider=provider)})
    with served(told) as url, httpx.Client(base_url=url, timeout=10) as http:
        yield Receiver(told, clock, http)
    runtime.close()


def test_each_provider_is_answered_as_it_expects(asking: Receiver) -> None:
    body = b'{"id": "T-1"}'
    good = asking.tell(body, "/webhooks/main/secret", {"X-Told": "yes"})
    assert (good.status_code, good.content) == (202, b"{}")
    assert asking.tell(body, "/webhooks/main/wrong", {"X-Told": "yes"}).status_code == 404
    assert [row.key for row in asking.stored()] == ["same"]


def test_a_question_is_answered_from_the_record(asking: Receiver) -> None:
    one = asking.open_payout()
    reference_id = asking.row(one).reference_id

    def ask(**told: Any) -> Any:
        question = {"id": reference_id, "uid": f"cpoi_{one}", "amount": 1000, **told}
        return asking.tell(json.dumps(question).encode(), "/webhooks/main/verify", {})

    assert ask().json() == {"uid": f"cpoi_{one}", "allowed": True}
    for wrong in ({"amount": 999}, {"uid": "another"}, {"id": "T-0"}, {"differs": ["test: true"]}):
        assert ask(**wrong).json()["allowed"] is False
    assert asking.tell(b"{}", "/webhooks/main/verify", {}).status_code == 404
