"""Who is at the keyboard, and what the settings let that person do.

With no users in the settings everybody may do everything. Nothing here is a lock against somebody
who can change the settings or the database; the seals and the history are.
"""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Mapping
from enum import StrEnum

from workers.errors import NotAllowed
from workers.record.model import Actor
from workers.record.status import State
from workers.settings import Role, Settings, ssh_client, toml_key


class Duty(StrEnum):
    """What takes a role, in the words of a refusal."""

    LOOK = "look at batches and accounts"
    PREPARE = "prepare batches"
    PAY = "have batches paid"
    DECIDE = "approve, reject or resolve"
    PAUSE = "pause batches"
    RESUME = "resume batches or accounts"
    WITHDRAW = "cancel a batch that waits for approval"
    CANCEL = "cancel an approved batch"
    RECONCILE = "compare accounts with their providers"
    FREEZE = "freeze accounts"
    SETTLE = "have what is due of a schedule done now"
    KEYS = "change the encryption key"
    PURGE = "remove beneficiaries' data"


_EVERY = frozenset(Role)
_ACTIVE = _EVERY - {Role.VIEWER}
# docs/people.md shows this table; stopping money is easy, letting it go on is not.
MAY: Mapping[Duty, frozenset[Role]] = {
    Duty.LOOK: _EVERY,
    Duty.PREPARE: frozenset({Role.MAKER, Role.ADMIN}),
    Duty.PAY: _ACTIVE,
    Duty.DECIDE: frozenset({Role.CHECKER, Role.ADMIN}),
    Duty.PAUSE: _ACTIVE,
    Duty.RESUME: frozenset({Role.CHECKER, Role.ADMIN}),
    Duty.WITHDRAW: _ACTIVE,
    Duty.CANCEL: frozenset({Role.ADMIN}),
    Duty.RECONCILE: _ACTIVE,
    Duty.FREEZE: frozenset({Role.ADMIN}),
    Duty.SETTLE: _ACTIVE,
    Duty.KEYS: frozenset({Role.ADMIN}),
    Duty.PURGE: frozenset({Role.ADMIN}),
}


# What a person may decide about a held payout. Requeued, it is looked up before it is sent.
DECISIONS: Mapping[str, State] = {
    "paid": State.PAID,
    "failed": State.FAILED,
    "requeue": State.QUEUED,
}


def operator() -> Actor:
    """Who is at the keyboard: the operating-system user, and from where."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return Actor(name, _origin())


def _origin() -> str:
    parts = ["cli", socket.gethostname(), f"pid {os.getpid()}"]
    if sys.stdin is not None and sys.stdin.isatty():
        parts.append(os.ttyname(sys.stdin.fileno()).removeprefix("/dev/"))
    client = ssh_client()
    if client is not None:
        parts.append(f"ssh {client}")
    return " ".join(parts)


def may(settings: Settings, actor: Actor, duty: Duty) -> bool:
    """Whether the settings let that person do that."""
    if not settings.users:
        return True
    user = settings.users.get(actor.name)
    return user is not None and not MAY[duty].isdisjoint(user.roles)


def permit(settings: Settings, actor: Actor, duty: Duty) -> None:
    """Let that person do that.

    Raises:
        NotAllowed: the settings do not.
    """
    if may(settings, actor, duty):
        return
    needed = " or ".join(sorted(MAY[duty]))
    user = settings.users.get(actor.name)
    if user is None:
        raise NotAllowed(
            f"{actor} is none of the users in the settings, so may do nothing here; an admin adds"
            f' [users.{toml_key(actor.name)}] and below it roles = ["..."] (to {duty}: {needed})'
        )
    raise NotAllowed(
        f"{actor} may not {duty}: that takes the role {needed}, and the settings give {actor}"
        f" {' and '.join(sorted(user.roles))}"
    )
