"""The command line that all simulators share; a provider adds its own flags to it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from workers.errors import MoneyError, UsageError
from workers.record.money import Currency, Money
from workers.simulator import faults

# A day in a second and a half; faster than that, `--manual-clock` is meant.
CLOCK_SCALE_MAX = 60_000


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence, raised instead of printed with the usage."""
        raise UsageError(f"{self.prog.rpartition(' ')[2]} simulator: {message}")


def parser(provider: str, description: str) -> argparse.ArgumentParser:
    """A parser with the shared flags; it raises UsageError instead of leaving.

    Names of its values match the fields of `ServerOptions`; see `shared_options`.
    """
    program = f"paybatch simulator {provider}"
    made = _Parser(prog=program, description=description, allow_abbrev=False)
    add = made.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    add("--port", type=_port, default=0, help="0, the default, takes a free one")
    add("--ledger", type=Path, metavar="FILE", help="keep the ledger here, not in memory")
    add("--balance", action="append", type=_balance, default=[], metavar="USD=1000.00")
    add(
        "--fault",
        action="append",
        type=_script,
        default=[],
        metavar="SPEC",
        help="for all calls; see workers/simulator/faults.py for the words",
    )
    add("--fault-every", type=_count, default=1, metavar="N", help="only every Nth matching call")
    add("--latency", type=_seconds, default=0.0, metavar="SECONDS", help="of every call")
    add("--clock-scale", type=_scale, default=1.0, metavar="X", help="time runs X times as fast")
    add("--manual-clock", type=_unix, metavar="UNIX", help="time moves by control call only")
    add("--callback-host", action="append", default=[], metavar="NAME", help="besides loopback")
    add("--until-stdin-closes", action="store_true", help="stop when the parent process has gone")
    add("--quiet", action="store_true", help="log errors only")
    return made


def shared_options(flags: argparse.Namespace, balances: dict[str, Decimal]) -> dict[str, Any]:
    """The shared flags as arguments of `ServerOptions`, over the provider's own balances."""
    return {
        "host": flags.host,
        "port": flags.port,
        "ledger": flags.ledger,
        "balances": {**balances, **dict(flags.balance)},
        "faults": _joined(flags.fault),
        "fault_every": flags.fault_every,
        "latency_s": flags.latency,
        "clock_scale": flags.clock_scale,
        "manual_clock": flags.manual_clock,
        "callback_hosts": tuple(flags.callback_host),
        "until_stdin_closes": flags.until_stdin_closes,
        "quiet": flags.quiet,
    }


def seconds(text: str) -> float:
    """An argparse type: seconds from 0 to a day."""
    return _seconds(text)


def _joined(scripts: Sequence[faults.Script]) -> faults.Script:
    struck: tuple[faults.Fault, ...] = ()
    behaviour = faults.NOTHING
    for script in scripts:
        struck += script.faults
        behaviour = behaviour.under(script.behaviour)
    return faults.Script(struck, behaviour)


def _script(text: str) -> faults.Script:
    try:
        return faults.parse(text)
    except faults.BadSpec as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        return faults.seconds(text)
    except faults.BadSpec as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _balance(text: str) -> tuple[str, Decimal]:
    code, _, amount = text.partition("=")
    try:
        currency = Currency.of(code)
        return code, Money.parse(amount, currency).decimal()
    except MoneyError as error:
        raise argparse.ArgumentTypeError(f"expected such as USD=1000.00: {error}") from error


def _whole(text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}")
    return int(text)


def _port(text: str) -> int:
    return _whole(text, 0, 65_535)


def _count(text: str) -> int:
    return _whole(text, 1, 1_000_000)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= CLOCK_SCALE_MAX:
        raise argparse.ArgumentTypeError(f"expected a number up to {CLOCK_SCALE_MAX}, above 0")
    return scale


def _unix(text: str) -> float:
    try:
        moment = float(text)
    except ValueError:
        moment = -1.0
    if not 0 <= moment < 10**11:
        raise argparse.ArgumentTypeError("expected unix seconds such as 1700000000")
    return moment
