"""What is due, found again and again: dead workers' creates, payouts to announce, paused accounts.

Any number of sweeps may run at once. Nothing is paid here: a message is published for each payout,
and its worker decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from workers.errors import AccountFault, ProviderUnreachable
from workers.record.money import Currency, Money
from workers.runtime import Account, Runtime

log = logging.getLogger(__name__)

Publish = Callable[[Sequence[tuple[int, float]]], None]


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found to do."""

    expired: int
    woken: int
    announced: int
    resumed: int


def sweep(runtime: Runtime, publish: Publish) -> Swept:
    """Do once all that is due now.

    Args:
        publish: sends one message a payout: its id, and the seconds after which it is worthless.
    """
    now = runtime.clock.now()
    expired = runtime.store.expire_creates(now)
    woken = runtime.webhooks.apply(now).woken
    runtime.tokens.forget_old(now)
    resumed = sum(_probed(account, runtime) for account in runtime.accounts.values())
    announced = announce(runtime, publish)
    if expired or resumed:
        log.info(
            "sweep expired=%d woken=%d announced=%d resumed=%d", expired, woken, announced, resumed
        )
    return Swept(expired, woken, announced, resumed)


def announce(runtime: Runtime, publish: Publish, batch_id: str = "") -> int:
    """Announce what is due, never more than a window ahead; the number announced.

    The marks are committed before anything is published: a message that is lost, or a crash here,
    costs the time until the marks run out and nothing else.
    """
    due = runtime.due.announce(
        runtime.clock.now(),
        window=runtime.settings.dispatch_window,
        announce_s={name: a.settings.announce_s for name, a in runtime.accounts.items()},
        batch_id=batch_id,
    )
    if due:
        publish(due)
    return len(due)


def probe(account: Account, runtime: Runtime) -> str | None:
    """Ask whether a paused account can be used again, and open it if so.

    Returns:
        None when it was opened; else what is still wrong.
    """
    try:
        balances = account.provider.balances() if account.policy.balances else None
    except (AccountFault, ProviderUnreachable) as error:
        return str(error)
    needed = runtime.book.smallest_queued(account.name)
    if balances and needed and not _covers_any(balances, needed):
        return "the balance does not cover any of the queued payouts"
    runtime.book.resume(account.name)
    log.info("account resumed account=%s", account.name)
    return None


def _probed(account: Account, runtime: Runtime) -> bool:
    if not runtime.book.take_probe(account.name, runtime.clock.now()):
        return False
    return probe(account, runtime) is None


def _covers_any(balances: Mapping[Currency, Money], needed: Mapping[Currency, Money]) -> bool:
    return any(
        currency in balances and least <= balances[currency] for currency, least in needed.items()
    )
