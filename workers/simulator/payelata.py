"""A local stand-in for Payelata's payout API, with its own ledger and faults at will.

    python -m workers.simulator.payelata --port 9101 --fault create:drop-after

This file is the program and the way to run it inside a test; what it answers is in
`payelata_api`, the JSON in `payelata_views`, the
services in `payelata_services`. The sockets are in `server`, the memory in `ledger`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from workers.simulator import flags
from workers.simulator.payelata_api import DEFAULT_BALANCES, Payelata, PayelataOptions, sign
from workers.simulator.program import Program

__all__ = ["PayelataOptions", "main", "read_flags", "serve", "sign"]


def read_flags(argv: Sequence[str]) -> PayelataOptions:
    """The options that the flags ask for.

    Raises:
        UsageError: a flag that cannot be read; one sentence.
    """
    parser = flags.parser("payelata", "A local stand-in for Payelata's payout API.")
    add = parser.add_argument
    default = PayelataOptions()
    add("--account-id", default=default.account_id)
    add("--api-key", default=default.api_key)
    add("--public-key", default=default.public_key)
    add("--signing-key", default=default.signing_key)
    add("--live", action="store_true", help="live mode instead of test mode")
    add("--prefix", type=_prefix, default=default.prefix, help="of the private API")
    add("--settle", type=flags.seconds, default=default.settle_s, help="processing to final")
    add("--release-delay", type=flags.seconds, default=0.0, help="created after a process call")
    add("--auto-process", action="store_true", help="no process call needed")
    add("--low-balance", choices=("422", "failed"), default=default.low_balance)
    add("--find-delay", type=flags.seconds, default=0.0, help="until a find shows a new invoice")
    add("--allow-duplicates", action="store_true", help="no 409: harsher than the provider")
    add("--callback-url", help="where an invoice without its own callback address reports to")
    add("--callbacks-final-only", action="store_true", help="no callbacks on the way")
    read = parser.parse_args(argv)
    return PayelataOptions(
        **flags.shared_options(read, DEFAULT_BALANCES),
        account_id=read.account_id,
        api_key=read.api_key,
        public_key=read.public_key,
        signing_key=read.signing_key,
        live=read.live,
        prefix=read.prefix,
        settle_s=read.settle,
        release_delay_s=read.release_delay,
        auto_process=read.auto_process,
        low_balance=read.low_balance,
        find_delay_s=read.find_delay,
        allow_duplicates=read.allow_duplicates,
        callback_url=read.callback_url,
        callbacks_final_only=read.callbacks_final_only,
    )


def _prefix(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)*", text) or text.startswith(("/public-api", "/_")):
        raise argparse.ArgumentTypeError("expected such as /api, or nothing")
    return text


_PROGRAM = Program(PayelataOptions, read_flags, Payelata)
serve, main = _PROGRAM.serve, _PROGRAM.main


if __name__ == "__main__":
    sys.exit(main())
