"""The Celery tasks: an id in, one call. They may be lost, doubled or late; the table decides."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from workers import payment
from workers import sweep as sweeping
from workers.app import app
from workers.runtime import Runtime, settings_of
from workers.settings import Settings

PUBLISH_MAX = 500

_runtime: list[Runtime] = []
_lock = threading.Lock()
_stopping = threading.Event()


@app.task(name="workers.tasks.pay")
def pay(payout_id: int) -> None:
    """Take one payout as far as it goes now."""
    if not _stopping.is_set():
        payment.pay(payout_id, runtime())


@app.task(name="workers.tasks.sweep")
def sweep() -> None:
    """Announce what is due; beat asks for it every few seconds."""
    sweeping.sweep(runtime(), publish)


def publish(due: Sequence[tuple[int, float]]) -> None:
    """Send one message a payout, in bulk; each expires when its mark runs out."""
    with app.producer_or_acquire() as producer, producer.batch(max_size=PUBLISH_MAX):
        for payout_id, expires_s in due:
            pay.apply_async((payout_id,), producer=producer, retry=False, expires=expires_s)


def runtime() -> Runtime:
    """This process's runtime: the one handed over by `use`, else made from the settings."""
    with _lock:
        if not _runtime:
            _runtime.append(Runtime.open(Settings.load(settings_of)))
        return _runtime[0]


def stop() -> None:
    """Begin no more payouts in this process: messages are taken and dropped, and stay due."""
    _stopping.set()


def use(given: Runtime | None) -> None:
    """Have this process's tasks work with a runtime that is already open; None: forget it."""
    if given is not None:
        _stopping.clear()
    with _lock:
        _runtime[:] = [given] if given is not None else []
