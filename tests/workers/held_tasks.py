"""A task for a real worker: it tells when it begins, and ends when it is told to. The worker also
counts how often a thread woke its loop up. Loaded by `celery worker -I`.
"""

from __future__ import annotations

from celery import signals
from redis import Redis

from workers import redis_broker
from workers.app import app

BEGUN, GO, WOKEN = "held:begun", "held:go", "held:woken"
S_MAX = 60


def _redis() -> Redis:
    return Redis.from_url(app.conf.broker_url, socket_timeout=S_MAX)


@app.task(name="held")
def held(number: int) -> None:
    with _redis() as client:
        client.rpush(BEGUN, number)
        assert client.blpop([GO], timeout=S_MAX // 2)


def _woken() -> None:
    with _redis() as client:
        client.incr(WOKEN)


@signals.worker_init.connect
def _count(**_: object) -> None:
    redis_broker._nothing = _woken
