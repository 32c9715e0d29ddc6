"""What an answer means for a payout: from where it stands, the call and the reply to its moves.

Pure: no database, no clock, no provider. `store.record` carries a verdict out in one transaction.
The rules are those of the design, "States"; a provider's abilities come in as a `Policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from workers.record.model import Payout, Reply
from workers.record.status import Outcome, State, Step
from workers.settings import AccountSettings

# "Not found" proves absence only after so many look-ups, whatever the time that has passed.
LOOKUPS_MIN = 3
# A paid payout is read again once a day while it is watched.
WATCH_EVERY_S = 86_400
# Creates that the account's faults or a rate limit turned away do not count against
# `attempts_max`; but every loop ends somewhere.
EXCUSED_MAX = 100

RESHAPED = "it may have been sent before, and the account's settings have changed since"
_TOO_LONG = "still open after its limit of time"
_Moves = tuple[tuple[State, str], ...]
_FOUND = {
    Outcome.CREATED,
    Outcome.PROCESSING,
    Outcome.PAID,
    Outcome.PARTLY_PAID,
    Outcome.REFUSED,
    Outcome.RETURNED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an account allows and its provider can do."""

    settings: AccountSettings
    two_step: bool
    refuses_duplicates: bool
    look_up: bool
    balances: bool
    watch_paid_days: int
    # See `Capabilities`: how long a create may be sent again under its key; whom we pay through and
    # in what shape; and whether one look-up makes an unlisted refusal final.
    repeatable_for_s: float | None = None
    shape: str = ""
    refused_when_absent: bool = False
    # The provider was asked to tell us of changes.
    webhooks: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether a create may be sent a second time without paying a second time."""
        return self.refuses_duplicates or self.repeatable_for_s is not None

    @property
    def first_poll_s(self) -> float:
        """How soon an open payout is first read."""
        first_s, told_s = self.settings.poll_first_s, self.settings.webhook_wait_s
        return max(first_s, told_s) if self.webhooks else first_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be stored, in one transaction, and what comes next."""

    # Moves in order, each with its cause: most often one, at most two.
    moves: _Moves = ()
    # Columns that change with them.
    changes: Mapping[str, Any] = field(default_factory=dict)
    # The call to make next in the same claim; None: the payout is given back.
    next_step: Step | None = None
    # When the payout is due again after it is given back; None: never by itself.
    wait_s: float | None = None


def backoff_s(count: int, *, first_s: float, max_s: float) -> float:
    """The delay before try number `count` (from 0): doubled each time, up to `max_s`."""
    doubled: float = first_s * 2 ** min(count, 40)
    return min(max_s, doubled)


def _waits_s(reply: Reply, backoff: float) -> float:
    """The delay after an answer. What the provider itself turned away goes behind all that only
    waited out its `Retry-After`, or one payout that is always turned away would starve the others.
    """
    wait_s = reply.retry_after_s
    if wait_s is None:
        return backoff
    return wait_s + backoff if reply.code == "429" else wait_s


def tries_used_up(payout: Payout, settings: AccountSettings) -> str | None:
    """Why the payout may not be created once more; None: it may."""
    counted = payout.attempts - payout.attempts_base - payout.attempts_excused
    if counted >= settings.attempts_max:
        return f"{counted} creates led to nothing"
    if payout.attempts_excused >= EXCUSED_MAX:
        return f"{payout.attempts_excused} tries were turned away or could not be made"
    return None


def not_again(payout: Payout, policy: Policy, now: datetime) -> str | None:
    """Why a queued payout must not be created now, after what was sent before; None: it may."""
    if payout.confirmed_id is not None:
        return f"the provider was told to pay this as {payout.confirmed_id}"
    if payout.doubted_at is not None and _is_reshaped(payout, policy):
        return RESHAPED
    if payout.repeat_until is not None and now >= payout.repeat_until:
        return "not found, and too late to be sent again under its key"
    return tries_used_up(payout, policy.settings)


def _is_reshaped(payout: Payout, policy: Policy) -> bool:
    """Whether another provider, merchant or request would be used than when it was sent."""
    return payout.shape is not None and payout.shape != policy.shape


def judge(payout: Payout, step: Step, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    """The verdict on one reply.

    Args:
        payout: as it was claimed, or as the last verdict in the same claim left it.
        step: the call that was answered.
        now: aware UTC.
    """
    after = {
        Step.CREATE: _after_create,
        Step.LOOK_UP: _after_look_up,
        Step.PROCESS: _after_process,
        Step.POLL: _after_poll,
    }[step]
    verdict = after(payout, reply, policy, now)
    if verdict.next_step is Step.LOOK_UP and not policy.look_up:
        held = (State.HELD, "the provider offers no look-up")
        verdict = Verdict(moves=(*verdict.moves, held), changes=verdict.changes)
    # What differs may be another payout's, and what comes after PAID is late: it is shown, but does
    # not overwrite what is known.
    trusted = payout.state is not State.PAID and differences(payout, reply) is None
    kept = _facts(reply) if trusted else _said(reply)
    return Verdict(
        moves=verdict.moves,
        changes={**kept, **verdict.changes},
        next_step=verdict.next_step,
        wait_s=verdict.wait_s,
    )


def differences(payout: Payout, reply: Reply) -> str | None:
    """What the answer says otherwise than the payout does, in words; None: all matches."""
    found = list(reply.differs)
    if reply.reference_id is not None and reply.reference_id != payout.reference_id:
        found.append(f"reference id: {reply.reference_id[:80]!a}")
    if reply.amount is not None and reply.amount != payout.amount:
        found.append(f"amount: {reply.amount.named()}, sent: {payout.amount.named()}")
    known = payout.provider_payout_id or payout.confirmed_id
    if reply.provider_payout_id and known and reply.provider_payout_id != known:
        found.append(f"provider payout id: {reply.provider_payout_id}, known: {known}")
    return "; ".join(found) or None


def may_release(payout: Payout, settings: AccountSettings, now: datetime) -> bool:
    """Whether a payout that reads "created" may be released now."""
    if payout.releases == 0 or payout.released_at is None:
        return True
    rested = now - payout.released_at >= timedelta(seconds=settings.process_repeat_s)
    return rested and payout.releases < settings.process_tries_max


def _after_create(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    settings = policy.settings
    excused = {"attempts_excused": payout.attempts_excused + 1}
    if reply.needs_person is not None:
        return Verdict(moves=((State.HELD, reply.needs_person),))
    if payout.doubted_at is not None and _may_be_a_repeats(reply, policy):
        # What is said to a repeat may be said of the first: look, and never conclude from it.
        words = _words("turned away, after a create that was never answered", reply)
        doubt = {"doubt": words} if reply.outcome is Outcome.REFUSED else {}
        moves = ((State.UNKNOWN, words),)
        return Verdict(moves=moves, changes=doubt, wait_s=settings.lookup_first_s)
    if reply.outcome in _FOUND:
        differs = differences(payout, reply)
        if differs is None:
            return _found(payout, reply, policy, now)
        # Read once more before a person is asked: the answer may be another payout's.
        moves = ((State.UNKNOWN, f"accepted, but {differs}"),)
        return Verdict(moves=moves, changes={"doubt": differs}, next_step=Step.LOOK_UP, wait_s=0)
    if reply.outcome is Outcome.NOT_SENT:
        backoff = backoff_s(
            payout.attempts - 1, first_s=settings.poll_first_s, max_s=settings.poll_max_s
        )
        return Verdict(
            moves=((State.QUEUED, _words("not sent", reply)),),
            changes={} if reply.retry_after_s is None else excused,
            wait_s=_waits_s(reply, backoff),
        )
    if reply.outcome is Outcome.ACCOUNT_FAULT:
        moves = ((State.QUEUED, _words("the account is at fault", reply)),)
        if reply.low_balance and payout.doubted_at is None:
            # The provider judged it and made nothing, and may say so to this key again even when
            # the money is there: the next create has the next key. No other answer is so sure.
            excused["key_no"] = payout.key_no + 1
        return Verdict(moves=moves, changes=excused, wait_s=settings.poll_first_s)
    doubted: dict[str, Any] = {"doubted_at": payout.doubted_at or now}
    if reply.outcome is Outcome.EXISTS:
        moves = ((State.UNKNOWN, _words("the reference id is taken", reply)),)
        return Verdict(moves=moves, changes=doubted, next_step=Step.LOOK_UP, wait_s=0)
    moves = ((State.UNKNOWN, _words("may have been sent", reply)),)
    if not policy.look_up:
        return Verdict(moves=(*moves, (State.HELD, "the provider offers no look-up")))
    differs = differences(payout, reply)
    if differs is not None:
        # It accepted something, but not this: not found is then no proof that nothing was sent.
        doubted["doubt"] = differs
        return Verdict(moves=moves, changes=doubted, next_step=Step.LOOK_UP, wait_s=0)
    if reply.refusal is None:
        return Verdict(moves=moves, changes=doubted, wait_s=settings.lookup_first_s)
    kept = {"refusal_last" if payout.refusal_first else "refusal_first": reply.refusal}
    return Verdict(moves=moves, changes=kept, wait_s=settings.lookup_first_s)


def _may_be_a_repeats(reply: Reply, policy: Policy) -> bool:
    """A refusal that names no payout, or a key whose first create is still running."""
    if reply.outcome is Outcome.REFUSED:
        return reply.provider_payout_id is None
    keyed = policy.repeatable_for_s is not None
    return keyed and reply.outcome is Outcome.NOT_SENT and reply.code == "429"


def _after_look_up(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    if reply.outcome in _FOUND or reply.outcome is Outcome.EXISTS:
        differs = differences(payout, reply)
        if reply.outcome is Outcome.EXISTS:
            differs = differs or "several payouts carry the reference id"
        if differs is not None:
            return Verdict(moves=((State.HELD, f"looked up, but {differs}"),))
        return _found(payout, reply, policy, now)
    if payout.state is State.CREATING:
        if reply.outcome is Outcome.NOT_FOUND:
            unsent = payout.doubted_at is None and not payout.looks_first
            if unsent or reply.proves_absence:
                # What was sent before is known not to be there: this is to be sure of it.
                return Verdict(next_step=Step.CREATE, wait_s=0)
            if policy.refuses_duplicates or payout.repeat_until is not None:
                # Not sure, but a second create would be no second payout.
                doubted = {"doubted_at": payout.doubted_at or now}
                return Verdict(next_step=Step.CREATE, changes=doubted, wait_s=0)
            why = "it may have been sent before, and its look-up proves nothing"
            return Verdict(moves=((State.HELD, why),))
        # Nothing was sent in this attempt, so it does not count.
        first_s, max_s = policy.settings.lookup_first_s, policy.settings.poll_max_s
        backoff = backoff_s(payout.attempts_excused, first_s=first_s, max_s=max_s)
        wait_s = max(reply.retry_after_s or 0, backoff)
        return Verdict(
            moves=((State.QUEUED, _words("not sent: its look-up was not answered", reply)),),
            changes={"attempts_excused": payout.attempts_excused + 1},
            wait_s=wait_s,
        )
    if reply.outcome is Outcome.NOT_FOUND and reply.proves_absence:
        return _absent(payout, policy, now)
    return _still_unknown(payout, payout.lookups, reply, policy, now)


def _absent(payout: Payout, policy: Policy, now: datetime) -> Verdict:
    """A look-up was answered and the provider does not have it: proof, in time."""
    settings = policy.settings
    lookups = payout.lookups + 1
    if payout.doubt is not None:
        return _held(f"not found; when created, {payout.doubt}")
    refusal = payout.refusal_last or payout.refusal_first
    if policy.refused_when_absent and refusal is not None and payout.doubted_at is None:
        refused = {"failure_code": "refused", "failure_reason": refusal, "settled_at": now}
        moves: _Moves = ((State.FAILED, "refused, and not at the provider"),)
        return Verdict(moves=moves, changes={"lookups": lookups, **refused})
    waited = now - (payout.last_sent_at or now)
    left_s = settings.lookup_grace_s - waited.total_seconds()
    if lookups < LOOKUPS_MIN or left_s > 0:
        verdict = _still_unknown(payout, lookups, Reply(outcome=Outcome.NOT_FOUND), policy, now)
        if verdict.wait_s is None or left_s <= 0:
            return verdict
        wait_s = min(verdict.wait_s, max(left_s, settings.lookup_first_s))
        return Verdict(moves=verdict.moves, changes=verdict.changes, wait_s=wait_s)
    proof = f"absence proven by {lookups} look-ups over {waited.total_seconds():.0f} s"
    verdict = _proven_absent(payout, proof, policy, now)
    return replace(verdict, changes={"lookups": lookups, **verdict.changes})


def _proven_absent(payout: Payout, proof: str, policy: Policy, now: datetime) -> Verdict:
    """The provider does not have it: refused, to be sent once more, or a person's."""
    if payout.confirmed_id is not None:
        return _held(f"not found, but it was told to pay this as {payout.confirmed_id}")
    if payout.refusal_first and payout.refusal_last:
        return _refused_twice(payout, now)
    if _is_reshaped(payout, policy):
        return _held(RESHAPED)
    queued: _Moves = ((State.QUEUED, proof),)
    if policy.refuses_duplicates:
        return Verdict(moves=queued, wait_s=0)
    if policy.repeatable_for_s is None:
        return _held("not found, and the provider does not refuse duplicates")
    # The same key and the same bytes are the same create, for as long as the provider knows the
    # key: the claim looks at that once more.
    until = (payout.sent_at or now) + timedelta(seconds=policy.repeatable_for_s)
    changes = {"repeat_until": until}
    late = not_again(replace(payout, repeat_until=until), policy, now)
    moves = queued if late is None else ((State.HELD, late),)
    return Verdict(moves=moves, changes=changes, wait_s=0 if late is None else None)


def _refused_twice(payout: Payout, now: datetime) -> Verdict:
    if payout.doubted_at is not None:
        return _held("refused after a create that was never answered: it may be that one's repeat")
    if payout.refusal_first != payout.refusal_last:
        return _held("refused twice, each time otherwise")
    refused = {"failure_code": "refused", "failure_reason": payout.refusal_last, "settled_at": now}
    moves = ((State.FAILED, "refused twice in the same words, and not at the provider"),)
    return Verdict(moves=moves, changes=refused)


def _held(why: str) -> Verdict:
    return Verdict(moves=((State.HELD, why),))


def _still_unknown(
    payout: Payout, lookups: int, reply: Reply, policy: Policy, now: datetime
) -> Verdict:
    settings = policy.settings
    changes = {"lookups": lookups, "polls": payout.polls + 1}
    since = payout.last_sent_at or now
    if now - since >= timedelta(seconds=settings.lookup_max_s):
        moves = ((State.HELD, "still unknown after its limit of time"),)
        return Verdict(moves=moves, changes=changes)
    wait_s = backoff_s(payout.polls, first_s=settings.lookup_first_s, max_s=settings.poll_max_s)
    return Verdict(changes=changes, wait_s=max(reply.retry_after_s or 0, wait_s))


def _after_process(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    settings = policy.settings
    if reply.outcome in _FOUND - {Outcome.CREATED}:
        differs = differences(payout, reply)
        if differs is not None:
            return Verdict(moves=((State.HELD, f"when released, {differs}"),))
        return _found(payout, reply, policy, now)
    if reply.outcome in (Outcome.NOT_SENT, Outcome.ACCOUNT_FAULT):
        # The provider did not take this release, so it does not count.
        releases = payout.releases - 1
        changes = {
            "releases": releases,
            "released_at": payout.released_at if releases else None,
            "polls": payout.polls + 1,
        }
        backoff = backoff_s(payout.polls, first_s=settings.poll_first_s, max_s=settings.poll_max_s)
        return Verdict(changes=changes, wait_s=_waits_s(reply, backoff))
    # It may have been taken: read, and release again only if the read says that it still waits.
    return Verdict(wait_s=settings.poll_first_s)


def _after_poll(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    if payout.state is State.PAID:
        return _watched(payout, reply, policy, now)
    if reply.outcome in _FOUND:
        differs = differences(payout, reply)
        if differs is not None:
            return Verdict(moves=((State.HELD, f"when read, {differs}"),))
        if reply.outcome is Outcome.PROCESSING and payout.state is State.PROCESSING:
            return _still_open(payout, reply, policy, now)
        return _found(payout, reply, policy, now)
    return _still_open(payout, reply, policy, now)


def _found(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    """The provider has the payout and all matches: go where its status says."""
    says = reply.status or reply.outcome
    clean = {"doubt": None, "polls": 0}
    if reply.outcome is Outcome.CREATED:
        return _waits_for_release(payout, says, policy, now)
    if reply.outcome is Outcome.PROCESSING:
        under_way = payout.state is State.PROCESSING
        moves: _Moves = () if under_way else ((State.PROCESSING, f"says {says}"),)
        return Verdict(moves=moves, changes=clean, wait_s=policy.first_poll_s)
    if reply.outcome is Outcome.PARTLY_PAID:
        partly: _Moves = ((State.HELD, "partly paid"),)
        if payout.state not in (State.CREATED, State.PROCESSING):
            partly = ((State.PROCESSING, f"says {says}"), *partly)
        return Verdict(moves=partly, changes=clean)
    settled = {**clean, "settled_at": now}
    if reply.outcome is Outcome.REFUSED:
        why = {"failure_code": reply.code, "failure_reason": reply.reason}
        moves = ((State.FAILED, _words(f"says {says}", reply)),)
        return Verdict(moves=moves, changes={**settled, **why})
    paid = (State.PAID, f"says {says}")
    if reply.outcome is Outcome.RETURNED:
        why = {"failure_code": reply.code, "failure_reason": reply.reason}
        return Verdict(moves=(paid, (State.RETURNED, "came back")), changes={**settled, **why})
    return Verdict(moves=(paid,), changes=settled, wait_s=_watch_s(now, now, policy))


def _waits_for_release(payout: Payout, says: str, policy: Policy, now: datetime) -> Verdict:
    settings = policy.settings
    here = payout.state in (State.CREATED, State.PROCESSING)
    moves: _Moves = () if here else ((State.CREATED, f"says {says}"),)
    changes: dict[str, Any] = {"doubt": None} if here else {"doubt": None, "polls": 0}
    if not policy.two_step:
        verdict = _still_open(payout, Reply(outcome=Outcome.CREATED), policy, now)
        changes |= dict(verdict.changes) if here else {}
        return Verdict(moves=moves or verdict.moves, changes=changes, wait_s=verdict.wait_s)
    if _open_too_long(payout, settings, now):
        return Verdict(moves=(*moves, (State.HELD, _TOO_LONG)))
    if may_release(payout, settings, now):
        return Verdict(moves=moves, changes=changes, next_step=Step.PROCESS, wait_s=0)
    released_at = payout.released_at or now
    rested_at = released_at + timedelta(seconds=settings.process_repeat_s)
    if now >= rested_at:
        return Verdict(moves=(*moves, (State.HELD, f"released {payout.releases} times in vain")))
    # "Still created" right after a release is normal: read on, but not beyond the next release.
    wait_s = backoff_s(payout.polls, first_s=settings.poll_first_s, max_s=settings.poll_max_s)
    changes["polls"] = payout.polls + 1
    left_s = (rested_at - now).total_seconds()
    return Verdict(moves=moves, changes=changes, wait_s=min(wait_s, left_s))


def _still_open(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    settings = policy.settings
    if _open_too_long(payout, settings, now):
        return Verdict(moves=((State.HELD, _TOO_LONG),))
    wait_s = backoff_s(payout.polls, first_s=settings.poll_first_s, max_s=settings.poll_max_s)
    return Verdict(changes={"polls": payout.polls + 1}, wait_s=_waits_s(reply, wait_s))


def _open_too_long(payout: Payout, settings: AccountSettings, now: datetime) -> bool:
    return now - (payout.last_sent_at or now) >= timedelta(seconds=settings.open_max_s)


def _watched(payout: Payout, reply: Reply, policy: Policy, now: datetime) -> Verdict:
    """News of a payout that was paid: only money that came back changes its state."""
    wait_s = _watch_s(payout.settled_at or now, now, policy)
    differs = differences(payout, reply) if reply.outcome in _FOUND else None
    if differs is not None:
        return Verdict(changes={"warning": f"after it was paid: {differs}"}, wait_s=wait_s)
    if reply.outcome in (Outcome.RETURNED, Outcome.REFUSED):
        why = {"failure_code": reply.code, "failure_reason": reply.reason}
        moves = ((State.RETURNED, f"says {reply.status or reply.outcome} after it was paid"),)
        return Verdict(moves=moves, changes=why)
    if reply.outcome is Outcome.PARTLY_PAID:
        return Verdict(changes={"warning": "partly paid, after it was paid"}, wait_s=wait_s)
    return Verdict(wait_s=wait_s)


def _watch_s(paid_at: datetime, now: datetime, policy: Policy) -> float | None:
    until = paid_at + timedelta(days=policy.watch_paid_days)
    return WATCH_EVERY_S if now + timedelta(seconds=WATCH_EVERY_S) <= until else None


def _words(what: str, reply: Reply) -> str:
    why = reply.reason or reply.code
    return f"{what}: {why}" if why else what


def _said(reply: Reply) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if reply.status is not None:
        kept["provider_status"] = reply.status
    if reply.warning is not None:
        kept["warning"] = reply.warning
    return kept


def _facts(reply: Reply) -> dict[str, Any]:
    """What the answer tells of the payout, beside its outcome."""
    kept = _said(reply)
    if reply.outcome not in _FOUND:
        return kept
    if reply.provider_payout_id is not None:
        kept["provider_payout_id"] = reply.provider_payout_id
    if reply.fee is not None:
        kept |= {"fee_minor": reply.fee.minor, "fee_currency": reply.fee.currency.code}
    if reply.processed is not None:
        kept["processed_minor"] = reply.processed.minor
        kept["processed_currency"] = reply.processed.currency.code
    if reply.exchange_rate is not None:
        kept["exchange_rate"] = reply.exchange_rate
    return kept


def polls_on(payout: Payout, reply: Reply, verdict: Verdict, keep_s: float) -> bool:
    """Whether the payout is open at the provider and its next poll is near enough to wait for."""
    if reply.account_fault is not None or reply.retry_after_s is not None:
        return False
    state = verdict.moves[-1][0] if verdict.moves else payout.state
    is_open = state in (State.CREATED, State.PROCESSING) and verdict.next_step is None
    return is_open and verdict.wait_s is not None and verdict.wait_s <= keep_s
