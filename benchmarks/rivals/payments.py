"""What the rivals share: their table, what they ask of the provider, and how their work is given
out and timed. How each of them works is its own file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.types.json import Json

from benchmarks.files import rows_of

ACCOUNT_ID, API_KEY = "coma_Demo0000Demo0001", "demo-api-key"
CALL_S = 30
# The provider's words that end a payout.
FINAL = {"processed": "paid", "process_failed": "failed"}
POLL_S_MAX = 60
# How often what is out is counted, and how many are published between two notes of the time.
FEED_S = 0.1
FEED_ROWS = 50

TABLES = """
CREATE TABLE payments (
    id bigserial PRIMARY KEY,
    reference_id text NOT NULL UNIQUE,
    attributes jsonb NOT NULL,
    state text NOT NULL DEFAULT 'queued',
    idempotency_key text UNIQUE,
    provider_id text,
    attempts integer NOT NULL DEFAULT 0,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    begun_at timestamptz,
    final_at timestamptz
);
CREATE INDEX payments_state ON payments (state);
CREATE TABLE payment_events (
    id bigserial PRIMARY KEY,
    payment_id bigint NOT NULL REFERENCES payments,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_state text NOT NULL,
    to_state text NOT NULL,
    note text
);
CREATE INDEX payment_events_payment ON payment_events (payment_id);
"""


@dataclass(frozen=True)
class Setup:
    """What a rival's processes are told, by their environment."""

    dsn: str
    redis_url: str
    base_url: str
    # The first wait before a payout is read, doubled each time.
    poll_first_s: float
    in_flight: int

    @classmethod
    def read(cls) -> Self:
        return cls(
            dsn=os.environ["BENCH_DSN"],
            redis_url=os.environ["BENCH_REDIS"],
            base_url=os.environ["BENCH_BASE_URL"],
            poll_first_s=float(os.environ["BENCH_POLL_FIRST_S"]),
            in_flight=int(os.environ["BENCH_IN_FLIGHT"]),
        )

    def environ(self) -> Mapping[str, str]:
        return {
            "BENCH_DSN": self.dsn,
            "BENCH_REDIS": self.redis_url,
            "BENCH_BASE_URL": self.base_url,
            "BENCH_POLL_FIRST_S": str(self.poll_first_s),
            "BENCH_IN_FLIGHT": str(self.in_flight),
        }


def attributes_of(row: Sequence[str]) -> dict[str, Any]:
    """One line of the file, as the provider wants it."""
    reference_id, amount, currency, service, description, *fields, department = row
    names = [
        "account_number", "bank_code", "account_type",
        "beneficiary_document_type", "beneficiary_document_id",
    ]  # fmt: skip
    return {
        "reference_id": reference_id,
        "service": service,
        "currency": currency,
        "amount": float(amount),
        "test_mode": True,
        "description": description,
        "fields": dict(zip(names, fields, strict=True)),
        "metadata": {"department": department},
        "options": {"auto_process": False, "allow_partially": False, "split_mode": False},
    }


def document(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a create."""
    return {"data": {"type": "payout-invoice", "attributes": attributes}}


def prepare(dsn: str, count: int) -> None:
    """Make the tables, with so many payments to make."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
        copy = "COPY payments (reference_id, attributes) FROM STDIN"
        with cursor.copy(copy) as rows:
            for row in rows_of(count):
                rows.write_row((row[0], Json(attributes_of(row))))


def finished(dsn: str) -> int:
    """How many are at their end."""
    with psycopg.connect(dsn) as connection:
        counted = "SELECT count(*) FROM payments WHERE state IN ('paid', 'failed')"
        row = connection.execute(counted).fetchone()
        return row[0] if row else 0


def times(dsn: str) -> Mapping[int, tuple[float, float]]:
    """When each was begun and paid."""
    with psycopg.connect(dsn) as connection:
        asked = "SELECT id, begun_at, final_at FROM payments WHERE state = 'paid'"
        return {
            each: (begun.timestamp(), final.timestamp())
            for each, begun, final in connection.execute(asked)
        }


def feed(publish: Callable[[Sequence[int]], None]) -> None:
    """The publisher's program: give out all payments, no more than a window ahead of the workers.

    Its arguments are the window, and the file in which it notes what it publishes when.
    """
    window, path = int(sys.argv[1]), Path(sys.argv[2])
    with (
        psycopg.connect(Setup.read().dsn, autocommit=True) as connection,
        path.open("a", buffering=1) as notes,
    ):
        left = [each for (each,) in connection.execute("SELECT id FROM payments ORDER BY id")]
        print("ready", flush=True)
        sys.stdin.readline()
        waiting = "SELECT count(*) FROM payments WHERE state = 'queued'"
        while left:
            row = connection.execute(waiting).fetchone()
            room = max(0, window - ((row[0] if row else 0) - len(left)))
            now, left = left[:room], left[room:]
            for start in range(0, len(now), FEED_ROWS):
                chunk = now[start : start + FEED_ROWS]
                notes.write(f"{time.time():.6f} {' '.join(map(str, chunk))}\n")
                publish(chunk)
            time.sleep(FEED_S)
