"""How the calls of the providers went, counted up for ever over all workers.

Counts are told in batches, so that a call costs next to nothing, and only ever grow: a reader sees
how fast by asking twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import select, text
from sqlalchemy.dialects import postgresql, sqlite

from workers.record.database import Database
from workers.record.tables import calls

# The upper ends of the ranges of times: from a quick answer to the longest deadline of a call.
UP_TO_MS = (25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 30_000)
# Longer than all of them.
BEYOND = 0
# A worker that was stopped in the middle of a count must not stop the others.
LOCK_TIMEOUT_MS = 1_000


class Kind(NamedTuple):
    """What is counted together: the step, how it was answered, and the range of its time."""

    step: str
    answer: str
    up_to_ms: int


class Count(NamedTuple):
    """So many calls, and the time they took together, in microseconds."""

    number: int
    total_us: int


@dataclass(frozen=True, slots=True)
class Counted:
    """One row: the calls of one account and kind, since ever."""

    account: str
    kind: Kind
    count: Count


def range_of(took_us: int) -> int:
    """The upper end, in milliseconds, of the range that a time falls into; 0 beyond them all."""
    return next((ms for ms in UP_TO_MS if took_us <= ms * 1_000), BEYOND)


class CallBook:
    """The calls table. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, account: str, counts: Mapping[Kind, Count]) -> None:
        """Add to the account's counts, all of them or none."""
        if not counts:
            return
        insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        # Always in the same order: two that add at once wait for each other, never both.
        rows = [
            {"account": account, **kind._asdict(), **counts[kind]._asdict()}
            for kind in sorted(counts)
        ]
        statement: Any = insert(calls).values(rows)
        added = statement.on_conflict_do_update(
            index_elements=list(calls.primary_key),
            set_={
                "number": calls.c.number + statement.excluded.number,
                "total_us": calls.c.total_us + statement.excluded.total_us,
            },
        )
        with self.database.write() as connection:
            if not self.database.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
            connection.execute(added)

    def all(self) -> Sequence[Counted]:
        """Every count of every account."""
        with self.database.read() as connection:
            return [
                Counted(
                    row.account,
                    Kind(row.step, row.answer, row.up_to_ms),
                    Count(row.number, row.total_us),
                )
                for row in connection.execute(select(calls))
            ]
