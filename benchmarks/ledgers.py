"""When Paybatch's payouts were begun and paid, read from its record."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import psycopg

_PAID = "SELECT count(*) FROM payouts WHERE state = 'paid'"
_EVENTS = """
SELECT payout_id, min(CASE WHEN to_state = 'creating' THEN at END),
    max(CASE WHEN to_state = 'paid' THEN at END)
FROM payout_events WHERE to_state IN ('creating', 'paid') GROUP BY payout_id
"""

Times = Mapping[int, tuple[float, float]]


def paid(dsn: str) -> int:
    """How many are paid."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_PAID).fetchone()
        return row[0] if row else 0


def times(dsn: str) -> Times:
    """When each was begun and paid."""
    with psycopg.connect(dsn) as connection:
        return _paid(connection.execute(_EVENTS))


def paid_sqlite(path: Path) -> int:
    """How many are paid."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        count: int = connection.execute(_PAID).fetchone()[0]
    finally:
        connection.close()
    return count


def times_sqlite(path: Path) -> Times:
    """When each was begun and paid."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute(_EVENTS).fetchall()
    finally:
        connection.close()
    return _paid((each, _utc(begun), _utc(ended)) for each, begun, ended in rows)


def _utc(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


def _paid(rows: Iterable[tuple[int, datetime | None, datetime | None]]) -> Times:
    return {
        each: (begun.timestamp(), ended.timestamp())
        for each, begun, ended in rows
        if begun is not None and ended is not None
    }
