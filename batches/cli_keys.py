"""The commands about the key that beneficiaries' data is closed with: make one, change it, look."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from batches import local, screens
from batches.command import json_option, print_json, record
from batches.key_change import Changed, KeyChange
from batches.people import Duty, operator
from batches.summary import NEEDS_PERSON
from workers.record.keys import Key, new_key_text
from workers.record.rotation import NAMED_MAX, counted
from workers.words import number_of

log = logging.getLogger(__name__)


@click.group()
def keys() -> None:
    """The encryption key: make a new one, change to it under running workers, see what has it."""


@keys.command()
@json_option
def new(as_json: bool) -> int:
    """Print a fresh key, for `encryption_key`; nothing is changed."""
    text = new_key_text()
    if as_json:
        print_json({"key": text, "key_id": Key.from_text(text).id.hex()})
        return 0
    screens.say(text)
    screens.warn(
        "Put it where secrets are kept, as PAYBATCH_ENCRYPTION_KEY, and a copy apart from the"
        " database's backups. To change an existing key keep the old one in"
        " PAYBATCH_ENCRYPTION_KEYS_OLD until `paybatch keys rotate` has ended."
    )
    return 0


@keys.command()
@json_option
def status(as_json: bool) -> int:
    """Show how many rows are closed with which key."""
    with record(Duty.LOOK) as runtime:
        known = KeyChange(runtime).keys
        found = counted(runtime.database)
        ours = {each.hex() for each in runtime.store.vault.known_ids}
    following = known.next.hex() if known.next else None
    if as_json:
        print_json(
            {
                "key_id": known.current.hex(),
                "next_key_id": following,
                "known_here": sorted(ours),
                "rows": [
                    {"table": one.table, "key_id": one.key_id, "rows": one.number} for one in found
                ],
            }
        )
        return 0
    words = {known.current.hex(): "the key"}
    if following:
        words = {known.current.hex(): "the old key", following: "the new key"}
    rows = [
        (
            one.table,
            one.key_id,
            words.get(one.key_id, "another key" if one.key_id in ours else "not known here"),
            f"{one.number:,}",
        )
        for one in found
    ]
    screens.say(f"Key {known.closes.hex()} closes everything new.")
    screens.table(["table", "key id", "", "rows"], rows, right="rows")
    if following:
        screens.say("A change of keys is under way; end it with: paybatch keys rotate")
    return 0


@keys.command()
@json_option
def rotate(as_json: bool) -> int:
    """Close everything with the new key, while workers run; cut off, run it again.

    An embedded key, in `paybatch.key` beside the database, is made anew by this. Elsewhere set
    encryption_key to the new one and encryption_keys_old to the old one first, and start every
    worker, beat and receiver anew.
    """
    with record(Duty.KEYS) as runtime:
        local.log_to_file(local.home(runtime.settings))
        changed = KeyChange(runtime).run(_closing)
    log.warning(
        "key changed",
        extra={"actor": operator().name, "reason": f"from {changed.old} to {changed.new}"},
    )
    if as_json:
        facts = {"from": changed.old, "to": changed.new, **changed.done.as_json()}
        retired = None if changed.retired is None else str(changed.retired)
        print_json({**facts, "old_key_file": retired})
    else:
        _say(changed)
    return 0 if changed.is_whole else NEEDS_PERSON


@contextmanager
def _closing(total: int) -> Iterator[Callable[[int], None]]:
    with screens.working("Closing anew", total) as show:
        yield screens.adding(show)


def _say(changed: Changed) -> None:
    done = changed.done
    screens.say(f"{number_of(done.rows, 'row')} closed anew, with key {changed.new}.")
    for words, found in (
        ("that no key here opens stay as they were", done.damaged),
        ("that are not what was approved stay so", done.broken),
    ):
        if found:
            named = ", ".join(sorted(found)[:NAMED_MAX])
            more = f" and {len(found) - NAMED_MAX:,} more" if len(found) > NAMED_MAX else ""
            screens.say(f"Payouts {words}: {named}{more}. Nothing is sent for them.")
    if done.deliveries_damaged:
        screens.say(
            f"{number_of(done.deliveries_damaged, 'delivery')} that no key here opens, left so."
        )
    if changed.retired is not None:
        screens.say(
            f"The old key is not needed any more but for backups made before: it lies in"
            f" {changed.retired}; delete it when they are gone. Keep a copy of the new one."
        )
    else:
        screens.say(
            "The old key is not needed any more: take it out of encryption_keys_old. Keep it,"
            " apart, for backups made before."
        )
