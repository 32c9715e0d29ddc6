"""The Celery app: `celery -A workers.app worker`, `celery -A workers.app beat`."""

from __future__ import annotations

from celery import Celery

app = Celery("paybatch", include=["workers.tasks"])
app.config_from_object("celeryconfig")
