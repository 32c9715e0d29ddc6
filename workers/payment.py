"""One payout, step by step: claim, create, process, poll, record.

The step about to be taken is committed before the provider is called, and its answer after. A lost
answer is looked up, and nothing is created a second time before a look-up has answered.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
)
from tenacity.wait import wait_exponential_jitter

from workers.errors import StaleState
from workers.record.groups import DATABASE_AWAY
from workers.record.model import Order, Payout, Reply
from workers.record.status import Outcome, State, Step
from workers.record.store import Claim
from workers.record.told import Recorded
from workers.runtime import Account, Runtime

log = logging.getLogger(__name__)

# A safe call is repeated within the task: so often, after delays from 0.2 s to 2 s.
SAFE_TRIES = 3
SAFE_WAIT_FIRST_S = 0.2
SAFE_WAIT_MAX_S = 2
# Polls this near are made by the same worker; others give the payout back.
POLL_IN_TASK_S = 1
# And so long at most, so that a slow payout does not keep its place from others.
IN_TASK_S_MAX = 3
# An answer that the database does not take is stored again and again, so long after each try.
STORE_WAIT_MAX_S = 2


def pay(payout_id: int, runtime: Runtime) -> None:
    """Take one payout as far as it goes now; safe to call at any time, any number of times."""
    if runtime.clock.stopping:
        # Somebody else takes it at once.
        runtime.due.give_back([payout_id])
        return
    account = _account_of(payout_id, runtime)
    if account is None:
        return
    come_back_s = account.slots.take()
    if come_back_s is not None:
        _postpone(payout_id, come_back_s, runtime)
        return
    # The deadline starts before the claim does, so it never ends after it.
    started = runtime.clock.monotonic()
    try:
        wait_s = account.gate.wait_s()
        if wait_s:
            # Before the intent is stored: a payout that cannot be sent soon is not claimed.
            _postpone(payout_id, max(wait_s, account.slots.turn_s(account.gate.apart_s)), runtime)
            return
        claim = runtime.store.claim(payout_id, runtime.policies, runtime.clock.now())
        if claim is not None:
            _carry_on(claim, started, account, runtime)
    except StaleState as stale:
        # Someone took over after the claim ran out: what we learnt will be looked up.
        log.warning("claim lost", extra={"payout_id": payout_id, "reason": stale})
    except DATABASE_AWAY as error:
        # Unclaimed, it is announced again; claimed, it is looked up when its claim has run out.
        reason = type(error.orig).__name__
        log.warning("database away", extra={"payout_id": payout_id, "reason": reason})
    finally:
        account.slots.leave(runtime.clock.monotonic() - started)
    account.gate.tell_counts()


def _carry_on(claim: Claim, started: float, account: Account, runtime: Runtime) -> None:
    settings, clock = account.settings, runtime.clock
    payout = claim.payout
    step: Step | None = _first_step(payout, account)
    while step is not None:
        # A call that could outlast the claim is not begun: by then another worker may have it.
        start_by = started + settings.claim_s - settings.call_deadline_s
        with account.gate.no_later_than(start_by, step=step):
            reply = _call(step, payout, claim.order, account, runtime)
        if reply.code == "429" and reply.retry_after_s is not None:
            account.gate.block(reply.retry_after_s)
        recorded = _recorded(payout, step, reply, account, runtime, started=started)
        log.info(
            "payout",
            extra={
                "batch_id": payout.batch_id,
                "reference_id": payout.reference_id,
                "payout_id": payout.id,
                "account": account.name,
                "step": step,
                "outcome": reply.outcome,
                "state": recorded.payout.state,
            },
        )
        payout, step = recorded.payout, recorded.next_step
        if step is Step.POLL and recorded.wait_s:
            clock.sleep(recorded.wait_s * random.uniform(0.8, 1.0))


def _recorded(
    payout: Payout, step: Step, reply: Reply, account: Account, runtime: Runtime, *, started: float
) -> Recorded:
    """Store what was answered, again while the database does not take it and the claim lasts.

    What an earlier try stored after all is not stored twice: the claim then says so.

    Raises:
        StaleState: the claim was lost, or an earlier try was stored.
        sqlalchemy.exc.OperationalError: the database took nothing until the claim ran out.
    """
    settings, clock = account.settings, runtime.clock

    def store() -> Recorded:
        now = clock.monotonic()
        start_by = started + settings.claim_s - settings.call_deadline_s
        keep_s = min(POLL_IN_TASK_S, started + IN_TASK_S_MAX - now, start_by - now)
        if clock.stopping:
            keep_s = 0
        return runtime.store.record(payout, step, reply, account.policy, clock.now(), keep_s=keep_s)

    try:
        return store()
    except DATABASE_AWAY as error:
        failed = [error]

    def once_more() -> Recorded:
        if failed:
            raise failed.pop()
        return store()

    return Retrying(
        retry=retry_if_exception_type(DATABASE_AWAY),
        stop=lambda _state: clock.monotonic() - started >= settings.claim_s,
        wait=wait_exponential_jitter(
            multiplier=SAFE_WAIT_FIRST_S, max=STORE_WAIT_MAX_S, jitter=SAFE_WAIT_FIRST_S
        ),
        sleep=clock.sleep,
        reraise=True,
    )(once_more)


def _first_step(payout: Payout, account: Account) -> Step:
    if payout.state is State.CREATING:
        # The first create of its life cannot be at the provider, as long as the record knows its
        # life. Any later one may be, whatever the last answer said: look before.
        first = payout.attempts == 1 and not payout.looks_first
        return Step.CREATE if first or not account.policy.look_up else Step.LOOK_UP
    if payout.state is State.UNKNOWN:
        return Step.LOOK_UP
    return Step.POLL


def _call(step: Step, payout: Payout, order: Order, account: Account, runtime: Runtime) -> Reply:
    provider, known_as = account.provider, payout.provider_payout_id
    if step is Step.CREATE:
        return provider.create(order)
    if step is Step.PROCESS and known_as is not None:
        return provider.process(order, known_as)
    if step is Step.POLL and known_as is not None:
        return _safely(lambda: provider.poll(order, known_as), runtime)
    confirmed = payout.confirmed_id
    if confirmed is not None:
        # It asked us about this id, so the payout is there under it.
        return _safely(lambda: provider.poll(order, confirmed), runtime)
    return _safely(lambda: provider.look_up(order), runtime)


def _safely(call: Callable[[], Reply], runtime: Runtime) -> Reply:
    """Repeat a call that changes nothing at the provider while it gets no answer."""
    reply = call()
    if not _unanswered(reply):
        return reply
    first = [reply]

    def last(state: RetryCallState) -> Any:
        return state.outcome.result() if state.outcome else None

    return Retrying(
        retry=retry_if_result(_unanswered),
        stop=stop_after_attempt(SAFE_TRIES),
        wait=wait_exponential_jitter(
            multiplier=SAFE_WAIT_FIRST_S, max=SAFE_WAIT_MAX_S, jitter=SAFE_WAIT_FIRST_S
        ),
        sleep=runtime.clock.sleep,
        retry_error_callback=last,
    )(lambda: first.pop() if first else call())


def _unanswered(reply: Reply) -> bool:
    lost = reply.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)
    return lost and reply.retry_after_s is None


def _account_of(payout_id: int, runtime: Runtime) -> Account | None:
    if len(runtime.accounts) == 1:
        return next(iter(runtime.accounts.values()))
    name = runtime.store.account_of(payout_id)
    return None if name is None else runtime.accounts.get(name)


def _postpone(payout_id: int, wait_s: float, runtime: Runtime) -> None:
    runtime.due.postpone(payout_id, runtime.clock.now() + timedelta(seconds=wait_s))
