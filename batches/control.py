"""People's decisions about a stored batch: turn it down, stop it, go on, withdraw it, settle what
is held.

Each counts from the moment it is stored. Its rows follow at once where this command can wait for
them; whatever ends it, any sweep carries on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from batches.approval import find
from batches.people import DECISIONS, Duty, may, permit
from workers.errors import ApprovalRefused, NothingLeft, PaybatchError, StaleState, UsageError
from workers.record.batches import Batch, BatchBook
from workers.record.decisions import CHUNK_ROWS, Resolution
from workers.record.model import Actor
from workers.record.status import State
from workers.runtime import Runtime

# Told how many rows have followed a decision so far.
Progress = Callable[[int], None]


def _silent(_rows: int) -> None:
    """Tell nobody."""


def reject(
    batch_id: str, runtime: Runtime, actor: Actor, reason: str, progress: Progress = _silent
) -> int:
    """Turn a draft batch down; the number of payouts withdrawn.

    Done again, it carries on where it was interrupted, and says that it is decided.

    Raises:
        UsageError: no such batch.
        ApprovalRefused: it is decided already.
    """
    batch = find(batch_id, BatchBook(runtime.store))
    try:
        runtime.decisions.reject(batch.id, actor, runtime.clock.now(), reason or None)
    except ApprovalRefused:
        # Without workers no sweep does it, and its reference ids would stay taken.
        _followed(batch, runtime, progress)
        raise
    return _followed(batch, runtime, progress).get(State.CANCELLED, 0)


def pause(
    batch_id: str, runtime: Runtime, actor: Actor, reason: str, progress: Progress = _silent
) -> bool:
    """Stop sending and releasing a batch; False: it is paused already.

    Raises:
        UsageError: no such batch.
        ApprovalRefused: it is not being paid.
    """
    batch = find(batch_id, BatchBook(runtime.store))
    paused = runtime.decisions.pause(batch.id, actor, runtime.clock.now(), reason or None)
    _followed(batch, runtime, progress)
    return paused


def resume(
    batch_id: str, runtime: Runtime, actor: Actor, reason: str, progress: Progress = _silent
) -> bool:
    """Go on with a paused batch; False: it is not paused.

    Raises:
        UsageError: no such batch.
        ApprovalRefused: it is no batch that is being paid.
    """
    batch = find(batch_id, BatchBook(runtime.store))
    resumed = runtime.decisions.resume(batch.id, actor, runtime.clock.now(), reason or None)
    _followed(batch, runtime, progress)
    return resumed


def cancel(
    batch_id: str, runtime: Runtime, actor: Actor, reason: str, progress: Progress = _silent
) -> Mapping[State, int]:
    """Withdraw for good what is not sent of a batch; the counts of its payouts afterwards.

    Done again, it carries on where it was interrupted.

    Raises:
        UsageError: no such batch.
        NotAllowed: it is approved, and that takes another role.
        ApprovalRefused: it was rejected, or is finished.
    """
    batch = find(batch_id, BatchBook(runtime.store))
    permit(runtime.settings, actor, Duty.WITHDRAW if batch.decision == "draft" else Duty.CANCEL)
    runtime.decisions.cancel(
        batch.id,
        actor,
        runtime.clock.now(),
        reason or None,
        # It may be approved right now.
        drafts_only=not may(runtime.settings, actor, Duty.CANCEL),
    )
    return _followed(batch, runtime, progress)


def _followed(batch: Batch, runtime: Runtime, progress: Progress) -> Mapping[State, int]:
    """Have a batch's rows follow its decision, as far as they can now; how they stand then."""
    rows = 0
    while runtime.decisions.carry(batch.id, runtime.clock.now()):
        rows += CHUNK_ROWS
        progress(min(rows, batch.rows))
    return BatchBook(runtime.store).counts(batch.id)


def resolve(
    reference_id: str,
    decision: str,
    runtime: Runtime,
    *,
    actor: Actor,
    reason: str,
    account: str | None,
) -> Resolution:
    """Settle a held payout by a person's decision, or propose it where two people are needed.

    Raises:
        UsageError: no payout has that reference id, or several accounts have a held one.
        NothingLeft: the payout is not held.
        ApprovalRefused: it would be sent again, and its batch is cancelled.
    """
    book = BatchBook(runtime.store)
    held = book.held_payouts(reference_id)
    names = [account] if account is not None else sorted(held)
    if not names or names[0] not in held:
        raise _not_held(reference_id, names or sorted(runtime.accounts), book)
    if len(names) > 1:
        where = ", ".join(names)
        raise UsageError(f"{reference_id!r} is held in several accounts ({where}); add --account")
    try:
        return runtime.decisions.resolve(
            held[names[0]],
            DECISIONS[decision],
            actor=actor,
            reason=reason,
            now=runtime.clock.now(),
            people=runtime.settings.approvals,
        )
    except StaleState:
        raise UsageError(
            f"{reference_id!r} was decided about a moment ago; look at it before anything else"
        ) from None


def _not_held(reference_id: str, accounts: Sequence[str], book: BatchBook) -> PaybatchError:
    """Why there is nothing to decide about a payout."""
    for account in accounts:
        row = book.known(account, [reference_id]).get(reference_id)
        if row is not None:
            return NothingLeft(
                f"{reference_id} waits for no decision: it is {row.state}, in batch"
                f" {row.batch_id}; nothing was changed"
            )
    return UsageError(
        f"no payout has the reference id {reference_id!r}; the results file of its batch names all"
    )
