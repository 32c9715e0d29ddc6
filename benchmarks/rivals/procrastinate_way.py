"""The same work with the same writes on Procrastinate, whose queue is PostgreSQL: a sketch.

    procrastinate --app benchmarks.rivals.procrastinate_way.app worker --concurrency 16
    python -m benchmarks.rivals.procrastinate_way WINDOW NOTES

The commits are those of the sketch on Dramatiq. Procrastinate's own way is asyncio; httpx goes over
aiohttp's connections, for its own pool slows down with many calls in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import procrastinate
from httpx_aiohttp import AiohttpTransport
from procrastinate.types import JSONDict
from psycopg_pool import AsyncConnectionPool

from benchmarks.rivals import payments, writes
from benchmarks.rivals.payments import ACCOUNT_ID, API_KEY, FINAL, Setup

setup = Setup.read()
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=setup.dsn))
_opened: list[tuple[AsyncConnectionPool, httpx.AsyncClient]] = []
_opening = asyncio.Lock()
RETRY = procrastinate.RetryStrategy(max_attempts=5, exponential_wait=2)


async def _open() -> tuple[AsyncConnectionPool, httpx.AsyncClient]:
    async with _opening:
        if not _opened:
            pool = AsyncConnectionPool(setup.dsn, min_size=0, max_size=setup.in_flight, open=False)
            await pool.open()
            client = httpx.AsyncClient(
                base_url=setup.base_url,
                auth=(ACCOUNT_ID, API_KEY),
                timeout=payments.CALL_S,
                transport=AiohttpTransport(),
            )
            _opened.append((pool, client))
    return _opened[0]


async def _ask(method: str, path: str, body: Any = None) -> Any:
    _, client = await _open()
    answer = await client.request(method, path, json=body)
    answer.raise_for_status()
    return answer.json()["data"]


async def _write(*statements: writes.Statement) -> Any:
    """One commit; the row that the first statement returns."""
    pool, _ = await _open()
    async with pool.connection() as connection:
        row = await (await connection.execute(*statements[0])).fetchone()
        for statement in statements[1:] if row else ():
            await connection.execute(*statement)
    return row


# Named, for the publisher runs this file as a program, where it has another name.
@app.task(name="pay", retry=RETRY)
async def pay(payment_id: int) -> None:
    """Create a payment and release it."""
    row = await _write(*writes.begin(payment_id))
    if row is None:
        return
    made = await _ask("POST", "/payout-invoices", payments.document(row[0]))
    await _write(*writes.created(payment_id, made["id"]))
    await _ask("POST", f"/payout-invoices/{made['id']}/process")
    released = writes.processing(payment_id)
    if setup.poll_first_s < writes.WAIT_HERE_S:
        await asyncio.sleep(setup.poll_first_s)
        await _poll(payment_id, made["id"], setup.poll_first_s, untold=released)
    else:
        await _write(*released)
        await _later(payment_id, made["id"], setup.poll_first_s)


@app.task(name="poll", retry=RETRY)
async def poll(payment_id: int, provider_id: str, waited_s: float) -> None:
    """Ask what became of it."""
    await _poll(payment_id, provider_id, waited_s)


async def _poll(
    payment_id: int, provider_id: str, waited_s: float, *, untold: Sequence[writes.Statement] = ()
) -> None:
    """Ask until it is final, or until that is too far off.

    Args:
        untold: what is to be written with the first answer.
    """
    while True:
        status = (await _ask("GET", f"/payout-invoices/{provider_id}"))["attributes"]["status"]
        if status in FINAL:
            await _write(*untold, *writes.final(payment_id, FINAL[status]))
            return
        if untold:
            await _write(*untold)
            untold = ()
        waited_s = min(waited_s * 2, payments.POLL_S_MAX)
        if waited_s >= writes.WAIT_HERE_S:
            await _later(payment_id, provider_id, waited_s)
            return
        await asyncio.sleep(waited_s)


async def _later(payment_id: int, provider_id: str, wait_s: float) -> None:
    later = poll.configure(schedule_in={"milliseconds": int(wait_s * 1000)})
    await later.defer_async(payment_id=payment_id, provider_id=provider_id, waited_s=wait_s)


def _publish(ids: Sequence[int]) -> None:
    jobs: list[JSONDict] = [{"payment_id": each} for each in ids]
    pay.batch_defer(*jobs)


def main() -> None:
    publisher = app.with_connector(procrastinate.SyncPsycopgConnector(conninfo=setup.dsn))
    with publisher.open(), app.replace_connector(publisher.connector):
        payments.feed(_publish)


if __name__ == "__main__":
    main()
