"""How long an answer of /metrics takes to make, with so many payouts in the record.

    python -m benchmarks.metrics postgresql+psycopg://USER@HOST/NAME [--payouts 1000000]

The database must be empty; it is filled with generated payouts, in the shapes that are hardest to
count: all settled, all waiting, all waiting in a paused batch, all open at the provider.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from tests.worlds import settings
from workers.clock import SystemClock
from workers.metrics import Page
from workers.record.figures import FigureBook
from workers.runtime import Runtime

TIMES = 5
# State, due, claimed, and the batch's decision.
SHAPES = {
    "all settled but 20,000": ("CASE WHEN n > 20000 THEN 'paid' ELSE 'processing' END", "approved"),
    "all waiting to be sent": ("'queued'", "approved"),
    "all waiting in a paused batch": ("'queued'", "paused"),
    "all open at the provider": ("'processing'", "approved"),
    "all held": ("'held'", "approved"),
}
_BATCH = """
INSERT INTO batches (id, file_name, content_hash, file_hash, columns, rows, decision, made_by,
    made_at)
VALUES (:id, 'x.csv', :id, :id, '[]', :rows, :decision, 'maker', now())
"""
_PAYOUTS = """
INSERT INTO payouts (batch_id, row, reference_id, account, provider, service, amount_minor,
    currency, currency_exponent, state, sealed_data, seal, beneficiary, fingerprint, description,
    metadata, replaces, fee_expected_minor, created_at, sent_at, due_at)
SELECT :id, n, 'R-' || n, CASE WHEN n % 3 = 0 THEN 'other' ELSE 'main' END, 'payelata', 'test_usd',
    1000 + n, 'USD', 2, {state}, decode(repeat('ab', 300), 'hex'), repeat('s', 64), '****1234',
    hashint8extended(n, 0), 'Salary', '{{}}', '', 0, now() - n * interval '1 ms',
    now() - n * interval '1 ms',
    CASE WHEN {state} IN ('queued', 'processing') THEN now() - n * interval '1 ms' END
FROM generate_series(1, :rows) n
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--payouts", type=int, default=1_000_000)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = settings(Path(folder), database_url=flags.url)
        runtime = Runtime.open(made.model_copy(update={"accounts": dict(made.accounts)}))
        runtime.book.register({"main": "payelata", "other": "payelata"})
        for name, (state, decision) in SHAPES.items():
            _fill(runtime, flags.payouts, state, decision)
            took = sorted(_time(runtime) for _ in range(TIMES))
            print(f"{name}: median {statistics.median(took):.0f} ms, worst {took[-1]:.0f} ms")
        runtime.close()


def _fill(runtime: Runtime, rows: int, state: str, decision: str) -> None:
    with runtime.database.write() as connection:
        connection.execute(text("TRUNCATE batches, payouts CASCADE"))
        wanted = {"id": "BENCH", "rows": rows, "decision": decision}
        connection.execute(text(_BATCH), wanted)
        connection.execute(text(_PAYOUTS.format(state=state)), wanted)
    with runtime.database.engine.connect() as connection:
        free = connection.execution_options(isolation_level="AUTOCOMMIT")
        free.execute(text("VACUUM ANALYZE payouts"))


def _time(runtime: Runtime) -> float:
    started = time.perf_counter()
    Page(FigureBook(runtime.database).figures(SystemClock().now()), "", 0).text()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
