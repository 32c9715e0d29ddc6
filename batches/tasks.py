"""The Celery task of nightly settlement: beat asks what is due, and the database decides.

Workers load it by celeryconfig's `imports`, where schedules are set up. It may be lost, doubled or
late, and be asked for by any number of beats.
"""

from __future__ import annotations

import logging

from batches.settlement import settle
from workers.app import app
from workers.tasks import ById, one_at_a_time, runtime, told_here

log = logging.getLogger(__name__)


@app.task(name="paybatch.settle", base=ById)
@told_here
@one_at_a_time
def settle_due() -> None:
    """Do what is due of every schedule, which may take longer than the time between two ticks."""
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
