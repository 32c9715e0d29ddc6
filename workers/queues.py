"""The queues: two for each account, so that none waits behind another's messages, and the sweep's.

What is to be sent and what is to be asked about are apart, too: a long batch does not keep the
polls of an earlier one waiting. Which queue a message came by means nothing; the table decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

SWEEP = "sweep"
_SEND = "pay."
_ASK = "poll."


def queue_of(account: str, *, to_send: bool) -> str:
    """Where the messages of an account's payouts go.

    Args:
        to_send: the payout is queued; else it is to be polled or looked up.
    """
    return (_SEND if to_send else _ASK) + account


def queues_of(accounts: Iterable[str]) -> Sequence[str]:
    """All queues of these accounts, and the sweep's."""
    purposes = (True, False)
    return [SWEEP, *(queue_of(one, to_send=what) for one in sorted(accounts) for what in purposes)]


def polls_first(queues: Iterable[str]) -> list[str]:
    """In the order in which messages are taken from them: whoever is under way comes before those
    who begin, so that a long batch does not keep those that it has begun waiting. Where nothing
    is said, the order stays as it is.
    """
    return sorted(queues, key=lambda queue: queue.startswith(_SEND))


def accounts_in(queues: Iterable[str]) -> set[str]:
    """The accounts whose payouts come by these queues."""
    named = [queue for queue in queues if queue.startswith((_SEND, _ASK))]
    return {queue.partition(".")[2] for queue in named}
