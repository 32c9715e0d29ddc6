"""An account's access tokens: fetched once, kept until shortly before they end, shared.

A token is a secret. It has a masked repr, is handed out as late as possible and never logged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from workers.clock import SystemClock
from workers.providers.transport import Answer, Lost


@dataclass(frozen=True, slots=True)
class Token:
    """What a provider's token call gave."""

    text: str = field(repr=False)
    # When a new one is to be fetched: its end less a margin. Aware UTC.
    usable_until: datetime


class NoToken(Exception):
    """There is no token now; `cause` is what the token call ended with."""

    def __init__(self, cause: Answer | Lost) -> None:
        super().__init__("no access token")
        self.cause = cause


# Makes the token call at a time, and reads its answer; raises NoToken.
Fetch = Callable[[datetime], Token]


class Tokens(Protocol):
    """Where an account's tokens are kept."""

    def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
        """A token of that name that is good for now.

        Args:
            name: which of the account's tokens; one that is not the account's alone names the
                payout.
            fetch: called when there is none, by one worker of the account at a time.
            refused: a token that the provider turned down: any other, or a new one, is given.

        Raises:
            NoToken: it could not be fetched.
        """
        ...


class OwnTokens:
    """Tokens of this process alone: for the questions of one command, and for tests."""

    def __init__(self) -> None:
        self._kept: dict[str, Token] = {}
        self._lock = threading.Lock()
        self._clock = SystemClock()

    def get(self, name: str, fetch: Fetch, *, refused: str | None = None) -> str:
        with self._lock:
            now = self._clock.now()
            kept = self._kept.get(name)
            if kept is None or kept.usable_until <= now or kept.text == refused:
                self._kept[name] = kept = fetch(now)
            return kept.text
