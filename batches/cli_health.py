"""Whether a service gets its work done, as a program of its own: `paybatch-health WHAT`.

`paybatch health` is the same. Health checks are made again and again beside the services, so this
loads next to nothing: the whole command line would take three times as long to begin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from batches import health
from workers.clock import SystemClock
from workers.errors import PaybatchError
from workers.runtime import settings_of
from workers.settings import Settings

UNHEALTHY = 1
# Where each service listens in its own container.
USUAL_URLS = {
    "flower": "http://127.0.0.1:5555",
    "simulator": "http://127.0.0.1:9101",
    "webhooks": "http://127.0.0.1:8080",
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Make one health check and end the process with its exit code."""
    try:
        sys.exit(health_.main(argv, prog_name="paybatch-health", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        code = 2
        facts: Mapping[str, Any] = {"error": error.format_message()}
    except PaybatchError as error:
        click.echo(f"paybatch-health: {error}", err=True)
        code, facts = error.exit_code, error.facts
    tell_json(argv, facts, code)
    sys.exit(code)


def tell_json(argv: Sequence[str] | None, facts: Mapping[str, Any], exit_code: int) -> None:
    """Print the error that ended a command as its one JSON object, where `--json` was typed.

    The command itself may not have come so far as to know that: its arguments or the settings may
    be what is wrong.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    options = given[: given.index("--")] if "--" in given else given
    if "--json" in options:
        click.echo(json.dumps({**facts, "exit_code": exit_code}, ensure_ascii=False))


@click.command("health")
@click.argument("what", type=click.Choice(["worker", "beat", *sorted(USUAL_URLS)]))
@click.option("--url", help="Where it listens, if not at its usual port on this machine.")
@click.option("--account", "accounts", multiple=True, help="Judge a worker by this one's payouts.")
@click.option("--login", envvar="FLOWER_BASIC_AUTH", hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Facts as JSON on stdout.")
def health_(
    what: str, url: str | None, accounts: tuple[str, ...], login: str | None, as_json: bool
) -> int:
    """Whether a service gets its work done, in a sentence; exit code 0 if so, else 1.

    A worker and a beat are looked for on this machine, by the signs in `heartbeat_folder`. Flower's
    user:password is read from the environment variable FLOWER_BASIC_AUTH.
    """
    found = _examine(what, (url or USUAL_URLS.get(what, "")).rstrip("/"), accounts, login)
    if as_json:
        facts = {"service": what, "healthy": found.ok, "detail": found.sentence}
        click.echo(json.dumps(facts, ensure_ascii=False))
    else:
        click.echo(f"{'Healthy' if found.ok else 'Unhealthy'}: {found.sentence}.")
    return 0 if found.ok else UNHEALTHY


def _examine(what: str, url: str, accounts: tuple[str, ...], login: str | None) -> health.Health:
    match what:
        case "flower":
            return health.flower(url, login)
        case "simulator":
            return health.simulator(url)
        case "webhooks":
            return health.webhooks(url)
    settings, now = Settings.load(settings_of), SystemClock().now()
    if what == "beat":
        return health.beat(settings, now)
    return health.worker(settings, now, accounts)
