"""A local stand-in for Echelon Pay's payout API, with its own ledger and faults at will.

    python -m workers.simulator.echelon --port 9102 --fault create:drop-after

This file is the program and the way to run it inside a test; what it answers is in `echelon_api`,
the JSON in `echelon_views`. The sockets are in `server`, the memory in `ledger`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from decimal import Decimal

from workers.errors import MoneyError
from workers.record.money import Currency, Money
from workers.simulator import flags
from workers.simulator.echelon_api import DEFAULT_BALANCES, Echelon, EchelonOptions
from workers.simulator.program import Program

__all__ = ["EchelonOptions", "main", "read_flags", "serve"]


def read_flags(argv: Sequence[str]) -> EchelonOptions:
    """The options that the flags ask for.

    Raises:
        UsageError: a flag that cannot be read; one sentence.
    """
    parser = flags.parser("echelon", "A local stand-in for Echelon Pay's payout API.")
    add = parser.add_argument
    default = EchelonOptions()
    add("--merchant-code", default=default.merchant_code)
    add("--secret", default=default.secret)
    add("--jwt-key", default=default.jwt_key, help="the platform's, which signs the tokens")
    add("--payout-action", type=_action, default=default.payout_action, help="of a token")
    add("--live", action="store_true", help="live mode: isTest is false")
    add("--settle", type=flags.seconds, default=default.settle_s, help="create to final")
    add("--visibility-lag", type=flags.seconds, default=0.0, help="until a GET shows a payout")
    add(
        "--duplicates",
        choices=("conflict_409", "return_existing", "error_400", "pay-again"),
        default=default.duplicates,
        help="a repeated create; pay-again debits once more: harsher than the provider",
    )
    add("--low-balance", choices=("400", "422", "failed"), default=default.low_balance)
    add("--fee", action="append", type=_fee, default=[], metavar="IDR=2500", help="of each payout")
    add("--callback-style", choices=("id_only", "full_object"), default=default.callback_style)
    add(
        "--callbacks",
        choices=("sent", "lost", "doubled", "foreign"),
        default=default.callbacks,
        help="foreign: each names the id of another payout",
    )
    add("--failure-reasons", choices=("object", "list", "absent"), default=default.failure_reasons)
    read = parser.parse_args(argv)
    return EchelonOptions(
        **flags.shared_options(read, DEFAULT_BALANCES),
        merchant_code=read.merchant_code,
        secret=read.secret,
        jwt_key=read.jwt_key,
        payout_action=read.payout_action,
        live=read.live,
        settle_s=read.settle,
        visibility_lag_s=read.visibility_lag,
        duplicates=read.duplicates,
        low_balance=read.low_balance,
        fees={**default.fees, **dict(read.fee)},
        callback_style=read.callback_style,
        callbacks=read.callbacks,
        failure_reasons=read.failure_reasons,
    )


def _action(text: str) -> str:
    if not re.fullmatch("[A-Z][A-Z0-9_]{0,63}", text):
        raise argparse.ArgumentTypeError("expected such as PAYOUT_CREATE")
    return text


def _fee(text: str) -> tuple[str, Decimal]:
    code, _, amount = text.partition("=")
    try:
        return code, Money.parse(amount, Currency.of(code)).decimal()
    except MoneyError as error:
        raise argparse.ArgumentTypeError(f"expected such as IDR=2500: {error}") from error


_PROGRAM = Program(EchelonOptions, read_flags, Echelon)
serve, main = _PROGRAM.serve, _PROGRAM.main


if __name__ == "__main__":
    sys.exit(main())
