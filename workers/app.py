"""The Celery app: `celery -A workers.app worker`, `celery -A workers.app beat`."""

from __future__ import annotations

from celery import Celery
from celery.signals import after_task_publish, beat_init, task_postrun, worker_ready

from workers import heartbeat
from workers.runtime import settings_of
from workers.settings import Settings

app = Celery("paybatch", include=["workers.tasks"])
app.config_from_object("celeryconfig")


def _worker_began(**_: object) -> None:
    folder = Settings.load(settings_of).heartbeat_folder
    heartbeat.keep(heartbeat.WORKER, folder, task_postrun)


def _beat_began(**_: object) -> None:
    folder = Settings.load(settings_of).heartbeat_folder
    heartbeat.keep(heartbeat.BEAT, folder, after_task_publish)


# Sent by the programs alone: a worker inside a command is that command's own concern.
worker_ready.connect(_worker_began)
beat_init.connect(_beat_began)
