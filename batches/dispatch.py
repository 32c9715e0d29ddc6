"""One Celery message a payout, in bulk, never more than a window ahead."""

from __future__ import annotations

from workers import sweep
from workers.runtime import Runtime


def dispatch(batch_id: str, runtime: Runtime) -> int:
    """Announce an approved batch's first payouts at once; the sweep tops the window up.

    Returns:
        How many were announced.

    Raises:
        BrokerUnreachable: none; the sweep announces them when the broker is back.
    """
    # Most commands announce nothing, and Celery takes a quarter of the time in which they start.
    from workers import tasks  # noqa: PLC0415

    return sweep.announce(runtime, tasks.broker, batch_id)
