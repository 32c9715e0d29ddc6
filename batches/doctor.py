"""What is wrong with an installation, and how to mend it; and what an account offers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from batches import declarations, local
from batches.key_change import KeyChange
from batches.preflight import ask, balances_of
from workers.clock import SKEW_S_MAX, SystemClock
from workers.errors import OperatorError, PaybatchError, SettingsError, UsageError
from workers.providers.port import Service
from workers.record.accounts import PROBED, Pause
from workers.record.money import Currency
from workers.record.restores import RESTORE
from workers.record.runs import RunBook
from workers.runtime import Account, Runtime
from workers.settings import Settings
from workers.standing import standings

BROKER_TIMEOUT_S = 3
# Beat asks for a sweep every 2 s; this long without one is no hiccup.
UNSWEPT_S_MAX = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    # What was found; where it is not ok, how to mend it.
    detail: str
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        return {"check": self.what, "ok": self.ok, "detail": self.detail}


def examine_installation(load: Callable[[], Settings]) -> Sequence[Finding]:
    """Look at everything a payment needs, in order; later parts need the earlier ones."""
    plug_ins = [Finding("provider", False, why, 2) for why in declarations.broken().values()]
    try:
        settings = load()
    except SettingsError as error:
        told = [Finding("settings", False, problem, 2) for problem in error.problems]
        return told + [one for one in plug_ins if one.detail not in str(error)]
    findings = [Finding("settings", True, f"accounts: {', '.join(settings.accounts) or 'none'}")]
    findings += plug_ins
    findings.append(_broker(settings))
    try:
        with local.open_runtime(settings) as opened:
            runtime = opened.runtime
            where = runtime.database.shown
            findings.append(Finding("database", True, f"{where}, schema up to date"))
            findings.append(_key(runtime))
            if not settings.embedded:
                findings += [_clock(runtime), _sweep(runtime), _waiting(runtime)]
            findings += [_account(account, runtime) for account in runtime.accounts.values()]
            findings += _schedules(runtime)
    except OperatorError as error:
        findings.append(Finding("database and key", False, str(error), error.exit_code))
    return findings


def _broker(settings: Settings) -> Finding:
    if settings.embedded:
        return Finding("broker", True, "in this process (memory://)")
    # Other commands start faster without it.
    from kombu.exceptions import OperationalError  # noqa: PLC0415

    from workers.app import app  # noqa: PLC0415

    host = urlsplit(settings.broker_url).hostname or "?"
    try:
        with app.connection_for_write(connect_timeout=BROKER_TIMEOUT_S) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_TIMEOUT_S)
    except (OperationalError, OSError, socket.gaierror) as error:
        detail = f"{host} does not answer ({error}); start it, or correct broker_url"
        return Finding("broker", False, detail, 1)
    return Finding("broker", True, f"{host} answers")


def _key(runtime: Runtime) -> Finding:
    known = KeyChange(runtime).keys
    if known.next is None:
        return Finding("key", True, "opens this database")
    detail = (
        f"opens this database; a change to key {known.next.hex()} is under way: where nobody is at"
        " it, end it with paybatch keys rotate"
    )
    return Finding("key", True, detail)


def _clock(runtime: Runtime) -> Finding:
    """Payouts go by the database's clock; signatures and certificates go by this machine's."""
    off_s = runtime.clock.now() - SystemClock().now()
    if abs(off_s.total_seconds()) <= SKEW_S_MAX:
        return Finding("clock", True, "agrees with the database's")
    detail = (
        f"this machine's clock is {abs(off_s.total_seconds()):.0f} s off the database's: payouts go"
        " by the database's, but signatures, tokens and certificates do not; set it right"
    )
    return Finding("clock", False, detail, 1)


def _sweep(runtime: Runtime) -> Finding:
    """Without sweeps nothing is announced, nothing lost is found, and no pause ends."""
    swept_at = runtime.book.swept_at()
    mend = (
        "start `celery -A workers.app beat -S celery.beat:Scheduler` and a"
        " `celery -A workers.app worker -P threads` that takes the queue `sweep`"
    )
    if swept_at is None:
        return Finding("sweep", False, f"none was ever made: {mend}", 1)
    age_s = (runtime.clock.now() - swept_at).total_seconds()
    if age_s > UNSWEPT_S_MAX:
        return Finding("sweep", False, f"the last was {age_s:.0f} s ago: {mend}", 1)
    return Finding("sweep", True, f"the last was {age_s:.0f} s ago")


def _waiting(runtime: Runtime) -> Finding:
    now = runtime.clock.now()
    since = runtime.due.longest_due(runtime.accounts, now)
    if since is None:
        return Finding("work", True, "nothing waits for a worker")
    # A long batch waits as a whole for its turn: that alone is no fault.
    detail = f"a payout has been due for {(now - since).total_seconds():.0f} s"
    return Finding("work", True, detail)


def _account(account: Account, runtime: Runtime) -> Finding:
    what = f"account {account.name}"
    for pause in runtime.book.pauses():
        if pause.account == account.name:
            detail = f"paused ({pause.kind}): {pause.reason}; {mending(pause)}"
            return Finding(what, False, detail, 6)
    try:
        balances = balances_of(account)
    except PaybatchError as error:
        return Finding(what, False, str(error).removeprefix(f"{what}: "), error.exit_code)
    provider = account.settings.provider
    held = ", ".join(money.named() for _, money in sorted((balances or {}).items()))
    detail = f"{provider} answers; balance {held or 'of no currency'}"
    if not account.policy.balances:
        detail = f"nothing was asked: {provider} has no call for its balance"
        if declarations.balance_by_settings(type(account.provider)):
            detail += " with these settings"
    put_back = runtime.restores.standing(account.name).restored_at
    if put_back is not None:
        detail += f"; creates are looked up first, since a restore at {put_back:%Y-%m-%d %H:%M} UTC"
    return Finding(what, True, detail)


def _schedules(runtime: Runtime) -> Sequence[Finding]:
    """Whether each schedule's runs are made."""
    now, book = runtime.clock.now(), RunBook(runtime.database)
    findings = []
    settings = runtime.settings
    for one in standings(settings.schedules, book, now, embedded=settings.embedded):
        what = f"schedule {one.schedule.name}"
        if one.trouble is not None:
            findings.append(Finding(what, False, one.trouble, 1))
            continue
        due = f"{one.following.due_at:%Y-%m-%d %H:%M} UTC" if one.following else "never"
        last = f"the last was of {one.last.business_date}" if one.last else "none was made yet"
        findings.append(Finding(what, True, f"the next run is due {due}; {last}"))
    return findings


def mending(pause: Pause) -> str:
    """What a person does about a paused account."""
    resume = f"paybatch resume --account {pause.account}"
    if pause.kind == RESTORE:
        return (
            f"compare it with its provider: paybatch reconcile --account {pause.account} --from D"
            f" --to D, with times before the backup and after the restore; then: {resume}"
        )
    if pause.kind in PROBED:
        return f"when that is mended: {resume}"
    return f"open it with: {resume}"


def services_of(account: Account, currencies: Sequence[Currency] | None) -> Sequence[Service]:
    """What an account can pay, from the given currencies or all that it has.

    Raises:
        UsageError: the account does not pay from one of them, or neither the provider nor the
            settings tell any service.
        AccountFault, ProviderUnreachable: the question was not answered.
    """
    can = account.provider.capabilities
    for currency in currencies or ():
        if can.currencies and currency.code not in can.currencies:
            raise UsageError(
                f"account {account.name} does not pay from {currency.code};"
                f" it pays from: {', '.join(can.currencies)}"
            )
    if currencies is None:
        codes = can.currencies or [money.code for money in balances_of(account) or {}]
        currencies = [Currency.of(code) for code in codes]
    found: list[Service] = []
    for currency in sorted(currencies):
        found += ask(account, partial(account.provider.services, currency))
    if not found and not can.services:
        raise UsageError(
            f"account {account.name}: {account.settings.provider} lists no services, and the"
            " settings name none"
        )
    return found


def service_named(code: str | None, account: Account) -> Service:
    """The service of that code.

    Raises:
        UsageError: none is named, or the account has none; the message lists what it has.
    """
    found = services_of(account, None)
    for service in found:
        if service.code == code:
            return service
    known = ", ".join(sorted({service.code for service in found}))
    if code is None:
        raise UsageError(f"name one of the services of account {account.name}: {known}")
    raise UsageError(f"account {account.name} has no service {code!r}; it has: {known}")


def service_json(service: Service) -> dict[str, Any]:
    """The facts of `services --json`."""
    return {
        "service": service.code,
        "currency": service.currency.code,
        "beneficiary_currency": service.beneficiary_currency.code,
        "usable": service.usable,
        "amount_min": str(service.amount_min) if service.amount_min else None,
        "amount_max": str(service.amount_max) if service.amount_max else None,
        "fee_rate": str(service.fee_rate),
        "fee_fix": str(service.fee_fix) if service.fee_fix else None,
        "fields": None
        if service.fields is None
        else [
            {"name": rule.name, "required": rule.required, "pattern": rule.pattern}
            for rule in service.fields
        ],
    }
