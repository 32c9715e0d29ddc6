"""Whether a service of the cluster gets its work done: what the health checks of containers ask.

An answer to a ping proves little: a worker can answer and take nothing from the queue. So each
check looks at something that the service must have done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from workers import heartbeat
from workers.errors import UsageError
from workers.record.database import Database
from workers.record.due import DueWork
from workers.settings import Settings

# A beat publishes every 2 s; it may have to try again a few times.
UNPUBLISHED_S_MAX = 15
# A worker with something to do finishes tasks all the time. One task may take as long as its claim,
# so where an account's `claim_s` is longer, that counts.
UNFINISHED_S_MIN = 60
# Whoever asks a health check waits a few seconds at most.
ANSWER_S_MAX = 5


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a service is healthy, and why, in one sentence."""

    ok: bool
    sentence: str


def beat(settings: Settings, now: datetime) -> Health:
    """Healthy when the beat that shares our `heartbeat_folder` has published lately."""
    age_s = heartbeat.age_s(heartbeat.BEAT, settings.heartbeat_folder, now)
    if age_s is None:
        return _without_sign(heartbeat.BEAT, settings)
    told = f"the beat published {age_s:.0f} s ago"
    if age_s <= UNPUBLISHED_S_MAX:
        return Health(True, told)
    return Health(False, f"{told}, more than {UNPUBLISHED_S_MAX} s; look at the broker too")


def worker(settings: Settings, now: datetime, accounts: Collection[str] = ()) -> Health:
    """Healthy when the worker that shares our `heartbeat_folder` has finished a task lately, or
    when nothing has been waiting for so long.

    A database that cannot be asked is not this worker's fault, and no restart would mend it.

    Args:
        accounts: whose payouts this worker is there for; by default those of all accounts.

    Raises:
        UsageError: the settings have no account of such a name.
    """
    if unknown := set(accounts) - set(settings.accounts):
        raise UsageError(f"no account {min(unknown)!r} in the settings")
    age_s = heartbeat.age_s(heartbeat.WORKER, settings.heartbeat_folder, now)
    if age_s is None:
        return _without_sign(heartbeat.WORKER, settings)
    limit_s = max([UNFINISHED_S_MIN, *(each.claim_s for each in settings.accounts.values())])
    told = f"the worker finished something {age_s:.0f} s ago"
    if age_s <= limit_s:
        return Health(True, told)
    waiting: list[float] = []
    wanted = accounts or settings.accounts
    trouble = _within_limit(lambda: waiting.append(_waits_s(settings, wanted, now)))
    if trouble is not None:
        return Health(True, f"{told}; what waits is not known: the database {trouble}")
    if waiting[0] <= limit_s:
        return Health(True, f"{told}, and no payout has been waiting for longer than {limit_s:g} s")
    return Health(
        False,
        f"{told}, and a payout has been due for {waiting[0]:.0f} s: it is stuck, or nothing"
        " reaches it; look at the beat and the broker too",
    )


def webhooks(url: str) -> Health:
    """Healthy when the receiver at that address can read the record."""
    status, _ = _get(f"{url}/health")
    if status == 200:
        return Health(True, f"the receiver at {url} can use the record")
    if status == 503:
        return Health(False, f"the receiver at {url} cannot use the record")
    return _unexpected(url, status)


def flower(url: str, login: str | None) -> Health:
    """Healthy when Flower at that address sees a worker alive.

    Args:
        login: `user:password`, as Flower takes it from FLOWER_BASIC_AUTH.
    """
    # Flower takes several, separated by commas.
    user, _, password = (login or "").partition(",")[0].partition(":")
    status, found = _get(f"{url}/api/workers", auth=(user, password), params={"status": "1"})
    if status == 401:
        return Health(False, f"Flower at {url} refuses the login of FLOWER_BASIC_AUTH")
    if status != 200 or not isinstance(found, dict):
        return _unexpected(url, status)
    alive = sum(is_alive is True for is_alive in found.values())
    if not alive:
        return Health(False, f"Flower at {url} sees no worker alive")
    return Health(True, f"Flower at {url} sees {alive} worker{'s' * (alive > 1)} alive")


def simulator(url: str) -> Health:
    """Healthy when the simulator at that address carries out a control call."""
    status, _ = _get(f"{url}/_control/health")
    if status != 200:
        return _unexpected(url, status)
    return Health(True, f"the simulator at {url} works")


def _without_sign(who: str, settings: Settings) -> Health:
    path = heartbeat.path_of(who, settings.heartbeat_folder)
    return Health(False, f"no {who} has begun here: there is no {path}")


def _waits_s(settings: Settings, accounts: Collection[str], now: datetime) -> float:
    """For how long the payout that waits longest has been due."""
    database = Database(settings.database_url, connections_max=1)
    try:
        due_at = DueWork(database).longest_due(accounts, now)
    finally:
        database.close()
    return (now - due_at).total_seconds() if due_at is not None else 0.0


def _within_limit(ask: Callable[[], None]) -> str | None:
    """Ask something that may never answer; None, or what went wrong."""
    wrong: list[str] = ["does not answer"]

    def carry_out() -> None:
        try:
            ask()
            wrong.clear()
        except Exception as error:  # noqa: BLE001 - told; whatever it is, it is not the worker's
            wrong[:] = [f"cannot be asked ({type(error).__name__})"]

    asking = threading.Thread(target=carry_out, daemon=True)
    asking.start()
    asking.join(ANSWER_S_MAX)
    return wrong[0] if wrong else None


def _get(url: str, **options: Any) -> tuple[int | None, Any]:
    """The status and the JSON of an answer; None where there was none."""
    try:
        answer = httpx.get(url, timeout=ANSWER_S_MAX, trust_env=False, **options)
        return answer.status_code, answer.json() if answer.is_success else None
    except (httpx.HTTPError, ValueError):
        return None, None


def _unexpected(url: str, status: int | None) -> Health:
    if status is None:
        return Health(False, f"{url} does not answer")
    return Health(False, f"{url} answers with status {status}")
