"""What is due, found again and again: dead workers' creates, payouts to announce, paused accounts,
decisions whose rows have still to follow.

Any number of sweeps may run at once. Nothing is paid here: a message is published for each payout,
and its worker decides.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from workers.errors import AccountFault, BrokerUnreachable, ProviderUnreachable
from workers.pace import window_at
from workers.queues import queue_of
from workers.record.due import Due, Message
from workers.record.money import Currency, Money
from workers.record.status import Outcome
from workers.runtime import Account, Runtime

log = logging.getLogger(__name__)

# A message that was not taken for so long, while none waits in its queue, is gone: the broker was
# flushed, or a worker died with it. Long enough for one that a busy worker has fetched ahead.
LOST_S = 15


class Broker(Protocol):
    """What the dispatcher needs of the broker."""

    def publish(self, due: Sequence[Due]) -> None:
        """Send one message a payout.

        Raises:
            BrokerUnreachable: some or all were not sent.
        """
        ...

    def waiting(self, queue: str) -> int:
        """How many messages wait in a queue.

        Raises:
            BrokerUnreachable: it does not say.
        """
        ...

    def next_of(self, queue: str) -> Message | None:
        """The message that is taken next; None: that cannot be told.

        Raises:
            BrokerUnreachable: it does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found to do."""

    expired: int
    woken: int
    lost: int
    announced: int
    probed: int
    # Chunks of rows that followed what people decided.
    carried: int = 0


def at_once(work: Callable[[], None]) -> None:
    """Do it here and now."""
    work()


def in_background(work: Callable[[], None]) -> None:
    """Begin it in a thread of its own, which nobody waits for."""
    threading.Thread(target=work, name="paybatch-probe", daemon=True).start()


@contextlib.contextmanager
def unless_away() -> Iterator[None]:
    """Go on without a broker that cannot be reached, and tell it in a line: what stays due is
    announced the next time.
    """
    try:
        yield
    except BrokerUnreachable as error:
        log.warning("broker unreachable", extra={"reason": error})


def sweep(
    runtime: Runtime, broker: Broker, start: Callable[[Callable[[], None]], None] = at_once
) -> Swept:
    """Do once all that is due now.

    Args:
        start: begins the probe of a paused account, which waits for its provider: where others
            would have to wait too, in a thread of its own.
    """
    now = runtime.clock.now()
    expired = runtime.store.expire_creates(now)
    woken = runtime.webhooks.apply(now).woken
    runtime.webhooks.forget_old(now)
    runtime.tokens.forget_old(now)
    carried = runtime.decisions.carry_on(now)
    probed = 0
    for account in runtime.accounts.values():
        if runtime.book.take_probe(account.name, now):
            probed += 1
            start(partial(_probe_quietly, account, runtime))
    lost = announced = 0
    with unless_away():
        lost = take_back_lost(runtime, broker)
        announced = announce(runtime, broker)
    if expired or woken or lost or probed or carried:
        log.info(
            "sweep",
            extra={
                "expired": expired,
                "woken": woken,
                "lost": lost,
                "announced": announced,
                "probed": probed,
                "carried": carried,
            },
        )
    return Swept(expired, woken, lost, announced, probed, carried)


def announce(runtime: Runtime, broker: Broker, batch_id: str = "") -> int:
    """Announce what is due, never more than a window ahead; the number announced.

    The marks are committed before anything is published: a message that is lost, or a crash here,
    costs the time until the marks run out and nothing else.

    Raises:
        BrokerUnreachable: nothing counts as announced.
    """
    due = runtime.due.announce(
        runtime.clock.now(),
        window=runtime.settings.dispatch_window,
        announce_s={name: a.settings.announce_s for name, a in runtime.accounts.items()},
        narrower={
            name: window_at(account.settings.rate_per_s)
            for name, account in runtime.accounts.items()
            if account.settings.rate_per_s
        },
        batch_id=batch_id,
    )
    if due:
        try:
            broker.publish(due)
        except BrokerUnreachable:
            runtime.due.give_back([one.payout_id for one in due])
            raise
    return len(due)


def take_back_lost(runtime: Runtime, broker: Broker) -> int:
    """Take back the marks whose messages are gone; the number taken back.

    Where others wait all the time, the one that is taken next tells it: what was sent before that
    one has been taken, and a worker claims what it takes at once.

    Raises:
        BrokerUnreachable: it does not say what waits.
    """
    lost, now = 0, runtime.clock.now()
    for account in runtime.accounts.values():
        left_s = account.settings.announce_s - LOST_S
        if left_s <= 0:
            # They are announced again as soon without this.
            continue
        before = now + timedelta(seconds=left_s)
        for to_send in (True, False):
            if not runtime.due.overdue(account.name, now, before=before, to_send=to_send):
                continue
            queue = queue_of(account.name, to_send=to_send)
            ahead_of = None
            if broker.waiting(queue):
                ahead_of = broker.next_of(queue)
                if ahead_of is None or not runtime.due.overdue(
                    account.name, now, before=before, to_send=to_send, ahead_of=ahead_of
                ):
                    continue
            lost += runtime.due.take_back(
                account.name, now, before=before, to_send=to_send, ahead_of=ahead_of
            )
    return lost


def probe(account: Account, runtime: Runtime) -> str | None:
    """Ask whether a paused account can be used again, and open it if so.

    Returns:
        None when it was opened; else what is still wrong.
    """
    wrong = still_wrong(account, runtime)
    if wrong is not None:
        return wrong
    if runtime.book.resume(account.name):
        log.info("account resumed", extra={"account": account.name})
    return None


def still_wrong(account: Account, runtime: Runtime) -> str | None:
    """Why a paused account cannot be used yet; None: it can.

    Asks for the balance; where there is none to ask for, for a payout that waits.
    """
    if account.policy.balances:
        try:
            balances = account.provider.balances()
        except (AccountFault, ProviderUnreachable) as error:
            return str(error)
        needed = runtime.book.smallest_queued(account.name)
        if balances and needed and not _covers_any(balances, needed):
            return "the balance does not cover any of the queued payouts"
        return None
    order = runtime.store.waiting_order(account.name) if account.policy.look_up else None
    if order is None:
        return None
    reply = account.provider.look_up(order)
    if reply.outcome is Outcome.ACCOUNT_FAULT:
        return reply.account_fault or reply.reason or "the account is at fault"
    lost = reply.outcome in (Outcome.NOT_SENT, Outcome.UNKNOWN)
    if lost and not (reply.code or "").startswith("2"):
        return f"a look-up was not answered: {reply.reason or reply.code}"
    return None


def _probe_quietly(account: Account, runtime: Runtime) -> None:
    try:
        probe(account, runtime)
    except Exception:
        # The next probe tries again; nothing else must stand still for it.
        log.exception("probe failed", extra={"account": account.name})


def _covers_any(balances: Mapping[Currency, Money], needed: Mapping[Currency, Money]) -> bool:
    return any(
        currency in balances and least <= balances[currency] for currency, least in needed.items()
    )
