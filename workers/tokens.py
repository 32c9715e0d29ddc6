"""An account's access tokens, shared by all its workers: the first to need one fetches it, the
others wait for that.

Fetching moves no money and may be repeated. Tokens are kept in memory and, closed, in the record.
"""

from __future__ import annotations

import threading
from datetime import timedelta

from workers.clock import Clock
from workers.providers.tokens import Fetch, NoToken, Token
from workers.providers.transport import Lost
from workers.record.status import Outcome
from workers.record.tokens import TokenBook

# Another worker's token call is waited for at most so long, in steps.
WAIT_S_MAX = 5
WAIT_STEP_S = 0.05
# Tokens kept in memory; those of single payouts come and go.
KEPT_MAX = 10_000
_BUSY = Lost(
    Outcome.NOT_SENT, "token", "another worker is fetching the account's token", retry_after_s=1
)


class SharedTokens:
    """See `providers.tokens.Tokens`; safe for threads."""

    def __init__(self, account: str, book: TokenBook, clock: Clock, *, lease_s: float) -> None:
        """
        Args:
            lease_s: longer than the longest token call; a worker that died while fetching is
                waited for no longer.
        """
        self._account = account
        self._book = book
        self._clock = clock
        self._lease_s = lease_s
        self._kept: dict[str, Token] = {}
        self._lock = threading.Lock()

    def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
        kept = self._kept.get(name)
        if kept is not None and self._is_good(kept, refused):
            return kept.text
        until = self._clock.monotonic() + WAIT_S_MAX
        while True:
            stored = self._book.read(self._account, name)
            if stored is not None and self._is_good(Token(*stored), refused):
                return self._keep(name, Token(*stored))
            now = self._clock.now()
            lease_until = now + timedelta(seconds=self._lease_s)
            if self._book.lease(self._account, name, lease_until, now):
                return self._fetched(name, fetch, refused)
            if self._clock.monotonic() >= until:
                raise NoToken(_BUSY)
            self._clock.sleep(WAIT_STEP_S)

    def _fetched(self, name: str, fetch: Fetch, refused: str | None) -> str:
        try:
            # It may have come between our look and our lease.
            stored = self._book.read(self._account, name)
            if stored is not None and self._is_good(Token(*stored), refused):
                self._book.give_up(self._account, name)
                return self._keep(name, Token(*stored))
            token = fetch(self._clock.now())
        except Exception:
            self._book.give_up(self._account, name)
            raise
        self._book.keep(self._account, name, token.text, token.usable_until)
        return self._keep(name, token)

    def _is_good(self, token: Token, refused: str | None) -> bool:
        return token.usable_until > self._clock.now() and token.text != refused

    def _keep(self, name: str, token: Token) -> str:
        with self._lock:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[name] = token
        return token.text
