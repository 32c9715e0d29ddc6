"""The Celery app: `celery -A workers.app worker`, `celery -A workers.app beat`."""

from __future__ import annotations

import gc
import logging

from celery import Celery, signals

from workers import heartbeat, logs, redis_broker
from workers.runtime import settings_of
from workers.settings import Settings
from workers.worker_events import AcksInPlace, EventsInBulk

# New objects before a search among the young, and searches before one among the older.
GARBAGE = (20_000, 20, 50)

redis_broker.use()
app = Celery("paybatch", include=["workers.tasks"])
app.config_from_object("celeryconfig")
app.steps["consumer"].update({AcksInPlace, EventsInBulk})


@signals.setup_logging.connect
def _log(loglevel: int = logging.INFO, logfile: str | None = None, **_: object) -> None:
    """Log as everything else here does, Celery's own loggers too. Who listens to this signal keeps
    Celery from setting up its own."""
    logs.log_to_stderr(Settings.load(settings_of).log_format, loglevel, file=logfile)


@signals.celeryd_init.connect
def _log_from_the_start(**_: object) -> None:
    """A worker warns of some things before it sets up its log."""
    logs.log_to_stderr(Settings.load(settings_of).log_format)


# The next two are sent by the programs alone: a worker inside a command is that command's own
# concern.
@signals.worker_ready.connect
def _worker_began(**_: object) -> None:
    # What is loaded by now stays, and what a payout needs goes by itself: to look for cycles of
    # garbage after every 700 new objects costs a worker a fifteenth of its time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    folder = Settings.load(settings_of).heartbeat_folder
    heartbeat.keep(heartbeat.WORKER, folder, signals.task_postrun)


@signals.beat_init.connect
def _beat_began(**_: object) -> None:
    folder = Settings.load(settings_of).heartbeat_folder
    heartbeat.keep(heartbeat.BEAT, folder, signals.after_task_publish)
