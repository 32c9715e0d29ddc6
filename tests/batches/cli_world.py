"""A folder in which `paybatch` is run as a person runs it, and what can be seen afterwards.

The provider is either the sandbox, whose ledger is a file in the folder, or a simulator that the
test started with flags of its own; the folder then has a `paybatch.toml` for the account `main`.
"""

from __future__ import annotations

import atexit
import contextlib
import csv
import functools
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from workers.simulator.control import account_of
from workers.simulator.ledger import Ledger
from workers.simulator.payelata import read_flags, serve
from workers.simulator.server import Running

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120
API_KEY = "demo-api-key"
# In the order that the settings ask for, and short enough for a test to see each run out.
BUDGETS: Mapping[str, float] = {
    "call_deadline_s": 1,
    "read_timeout_s": 0.8,
    "claim_s": 2,
    "announce_s": 3,
    "lookup_grace_s": 4,
    "lookup_first_s": 0.2,
    "poll_first_s": 0.1,
    "poll_max_s": 1,
    "process_repeat_s": 1,
}
COLUMNS = [
    *("batch_id", "row", "reference_id", "account", "provider", "service", "amount", "currency"),
    *("state", "provider_payout_id", "provider_status", "failure_code", "failure_reason", "fee"),
    *("fee_currency", "processed_amount", "exchange_rate", "attempts", "created_at", "sent_at"),
    *("settled_at", "replaces", "beneficiary"),
]

# Words for a row whose end does not depend on how often it is sent, or by whom; and that end.
WORDS: Mapping[str, str] = {
    "create:drop-after": "paid",
    "create:504": "paid",
    "status=process_failed resolution=declined_error": "failed",
    "amount=1.00": "held",
    "process:drop-after": "paid",
    "create:slow=0.5": "paid",
    "create:hang-after": "paid",
    "create:409-after": "paid",
    "status=partially_processed": "held",
    "create:drop": "paid",
    "create:504-after": "paid",
    "process:drop": "paid",
    "process:500-after": "paid",
    "read:503": "paid",
    "create:drop-after hide=1": "paid",
    "path=process_pending>processed settle=1": "paid",
}

Row = dict[str, str]


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """A running `paybatch`; it is killed if it is still there when the block ends."""

    def __init__(self, caller: socket.socket, screens: tuple[Path, Path]) -> None:
        self._answers = caller.makefile("r")
        self._caller = caller
        self._screens = screens
        self.pid = int(self._answers.readline())
        self._code: int | None = None

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            self.send(signal.SIGKILL)
            self.wait()

    def send(self, number: int) -> None:
        """Signal the process, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def has_ended(self) -> bool:
        if self._code is not None:
            return True
        self._caller.setblocking(False)
        try:
            return bool(self._caller.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self._caller.settimeout(TIMEOUT_S)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something that must come true while the command runs."""
        until(lambda: condition() or self.has_ended)
        assert not self.has_ended, f"it ended before: {self.wait()}"

    def wait(self) -> Ended:
        """How it ended; below zero: by which signal."""
        if self._code is None:
            try:
                self._code = int(self._answers.readline())
            except TimeoutError:
                self.send(signal.SIGKILL)
                self._code = -signal.SIGKILL
                raise
            finally:
                self._answers.close()
                self._caller.close()
        out, err = (path.read_text(errors="replace") for path in self._screens)
        return Ended(self._code, out, err)


@functools.cache
def _launcher() -> str:
    """The address of this test process's launcher, started at the first use."""
    folder = Path(tempfile.mkdtemp(prefix="paybatch-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.batches.launcher", str(folder / "socket")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**_plain_environ(), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()

    def close() -> None:
        process.stdin.close()
        process.wait(TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(close)
    return str(folder / "socket")


def _plain_environ() -> dict[str, str]:
    """Ours without any setting of Paybatch."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PAYBATCH_")}


class World:
    """A working folder, its settings, and the commands run in it."""

    def __init__(self, folder: Path, *, account: str = "sandbox", **budgets: Any) -> None:
        self.folder = folder / "work"
        self.screens = folder / "screens"
        for made in (self.folder, self.screens):
            made.mkdir()
        self.env = {
            f"PAYBATCH_ACCOUNTS__{account.upper()}__{name.upper()}": str(value)
            for name, value in {"provider": "payelata", **BUDGETS, **budgets}.items()
        }
        self._count = 0

    # --- commands ---

    def start(
        self,
        *arguments: object,
        stdin: Path | None = None,
        program: str = "paybatch",
        **env: str,
    ) -> Command:
        """Start `paybatch` with these arguments; `env` goes on top of the world's."""
        self._count += 1
        screens = tuple(self.screens / f"{self._count:02}.{name}" for name in ("out", "err"))
        request = {
            "program": program,
            "arguments": [str(argument) for argument in arguments],
            "folder": str(self.folder),
            "env": _plain_environ() | self.env | env,
        }
        caller = socket.socket(socket.AF_UNIX)
        caller.settimeout(TIMEOUT_S)
        caller.connect(_launcher())
        with (
            (stdin or Path(os.devnull)).open("rb") as given,
            screens[0].open("wb") as out,
            screens[1].open("wb") as err,
        ):
            line = json.dumps(request).encode() + b"\n"
            socket.send_fds(caller, [line], [given.fileno(), out.fileno(), err.fileno()])
        return Command(caller, (screens[0], screens[1]))

    def paybatch(self, *arguments: object, code: int = 0, **env: str) -> Ended:
        """Run `paybatch` to its end, which must be with that exit code and without a traceback."""
        with self.start(*arguments, **env) as command:
            ended = command.wait()
        assert "Traceback" not in ended.err, ended.err
        assert ended.code == code, f"{ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def screen(self, number: int) -> str:
        """What the command that was started as that one has said so far."""
        return (self.screens / f"{number:02}.out").read_text(errors="replace")

    def batch_id(self) -> str:
        """The only batch's id."""
        return str(self.one("SELECT id FROM batches"))

    # --- files ---

    def write(self, rows: Iterable[Row], name: str = "p.csv") -> Path:
        """An input file with all the columns that any of the rows has."""
        given = list(rows)
        columns = list(dict.fromkeys(column for row in given for column in row))
        with (self.folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(given)
        return self.folder / name

    def read(self, name: str = "p.results.csv") -> list[Row]:
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def states(self, name: str = "p.results.csv") -> dict[str, str]:
        """The state of each reference id in a results file."""
        return {row["reference_id"]: row["state"] for row in self.read(name)}

    # --- the record and the provider ---

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, or none while there is no such table."""
        path = self.folder / "paybatch.db"
        if not path.exists():
            return []
        with contextlib.closing(sqlite3.connect(path, timeout=TIMEOUT_S)) as connection:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return []

    def execute(self, sql: str) -> None:
        """Change the database behind Paybatch's back."""
        path = self.folder / "paybatch.db"
        with contextlib.closing(sqlite3.connect(path, timeout=TIMEOUT_S)) as connection:
            connection.execute(sql)
            connection.commit()

    def one(self, sql: str, *values: object) -> Any:
        [[value]] = self.query(sql, *values)
        return value

    def count(self, *states: str) -> int:
        """How many payouts are in these states."""
        marks = ",".join("?" * len(states))
        found = self.query(f"SELECT count(*) FROM payouts WHERE state IN ({marks})", *states)
        return found[0][0] if found else 0

    def nothing_is_stored(self) -> bool:
        stored = self.query("SELECT 1 FROM batches UNION ALL SELECT 1 FROM payouts")
        return not stored

    def ledger(self) -> Mapping[str, Any]:
        """What the sandbox's provider knows, by reference id."""
        path = self.folder / "paybatch.sandbox.ledger"
        if not path.exists():
            return {}
        # A simulator that is still running has the file itself locked.
        copy = self.screens / "ledger"
        shutil.copyfile(path, copy)
        ledger = Ledger(copy)
        try:
            return {each: account_of(ledger, each) for each in ledger.references()}
        finally:
            ledger.close()
            copy.unlink()


@dataclass(frozen=True)
class Provider:
    """A simulator of the test's own."""

    running: Running

    def ledger(self) -> Mapping[str, Any]:
        return {each["reference_id"]: each for each in self.control("GET", "ledger")}

    def control(self, method: str, path: str, **body: Any) -> Any:
        url = f"{self.running.control_url}/{path}"
        answer = httpx.request(method, url, json=body, trust_env=False, timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()

    def fault(self, words: str, reference_id: str | None = None) -> None:
        self.control("POST", "faults", faults=words, reference_id=reference_id)

    def mend(self) -> None:
        self.control("DELETE", "faults")


@contextlib.contextmanager
def provided(folder: Path, *flags: str, **budgets: Any) -> Iterator[tuple[World, Provider]]:
    """A world with the account `main` at a simulator with these flags."""
    world = World(folder, account="main", **budgets)
    with serve(read_flags(["--quiet", "--settle", "0.1", *flags])) as running:
        (world.folder / "paybatch.toml").write_text(toml(running))
        yield world, Provider(running)


def toml(running: Running, **changes: str) -> str:
    """Settings with the account `main` at that simulator."""
    values = {
        "provider": "payelata",
        "base_url": running.base_url,
        "public_base_url": running.public_base_url,
        "account_id": "coma_Demo0000Demo0001",
        "api_key": API_KEY,
        "public_key": "pk_test_demo",
        "signing_key": "sk_test_demo",
        **changes,
    }
    lines = [f'{name} = "{value}"' for name, value in values.items()]
    return "\n".join(
        ["[accounts.main]", *lines, "test_mode = true", "rate_per_s = 0", "in_flight_max = 32", ""]
    )


# --- input rows ---


def usd_row(number: int, simulate: str = "", **changes: str) -> Row:
    """A row of the service `test_usd`, whose account number is the row's own."""
    return {
        "reference_id": f"T-{number:04}",
        "amount": f"{10 + number}.25",
        "currency": "USD",
        "service": "test_usd",
        "fields.account": f"5500{number:04}7731",
        "metadata.simulate": simulate,
        **changes,
    }


def bank_row(number: int, currency: str, amount: str, simulate: str = "") -> Row:
    """A row of a bank transfer."""
    return {
        "reference_id": f"B-{number:04}",
        "amount": amount,
        "currency": currency,
        "service": f"bank_transfer_{currency.lower()}",
        "fields.account_number": f"7000{number:05}4417",
        "fields.bank_code": "061000021",
        "fields.account_type": "checking",
        "fields.beneficiary_document_type": "passport",
        "fields.beneficiary_document_id": f"P93{number:06}",
        "metadata.simulate": simulate,
    }


def card_row(number: int, currency: str, amount: str, simulate: str = "") -> Row:
    """A row of a payment to a card."""
    return {
        "reference_id": f"C-{number:04}",
        "amount": amount,
        "currency": currency,
        "service": f"payment_card_{currency.lower()}",
        "fields.card_number": f"40000000{number:04}6628",
        "metadata.simulate": simulate,
    }


def pix_row(number: int, amount: str, simulate: str = "") -> Row:
    """A row of the service `pix_brl`."""
    return {
        "reference_id": f"X-{number:04}",
        "amount": amount,
        "currency": "BRL",
        "service": "pix_brl",
        "fields.pix_key": f"someone{number:04}@example.org",
        "fields.document_type": "CPF",
        "fields.document_id": f"0016{number:04}527",
        "metadata.simulate": simulate,
    }


# --- rules about money, for every test that moves it ---


def released(ledger: Mapping[str, Any]) -> Counter[str]:
    """How often money was committed for each reference id, over all its invoices."""
    counted: Counter[str] = Counter()
    for reference_id, known in ledger.items():
        counted[reference_id] = sum(len(each["releases"]) for each in known["invoices"])
    return counted


def check_money(results: Sequence[Row], ledger: Mapping[str, Any]) -> None:
    """The results against the provider's ledger: nothing twice, nothing lost, nothing invented."""
    times = released(ledger)
    assert all(count <= 1 for count in times.values()), times
    assert all(len(known["invoices"]) <= 1 for known in ledger.values())
    assert set(times) <= {row["reference_id"] for row in results}
    told: dict[str, Decimal] = defaultdict(Decimal)
    gone: dict[str, Decimal] = defaultdict(Decimal)
    for row in results:
        if row["state"] == "paid":
            assert times[row["reference_id"]] == 1, row
            [invoice] = ledger[row["reference_id"]]["invoices"]
            assert invoice["status"] == "processed", row
            told[row["currency"]] += Decimal(row["amount"])
            gone[invoice["currency"]] += Decimal(invoice["amount"])
    assert told == gone


def until(condition: Callable[[], Any], *, limit_s: float = TIMEOUT_S) -> Any:
    """The condition's value as soon as it is true; a failure once the limit has passed."""
    ends = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < ends, f"not within {limit_s} s"
        time.sleep(0.02)
    return value
