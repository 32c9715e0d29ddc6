"""The commands of a cluster's upkeep: bring the schema up to date."""

from __future__ import annotations

import click

from batches import screens
from batches.command import json_option, print_json, record


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
