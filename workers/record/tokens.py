"""The access tokens that all workers of an account share: closed by the vault, one fetcher at a
time.

A token is never stored in the clear. Losing the table's rows costs a token call each, nothing else.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from workers.errors import VaultError
from workers.record.database import Database
from workers.record.keybook import writing
from workers.record.tables import tokens
from workers.record.vault import Vault

# A token that ended so long ago is nobody's any more.
OLD_S = 3600


class TokenBook:
    """The tokens table. Every method is one transaction."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self._vault = vault

    def read(self, account: str, name: str) -> tuple[str, datetime] | None:
        """The token and until when it may be used; None: there is none that can be opened."""
        with self.database.read() as connection:
            row = connection.execute(
                select(tokens).where(tokens.c.account == account, tokens.c.name == name)
            ).one_or_none()
        if row is None or row.sealed_token is None or row.usable_until is None:
            return None
        try:
            opened = self._vault.open_secret(row.sealed_token, place_of(account, name))
        except VaultError:
            return None
        return opened.decode(), row.usable_until

    def lease(self, account: str, name: str, until: datetime, now: datetime) -> bool:
        """Become the one that fetches a new token, until a time; False: another is at it."""
        insert = sqlite.insert if self.database.is_sqlite else postgresql.insert
        with self.database.write() as connection:
            connection.execute(
                insert(tokens).values(account=account, name=name).on_conflict_do_nothing()
            )
            free = or_(tokens.c.fetching_until.is_(None), tokens.c.fetching_until <= now)
            taken = connection.execute(
                update(tokens)
                .where(and_(tokens.c.account == account, tokens.c.name == name), free)
                .values(fetching_until=until)
            )
        return taken.rowcount == 1

    def keep(self, account: str, name: str, token: str, usable_until: datetime) -> None:
        """Store a fetched token, and let go of the lease.

        A process that lacks the key which the record is closed with keeps it to itself.
        """
        with self.database.write() as connection:
            try:
                vault = writing(connection, self._vault)
            except VaultError:
                _change(connection, account, name, fetching_until=None)
                return
            _change(
                connection,
                account,
                name,
                sealed_token=vault.close_secret(token.encode(), place_of(account, name)),
                usable_until=usable_until,
                fetching_until=None,
            )

    def give_up(self, account: str, name: str) -> None:
        """Let go of the lease: nothing was fetched."""
        with self.database.write() as connection:
            _change(connection, account, name, fetching_until=None)

    def forget_old(self, now: datetime) -> int:
        """Delete what nobody uses any more; a number of rows."""
        ended = now - timedelta(seconds=OLD_S)
        never = and_(
            tokens.c.usable_until.is_(None),
            or_(tokens.c.fetching_until.is_(None), tokens.c.fetching_until < ended),
        )
        old = or_(tokens.c.usable_until < ended, never)
        with self.database.read() as connection:
            if connection.execute(select(tokens.c.name).where(old).limit(1)).first() is None:
                return 0
        with self.database.write() as connection:
            return connection.execute(delete(tokens).where(old)).rowcount


def place_of(account: str, name: str) -> str:
    """What a token is bound to in the vault."""
    return f"token {name} of account {account}"


def _change(connection: Connection, account: str, name: str, **values: object) -> None:
    connection.execute(
        update(tokens).where(tokens.c.account == account, tokens.c.name == name).values(**values)
    )
