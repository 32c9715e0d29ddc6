"""Every exception of Paybatch, as one tree grouped by who must act.

Expected outcomes (a refused row, a provider's answer) are values, not exceptions. A message names
the payout, line or setting, what was found and what was expected. `exit_code` is what the command
line ends with; it must never be 0.

PaybatchError
├── MakerError                 whoever prepared the file or typed the command
│   ├── UsageError             the command cannot be carried out as typed (2)
│   ├── NotAllowed             the settings do not give this person the role that it takes (2)
│   ├── MoneyError             an amount or a currency that cannot be read exactly
│   ├── FileUnreadable         the file as a whole cannot be read (3)
│   ├── FileRefused            rows have faults, or totals do not hold (3)
│   ├── BatchExists            the same content has been stored before (3)
│   └── NothingLeft            all of what is asked for is done or decided already (3)
├── CheckerError               whoever approves
│   ├── ApprovalRefused        the batch is not what was checked, or may not be approved (3)
│   └── BatchBusy              somebody else is deciding about it right now (3)
├── OperatorError              whoever runs Paybatch
│   ├── SettingsError          settings are missing or wrong, all of them at once (2)
│   ├── AccountFault           the provider account cannot be used: key, path, balance (6)
│   ├── ProviderUnreachable    the provider did not answer a question asked before money moves (6)
│   ├── BrokerUnreachable      the broker took no messages; the payouts stay due (1)
│   ├── InboxUnreachable       an inbox or a folder of reports cannot be used (1)
│   ├── SimulatorError         the local stand-in could not be started (1)
│   └── VaultError             stored data cannot be opened: wrong key, or it was changed (1)
└── DeveloperError             a bug in Paybatch
    ├── IllegalMove            a move that the table of states does not have
    └── StaleState             the payout is no longer where the caller believed it to be
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class PaybatchError(Exception):
    """Something went wrong in Paybatch."""

    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What `--json` tells of it."""
        return {"error": str(self)}


class MakerError(PaybatchError):
    """The file or the command needs a correction."""

    exit_code = 2


class UsageError(MakerError):
    """The command cannot be carried out as typed."""


class NotAllowed(MakerError):
    """The settings do not give this person the role that it takes."""


class MoneyError(MakerError):
    """An amount or a currency cannot be read exactly."""


class FileUnreadable(MakerError):
    """The file cannot be read."""

    exit_code = 3


class FileRefused(MakerError):
    """The file has faults; nothing was stored and nothing was sent."""

    exit_code = 3


class BatchExists(MakerError):
    """The same content has been stored before."""

    exit_code = 3

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"error": str(self), "batch_id": self.batch_id}


class NothingLeft(MakerError):
    """There is nothing left to do; nothing was stored and nothing was sent."""

    exit_code = 3


class CheckerError(PaybatchError):
    """The approval needs a correction."""

    exit_code = 3


class ApprovalRefused(CheckerError):
    """The batch may not be approved."""


class BatchBusy(CheckerError):
    """Somebody else is deciding about the batch; nothing was changed."""


class OperatorError(PaybatchError):
    """The installation needs a correction."""


class SettingsError(OperatorError):
    """Settings are missing or wrong."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"error": str(self), "problems": list(self.problems)}


class AccountFault(OperatorError):
    """The provider account cannot be used."""

    exit_code = 6


class ProviderUnreachable(OperatorError):
    """The provider did not answer."""

    exit_code = 6


class BrokerUnreachable(OperatorError):
    """The broker did not take the messages; their payouts stay due."""


class InboxUnreachable(OperatorError):
    """An inbox or a folder of reports cannot be used."""


class SimulatorError(OperatorError):
    """The simulator could not be started."""


class VaultError(OperatorError):
    """Stored data cannot be opened: the key is wrong or the data was changed."""


class DeveloperError(PaybatchError):
    """A bug in Paybatch; please report it."""


class IllegalMove(DeveloperError):
    """The table of states has no such move."""


class StaleState(DeveloperError):
    """The payout is no longer where the caller believed it to be."""
