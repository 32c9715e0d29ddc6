"""The workers' Celery app, which also notes when it publishes the messages of which payouts.

    celery -A benchmarks.watched worker

The record does not keep that time: it means nothing to a payout.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from workers import tasks
from workers.app import app
from workers.record.due import Due

__all__ = ["app", "watch"]


def watch(path: Path) -> None:
    """Note in a file what this process publishes from now on: one line a call."""
    publish = tasks.CeleryBroker.publish

    def noted(self: tasks.CeleryBroker, due: Sequence[Due]) -> None:
        first = [str(one.payout_id) for one in due if one.to_send]
        if first:
            with path.open("a") as file:
                file.write(f"{time.time():.6f} {' '.join(first)}\n")
        publish(self, due)

    tasks.CeleryBroker.publish = noted  # type: ignore[method-assign]


if "BENCH_PUBLISHED" in os.environ:
    watch(Path(os.environ["BENCH_PUBLISHED"]))
