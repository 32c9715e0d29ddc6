"""The commands about an account and the installation: what it has, can pay, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from batches import declarations, local, sandbox, screens
from batches.checks import template_columns
from batches.command import account_of, account_option, json_option, load_settings, print_json
from batches.doctor import examine_installation, service_json, service_named, services_of
from batches.preflight import balances_of
from batches.reports import write_table
from workers.errors import SettingsError
from workers.logs import log_to_stderr
from workers.record.money import Currency, Money


@click.command()
@account_option
@json_option
def balance(account: str | None, as_json: bool) -> int:
    """What an account can spend, what is promised already, and what is left."""
    with account_of(account) as (one, runtime):
        promised, spendable = runtime.book.promised(one.name), balances_of(one)
    if spendable is None:
        screens.warn(
            f"Account {one.name}: {one.settings.provider} has no balance that can be asked for."
        )
        if as_json:
            print_json({"account": one.name, "balances": None})
        return 0
    found = [
        (currency, money, promised.get(currency, Money(0, currency)))
        for currency, money in sorted(spendable.items())
    ]
    if as_json:
        facts = [
            {"currency": currency.code, "balance": str(money), "promised": str(taken)}
            for currency, money, taken in found
        ]
        print_json({"account": one.name, "balances": facts})
        return 0
    rows = [(money.named(), taken.named(), (money - taken).named()) for _, money, taken in found]
    screens.table(["balance", "promised", "left"], rows, right="balance promised left")
    return 0


@click.command()
@account_option
@click.option("--currency", help="Only services paid from this currency.")
@json_option
def services(account: str | None, currency: str | None, as_json: bool) -> int:
    """What an account can pay: services with their limits, fees and fields."""
    with account_of(account) as (one, _):
        found = services_of(one, [Currency.of(currency)] if currency else None)
    if as_json:
        print_json({"account": one.name, "services": [service_json(service) for service in found]})
    else:
        listed = one.provider.capabilities.services
        screens.services(found, listed=listed)
        if not listed:
            screens.say(
                f"{one.settings.provider} does not list what it can pay: this is what the settings"
                f" and its documentation say."
            )
    return 0


@click.command()
@click.argument("service", required=False)
@account_option
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A file instead of stdout.")
def template(service: str | None, account: str | None, out: Path | None) -> int:
    """An empty CSV with the columns that SERVICE asks for; without one, says which there are."""
    with account_of(account) as (one, _):
        columns = template_columns(service_named(service, one))
    if out is None:
        click.echo(",".join(columns))
    else:
        write_table(out, columns, [])
        screens.say(f"Fill in {out}; the columns after `description` are what {service} asks for.")
    return 0


@click.command()
@click.option("--markdown", is_flag=True, help="As the tables of docs/providers.md.")
@json_option
def providers(markdown: bool, as_json: bool) -> int:
    """The installed providers: what each can do, and what of it is documented or assumed."""
    broken = declarations.broken()
    if as_json:
        problems = {"error": "; ".join(broken.values())} if broken else {}
        print_json({"providers": declarations.as_json(), **problems})
    elif markdown:
        click.echo(declarations.as_markdown(), nl=False)
    else:
        chosen = declarations.adapters()
        told = [dict(declarations.abilities(one)) for one in chosen]
        rows = [(question, *(each[question] for each in told)) for question in told[0]]
        screens.table(["", *(one.name for one in chosen)], rows, right="")
        screens.say("What of this is documented and what is assumed: docs/providers.md.")
        if others := [one.name for one in chosen if one.name not in sandbox.PROVIDERS]:
            screens.say(
                f"That page covers our own providers; for {', '.join(others)}, which plug-ins add:"
                " paybatch providers --json."
            )
    for problem in broken.values():
        screens.warn(f"PROBLEM  {problem}")
    return SettingsError.exit_code if broken else 0


# What comes after the provider's name is the simulator's own, `--help` too.
@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("provider")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def simulator(provider: str, flags: tuple[str, ...]) -> int:
    """Run the local stand-in of PROVIDER; `paybatch simulator PROVIDER --help` lists its faults.

    PROVIDER is payelata, ecomcharge, echelon, ecart or etpay.
    """
    return sandbox.run_simulator(provider, flags)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535))
def webhooks(host: str, port: int) -> int:
    """Receive the providers' webhooks, at /webhooks/ACCOUNT, until it is stopped."""
    # A server's libraries, for this command alone.
    from workers.webhooks import serve  # noqa: PLC0415

    settings = load_settings()
    log_to_stderr(settings.log_format)
    with local.open_runtime(settings) as opened:
        serve(
            opened.runtime,
            host=host,
            port=port,
            started=lambda url: screens.say(f"Receiving webhooks at {url}/webhooks/ACCOUNT"),
        )
    return 0


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check settings, database, broker, provider, clock and key, and say how to mend each."""
    findings = examine_installation(load_settings)
    if as_json:
        print_json(
            {"ok": all(one.ok for one in findings), "checks": [one.as_json() for one in findings]}
        )
    else:
        screens.findings(findings)
    return next((one.exit_code for one in findings if not one.ok), 0)
