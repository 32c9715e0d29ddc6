"""The commands of a cluster: bring the schema up to date, and ask whether a service is healthy."""

from __future__ import annotations

import click

from batches import health, screens
from batches.command import json_option, load_settings, print_json, record
from workers.clock import SystemClock

UNHEALTHY = 1
# Where each service listens in its own container.
USUAL_URLS = {
    "flower": "http://127.0.0.1:5555",
    "simulator": "http://127.0.0.1:9101",
    "webhooks": "http://127.0.0.1:8080",
}


@click.command()
@json_option
def migrate(as_json: bool) -> int:
    """Bring the database's schema up to date; every command and worker does it too."""
    with record() as runtime:
        found, now = runtime.database.revision_found, runtime.database.revision()
        shown = runtime.database.shown
    if as_json:
        print_json({"database": shown, "from": found, "to": now})
    elif found == now:
        screens.say(f"{shown} is up to date, at revision {now}.")
    elif found is None:
        screens.say(f"{shown} was empty, and is at revision {now} now.")
    else:
        screens.say(f"{shown} was at revision {found}, and is at {now} now.")
    return 0


@click.command("health")
@click.argument("what", type=click.Choice(["worker", "beat", *sorted(USUAL_URLS)]))
@click.option("--url", help="Where it listens, if not at its usual port on this machine.")
@click.option("--account", "accounts", multiple=True, help="Judge a worker by this one's payouts.")
@click.option("--login", envvar="FLOWER_BASIC_AUTH", hidden=True)
@json_option
def health_(
    what: str, url: str | None, accounts: tuple[str, ...], login: str | None, as_json: bool
) -> int:
    """Whether a service gets its work done, in a sentence; exit code 0 if so, else 1.

    A worker and a beat are looked for on this machine, by the signs in `heartbeat_folder`. Flower's
    user:password is read from the environment variable FLOWER_BASIC_AUTH.
    """
    found = _examine(what, (url or USUAL_URLS.get(what, "")).rstrip("/"), accounts, login)
    if as_json:
        print_json({"service": what, "healthy": found.ok, "detail": found.sentence})
    else:
        screens.say(f"{'Healthy' if found.ok else 'Unhealthy'}: {found.sentence}.")
    return 0 if found.ok else UNHEALTHY


def _examine(what: str, url: str, accounts: tuple[str, ...], login: str | None) -> health.Health:
    match what:
        case "beat":
            return health.beat(load_settings(), SystemClock().now())
        case "flower":
            return health.flower(url, login)
        case "simulator":
            return health.simulator(url)
        case "webhooks":
            return health.webhooks(url)
        case _:
            return health.worker(load_settings(), SystemClock().now(), accounts)
