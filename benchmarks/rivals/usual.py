"""The usual way: Celery's prefork pool, an ORM session a step, `time.sleep` between polls.

    celery -A benchmarks.rivals.usual worker -c 2
    python -m benchmarks.rivals.usual WINDOW NOTES

What a team that knows Celery and SQLAlchemy writes in a day: the state is stored at each step, the
idempotency key before the first call, and Celery repeats what broke.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
from celery import Celery, Task
from celery.signals import worker_process_init
from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import QueuePool

from benchmarks.rivals import payments
from benchmarks.rivals.payments import ACCOUNT_ID, API_KEY, FINAL, Setup

setup = Setup.read()
app = Celery("usual", broker=setup.redis_url)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
    broker_transport_options={"visibility_timeout": 3600},
)
engine = create_engine(
    setup.dsn.replace("postgresql:", "postgresql+psycopg:"), poolclass=QueuePool, pool_size=2
)
sessions = sessionmaker(engine)
clients: list[httpx.Client] = []


class Base(DeclarativeBase):
    pass


class Payment(Base):
    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    reference_id: Mapped[str]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)
    state: Mapped[str]
    idempotency_key: Mapped[str | None]
    provider_id: Mapped[str | None]
    attempts: Mapped[int]
    error: Mapped[str | None]
    begun_at: Mapped[datetime | None]
    final_at: Mapped[datetime | None]


@worker_process_init.connect
def _connect(**_: object) -> None:
    """A process has its own connections."""
    engine.dispose(close=False)
    clients[:] = [
        httpx.Client(base_url=setup.base_url, auth=(ACCOUNT_ID, API_KEY), timeout=payments.CALL_S)
    ]


@app.task(
    # The publisher runs this file as a program, where it has another name.
    name="usual.pay",
    bind=True,
    autoretry_for=(httpx.HTTPError,),
    retry_backoff=True,
    retry_jitter=True,
    max_retries=5,
)
def pay(self: Task, payment_id: int) -> None:  # noqa: ARG001 - bound for its retries
    """Take a payment to its end."""
    state = _begin(payment_id)
    if state == "creating":
        state = _create(payment_id)
    if state == "created":
        state = _process(payment_id)
    wait_s = setup.poll_first_s
    while state == "processing":
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, payments.POLL_S_MAX)
        state = _poll(payment_id)


def _begin(payment_id: int) -> str:
    with sessions() as session:
        payment = session.get_one(Payment, payment_id)
        if payment.state == "queued":
            payment.state = "creating"
            payment.idempotency_key = payment.idempotency_key or str(uuid.uuid4())
            payment.begun_at = datetime.now(UTC)
        payment.attempts += 1
        state = payment.state
        session.commit()
        return state


def _create(payment_id: int) -> str:
    with sessions() as session:
        payment = session.get_one(Payment, payment_id)
        body = payments.document(payment.attributes)
        headers = {"Idempotency-Key": payment.idempotency_key or ""}
    answer = clients[0].post("/payout-invoices", json=body, headers=headers)
    if answer.status_code == 422:
        return _fail(payment_id, answer.text)
    answer.raise_for_status()
    with sessions() as session:
        payment = session.get_one(Payment, payment_id)
        payment.provider_id = answer.json()["data"]["id"]
        payment.state = "created"
        session.commit()
        return "created"


def _process(payment_id: int) -> str:
    with sessions() as session:
        payment = session.get_one(Payment, payment_id)
        provider_id = payment.provider_id
    clients[0].post(f"/payout-invoices/{provider_id}/process").raise_for_status()
    with sessions() as session:
        payment = session.get_one(Payment, payment_id)
        payment.state = "processing"
        session.commit()
        return "processing"


def _poll(payment_id: int) -> str:
    with sessions() as session:
        payment = session.get_one(Payment, payment_id)
        provider_id = payment.provider_id
    answer = clients[0].get(f"/payout-invoices/{provider_id}")
    answer.raise_for_status()
    status = answer.json()["data"]["attributes"]["status"]
    if status not in FINAL:
        return "processing"
    with sessions() as session:
        return _end(session, payment_id, FINAL[status])


def _fail(payment_id: int, error: str) -> str:
    with sessions() as session:
        session.get_one(Payment, payment_id).error = error
        return _end(session, payment_id, "failed")


def _end(session: Session, payment_id: int, state: str) -> str:
    payment = session.get_one(Payment, payment_id)
    payment.state = state
    payment.final_at = datetime.now(UTC)
    session.commit()
    return state


def _publish(ids: Sequence[int]) -> None:
    for each in ids:
        pay.delay(each)


if __name__ == "__main__":
    payments.feed(_publish)
