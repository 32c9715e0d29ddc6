"""The Celery task of nightly settlement: beat asks what is due, and the database decides.

Workers load it by celeryconfig's `imports`, where schedules are set up. It may be lost, doubled or
late, and be asked for by any number of beats.
"""

from __future__ import annotations

import logging
import threading

from batches.settlement import settle
from workers.app import app
from workers.tasks import ById, runtime, told_here

log = logging.getLogger(__name__)

# A look may take longer than the time between two ticks: those in between find it under way.
_under_way = threading.Lock()


@app.task(name="paybatch.settle", base=ById)
@told_here
def settle_due() -> None:
    """Do what is due of every schedule."""
    if not _under_way.acquire(blocking=False):
        return
    try:
        record = runtime()
        for schedule in record.settings.schedules:
            if record.clock.stopping:
                return
            try:
                settle(schedule, record)
            except Exception:
                # One schedule must not keep the others from being settled; the next tick tries it
                # again, and doctor and the metrics tell that it is late.
                log.exception("schedule not settled", extra={"schedule": schedule.name})
    finally:
        _under_way.release()
