"""From a checked file to an approved batch: stored as drafts, decided by a person, sealed.

The approval is bound to the content that was checked, and the money it needs is promised in the
same transaction; so two batches cannot both spend the last coin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy.exc import IntegrityError

from batches.people import Duty, permit
from batches.preflight import Plan, Preflight, balances_of
from workers.errors import (
    ApprovalRefused,
    BatchExists,
    FileRefused,
    UsageError,
)
from workers.record.batches import Batch, BatchBook
from workers.record.drafts import Drafts
from workers.record.model import Actor
from workers.record.money import Currency, Money
from workers.runtime import Runtime
from workers.settings import Settings
from workers.words import number_of

# Other approvals may come between reading a balance and promising it: so often, then give up.
APPROVE_TRIES = 10
# After so many of them it lets none come between any more: where small batches are approved all the
# time, a large one, whose rows take minutes to seal, would never be.
PATIENT_TRIES = 2


def store(
    plan: Plan,
    preflight: Preflight,
    actor: Actor,
    progress: Callable[[int], None] = lambda _: None,
) -> str:
    """Store a payable plan as a batch of drafts, all of it or nothing.

    Args:
        progress: told the number of rows stored so far.

    Returns:
        The batch's id.

    Raises:
        BatchExists: the same content is stored already, or was a moment ago by someone else.
        FileRefused: one of its reference ids was used meanwhile, or one of its rows is paid by
            another batch.
    """
    if plan.known_as is not None:
        raise _stored_already(plan, plan.known_as)
    drafts = _drafts_of(plan)
    drafts.progress = progress
    book = preflight.book
    try:
        return book.save(
            drafts,
            file_name=plan.path.name,
            content_hash=plan.content_hash,
            file_hash=plan.file_hash,
            columns=plan.columns,
            count=plan.valid,
            actor=actor,
            note=_note(plan, actor),
            now=preflight.now,
            # Lines of several batches have no one parent: the note names them all.
            child_of=plan.parents[0] if len(plan.parents) == 1 else None,
            mapping=plan.options.mapping,
            looked=plan.looked,
        )
    except IntegrityError:
        known = book.by_content(plan.content_hash)
        if known is not None:
            raise _stored_already(plan, known) from None
        raise FileRefused(
            f"{plan.path.name}: one of its reference ids, or a payout it replaces, was used by"
            " another batch a moment ago; check the file again"
        ) from None
    finally:
        drafts.close()


def _drafts_of(plan: Plan) -> Drafts:
    """The plan's rows, closed and ready to be stored."""
    if plan.drafts is None or plan.drafts.count != plan.valid:
        raise FileRefused(f"{plan.path.name}: it has faults, or its rows were only checked")
    return plan.drafts


def _note(plan: Plan, actor: Actor) -> str | None:
    """What somebody should know of the batch: what was allowed and by whom, what it corrects."""
    told = []
    if plan.rows > plan.valid:
        rows = number_of(plan.rows - plan.valid, "row")
        told.append(f"{rows} of the file left out for their faults by {actor}")
    if plan.repeats and plan.options.allow_repeats:
        told.append(f"{number_of(plan.repeats, 'repeated payment')} allowed by {actor}")
    if len(plan.parents) > 1:
        told.append(f"corrects lines of batches {', '.join(plan.parents)}")
    return "; ".join(told) or None


def _stored_already(plan: Plan, batch: Batch) -> BatchExists:
    """The same rows again. There is no override: their reference ids are used for ever."""
    way = "to pay the same people once more, give each row a new reference id"
    if batch.decision == "draft":
        way = f"approve that batch, or reject it first: paybatch reject {batch.id}"
    return BatchExists(
        f"{plan.path.name}: the same rows are stored already as batch {batch.id}"
        f" ({batch.file_name}, {batch.made_at:%Y-%m-%d}, by {batch.made_by}); nothing was stored"
        f" again, for a reference id is paid once: {way}",
        batch_id=batch.id,
    )


def approve(
    batch_id: str,
    runtime: Runtime,
    actor: Actor,
    progress: Callable[[int], None] = lambda _: None,
) -> Batch:
    """Approve a batch: promise its money, seal and queue its rows.

    Args:
        progress: told the number of rows sealed so far.

    Raises:
        UsageError: no such batch.
        ApprovalRefused: decided already, changed since it was checked, or the checker is the maker
            where two people are needed.
        AccountFault: an account is not usable, or its balance does not cover the batch.
        ProviderUnreachable: the balance could not be read.
        BatchBusy: somebody else is deciding about it, or approves another one.
    """
    book = BatchBook(runtime.store)
    batch = find(batch_id, book)
    names = accounts_of(batch, book, runtime)
    for tried in range(APPROVE_TRIES):
        seen = {name: runtime.book.approvals(name) for name in names}
        approved = book.approve(
            batch,
            actor=actor,
            now=runtime.clock.now(),
            spendable=_spendable(names, runtime),
            approvals_seen=seen,
            progress=progress,
            two_people=runtime.settings.approvals == 2,
            patient=tried < PATIENT_TRIES,
        )
        if approved:
            return find(batch.id, book)
    raise ApprovalRefused(f"batch {batch.id}: other batches are being approved; try again")


def check_alone(settings: Settings, actor: Actor) -> None:
    """Whether somebody may approve what the same person has just made.

    Raises:
        ApprovalRefused: two people are needed.
        NotAllowed: the settings do not make that person a checker.
    """
    if settings.approvals == 2:
        raise ApprovalRefused(
            "with approvals = 2 somebody else has to approve: submit the file without --approve"
        )
    permit(settings, actor, Duty.DECIDE)


def accounts_of(batch: Batch, book: BatchBook, runtime: Runtime) -> list[str]:
    """The accounts that a batch pays from.

    Raises:
        UsageError: one of them is not in the settings, so nobody here can pay from it.
    """
    names = sorted({tally.account for tally in book.tallies(batch.id)})
    missing = [name for name in names if name not in runtime.accounts]
    if missing:
        raise UsageError(
            f"batch {batch.id} pays from account {missing[0]!r}, which the settings do not have"
        )
    return names


def approve_or_join(
    batch_id: str,
    runtime: Runtime,
    actor: Actor,
    progress: Callable[[int], None] = lambda _: None,
) -> Batch:
    """Approve a batch, or find that another run of the same file has just done so.

    Raises:
        As `approve`, but for a batch that is approved already.
    """
    try:
        return approve(batch_id, runtime, actor, progress)
    except ApprovalRefused:
        batch = find(batch_id, BatchBook(runtime.store))
        if batch.decision != "approved":
            raise
        return batch


def _spendable(names: list[str], runtime: Runtime) -> Mapping[str, Mapping[Currency, Money]]:
    """Each account's balances less what is promised; accounts without a balance are left out."""
    spendable = {}
    for name in names:
        # In this order: see Preflight, which reads them the same way.
        promised = runtime.book.promised(name)
        balances = balances_of(runtime.accounts[name])
        if balances is not None:
            spendable[name] = {
                currency: balance - promised.get(currency, Money(0, currency))
                for currency, balance in balances.items()
            }
    return spendable


def find(batch_id: str, book: BatchBook) -> Batch:
    """The batch of that id.

    Raises:
        UsageError: there is none; the latest are named.
    """
    batch = book.get(batch_id)
    if batch is None:
        latest = ", ".join(one.id for one in book.latest(3)) or "none yet"
        raise UsageError(f"no batch {batch_id!r}; the latest are: {latest}")
    return batch
