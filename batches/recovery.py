"""An account that stands still is opened by a person, when what stopped it is known to be over."""

from __future__ import annotations

import logging
from datetime import timedelta

from workers import sweep
from workers.errors import AccountFault, UsageError
from workers.record.accounts import PROBED
from workers.record.model import Actor
from workers.record.restores import RESTORE, Standing
from workers.runtime import Account, Runtime

log = logging.getLogger(__name__)


def open_account(
    account: Account, runtime: Runtime, *, actor: Actor, reason: str | None, unreconciled: bool
) -> str | None:
    """Open a paused account; what it was paused for, None: it was open.

    Who opened it, and why, is kept with the account until it is paused again, and logged.

    Args:
        unreconciled: it need not have been compared, where its provider lists nothing to compare
            with.

    Raises:
        UsageError: `unreconciled` where there is a list, or without a reason.
        AccountFault: it cannot be opened yet; the message says why.
    """
    standing = runtime.restores.standing(account.name)
    if standing.paused_kind is None:
        return None
    if standing.paused_kind == RESTORE:
        _check_restored(account, standing, runtime, reason=reason, unreconciled=unreconciled)
    elif unreconciled:
        raise UsageError(
            f"account {account.name} is paused ({standing.paused_kind}): --unreconciled is for one"
            " that was frozen after a restore"
        )
    elif standing.paused_kind in PROBED:
        wrong = sweep.still_wrong(account, runtime)
        if wrong is not None:
            raise AccountFault(f"account {account.name} stays paused: {wrong}")
    why = f": {reason}" if reason else ""
    opened = "opened unreconciled" if unreconciled else "opened"
    note = f"{opened} at {runtime.clock.now().isoformat(timespec='seconds')} by {actor}{why}"
    # Not what somebody paused or froze meanwhile, for another reason.
    runtime.restores.open(standing, note)
    log.info(
        "account opened",
        extra={"account": account.name, "kind": standing.paused_kind, "actor": actor.name},
    )
    return standing.paused_kind


def _check_restored(
    account: Account,
    standing: Standing,
    runtime: Runtime,
    *,
    reason: str | None,
    unreconciled: bool,
) -> None:
    """Whether a frozen account may be opened.

    Raises:
        UsageError, AccountFault: as `open_account`.
    """
    lists = account.provider.capabilities.list_payouts
    if unreconciled and lists:
        raise UsageError(
            f"account {account.name}: {account.settings.provider} lists its payouts; compare them"
            f" with: paybatch reconcile --account {account.name} --from D --to D"
        )
    if unreconciled and not reason:
        raise UsageError(
            "--unreconciled needs --reason: how it was made sure that it may be opened"
        )
    if not standing.is_compared and not unreconciled:
        how = (
            f"paybatch reconcile --account {account.name} --from D --to D"
            if lists
            else f"{account.settings.provider} has no list of payouts; look at its own screens,"
            " and open it with --unreconciled --reason TEXT"
        )
        raise AccountFault(
            f"account {account.name} stays frozen: it has not been compared with its provider since"
            f" the record was put back: {how}"
        )
    if standing.restored_at is not None:
        grace_s = account.settings.lookup_grace_s
        until = standing.restored_at + timedelta(seconds=grace_s)
        if runtime.clock.now() < until:
            raise AccountFault(
                f"account {account.name} stays frozen until {until:%Y-%m-%d %H:%M:%S} UTC: before"
                " that, a look-up may not see what was sent last"
            )
