"""The same work with the same writes on Dramatiq: a sketch.

    dramatiq benchmarks.rivals.dramatiq_way --processes 2 --threads 16
    python -m benchmarks.rivals.dramatiq_way WINDOW NOTES

A payment is claimed with its intent in one commit, each answer is one commit with its event, the
intent to release is in that of the create, and the answer to the release in that of a first poll
that is made at once and finds it final: three commits a payment then, as Paybatch makes. Plain
psycopg, a client a thread. A settlement that is far off is asked about by a delayed message, which
makes it four; Paybatch has a fifth there, for it claims the payout anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import dramatiq
import httpx
from dramatiq.brokers.redis import RedisBroker
from psycopg_pool import ConnectionPool

from benchmarks.rivals import payments, writes
from benchmarks.rivals.payments import ACCOUNT_ID, API_KEY, FINAL, Setup

setup = Setup.read()
dramatiq.set_broker(RedisBroker(url=setup.redis_url))
pool = ConnectionPool(
    setup.dsn, min_size=0, max_size=setup.in_flight, open=False, kwargs={"autocommit": False}
)
_of_thread = threading.local()
_lock = threading.Lock()


def _ask(method: str, path: str, body: Any = None) -> Any:
    client = getattr(_of_thread, "client", None)
    if client is None:
        client = _of_thread.client = httpx.Client(
            base_url=setup.base_url, auth=(ACCOUNT_ID, API_KEY), timeout=payments.CALL_S
        )
    answer = client.request(method, path, json=body)
    answer.raise_for_status()
    return answer.json()["data"]


def _write(*statements: writes.Statement) -> Any:
    """One commit; the row that the first statement returns."""
    with _lock:
        if pool.closed:
            pool.open()
    with pool.connection() as connection:
        row = connection.execute(*statements[0]).fetchone()
        for statement in statements[1:] if row else ():
            connection.execute(*statement)
    return row


@dramatiq.actor(max_retries=5, min_backoff=1000)
def pay(payment_id: int) -> None:
    """Create a payment and release it."""
    row = _write(*writes.begin(payment_id))
    if row is None:
        return
    made = _ask("POST", "/payout-invoices", payments.document(row[0]))
    _write(*writes.created(payment_id, made["id"]))
    _ask("POST", f"/payout-invoices/{made['id']}/process")
    released = writes.processing(payment_id)
    if setup.poll_first_s < writes.WAIT_HERE_S:
        time.sleep(setup.poll_first_s)
        _poll(payment_id, made["id"], setup.poll_first_s, untold=released)
    else:
        _write(*released)
        _later(payment_id, made["id"], setup.poll_first_s)


@dramatiq.actor(max_retries=5, min_backoff=1000)
def poll(payment_id: int, provider_id: str, waited_s: float) -> None:
    """Ask what became of it."""
    _poll(payment_id, provider_id, waited_s)


def _poll(
    payment_id: int, provider_id: str, waited_s: float, *, untold: Sequence[writes.Statement] = ()
) -> None:
    """Ask until it is final, or until that is too far off.

    Args:
        untold: what is to be written with the first answer.
    """
    while True:
        status = _ask("GET", f"/payout-invoices/{provider_id}")["attributes"]["status"]
        if status in FINAL:
            _write(*untold, *writes.final(payment_id, FINAL[status]))
            return
        if untold:
            _write(*untold)
            untold = ()
        waited_s = min(waited_s * 2, payments.POLL_S_MAX)
        if waited_s >= writes.WAIT_HERE_S:
            _later(payment_id, provider_id, waited_s)
            return
        time.sleep(waited_s)


def _later(payment_id: int, provider_id: str, wait_s: float) -> None:
    poll.send_with_options(args=(payment_id, provider_id, wait_s), delay=int(wait_s * 1000))


def _publish(ids: Sequence[int]) -> None:
    for each in ids:
        pay.send(each)


if __name__ == "__main__":
    payments.feed(_publish)
