"""Which key the record is closed with, and which one it is on its way to: a fact of the database.

While a rotation is under way everything new is closed with the new key by every process, and what
is still closed with the old one opens. A process that lacks a key of the record writes nothing and
judges nothing: what it cannot open is not broken.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from workers.errors import VaultError
from workers.record.database import Database
from workers.record.tables import installation
from workers.record.vault import Vault


@dataclass(frozen=True, slots=True)
class RecordKeys:
    """The ids of the record's keys."""

    current: bytes
    # The key that a rotation is on its way to; None: none is under way.
    next: bytes | None

    @property
    def closes(self) -> bytes:
        """Which one everything new is closed with."""
        return self.current if self.next is None else self.next

    @property
    def all(self) -> tuple[bytes, ...]:
        return (self.current,) if self.next is None else (self.current, self.next)


_KEYS = select(installation.c.key_id, installation.c.next_key_id).where(installation.c.id == 1)
# Held to the end of the transaction: a rotation begins and ends only between those that write.
_HELD = _KEYS.with_for_update(read=True, key_share=True)
_CHANGED = _KEYS.with_for_update()


def keys_of(connection: Connection, *, to_change: bool = False) -> RecordKeys | None:
    """The record's keys; None: it has none yet.

    Args:
        to_change: wait for all that write under the keys as they are, and keep others from it.
    """
    row = connection.execute(_CHANGED if to_change else _KEYS).one_or_none()
    return None if row is None else _parsed(row.key_id, row.next_key_id)


def writing(connection: Connection, vault: Vault) -> Vault:
    """The vault with which this transaction closes and seals what it stores.

    Raises:
        VaultError: the record is closed with a key that this process does not have.
    """
    row = connection.execute(_HELD).one_or_none()
    if row is None:
        return vault
    known = _parsed(row.key_id, row.next_key_id)
    _complain(known, vault)
    return vault.closing_with(known.closes)


def lacking(connection: Connection, vault: Vault) -> str | None:
    """The key of the record that this process does not have; None: it has all that there are."""
    known = keys_of(connection)
    missing = [] if known is None else [each for each in known.all if not vault.knows(each)]
    return missing[0].hex() if missing else None


def checked(database: Database, vault: Vault) -> Vault:
    """The vault that closes with the record's key; a new record takes the vault's.

    Raises:
        VaultError: the record is closed with a key that the vault does not have.
    """
    with database.read() as connection:
        known = keys_of(connection)
    if known is not None:
        _complain(known, vault)
        return vault.closing_with(known.closes)
    try:
        with database.write() as connection:
            connection.execute(insert(installation).values(id=1, key_id=vault.key_id.hex()))
    except IntegrityError:
        return checked(database, vault)
    return vault


def _complain(known: RecordKeys, vault: Vault) -> None:
    ours = ", ".join(each.hex() for each in vault.known_ids)
    if known.next is not None and not vault.knows(known.next):
        raise VaultError(
            f"the encryption key is being changed to {known.next.hex()}, which is not among the"
            f" keys here ({ours}): set encryption_key to the new one and keep the old one in"
            " encryption_keys_old; nothing was changed"
        )
    if not vault.knows(known.current):
        raise VaultError(
            f"the encryption key ({ours}) is not the one that this database was closed with"
            f" ({known.current.hex()}): put the right key back, in encryption_keys_old if a new one"
            " is to take its place; nothing was changed"
        )


def _parsed(current: str, following: str | None) -> RecordKeys:
    return RecordKeys(
        bytes.fromhex(current), None if following is None else bytes.fromhex(following)
    )
