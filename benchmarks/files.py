"""How long each command takes with a large file, and how much memory, beside the bare libraries.

    python -m benchmarks.files [--rows 10000 200000 1000000] [--kind csv] [--folder DIR]
        [--group-rows 20000] [--postgres postgresql+psycopg://USER@HOST/NAME]
    python -m benchmarks.files --write FILE --rows 1000000 [--group-rows 20000]

The first makes the files, runs every command as a process of its own against the simulator of
Payelata on this machine, and prints a table. PostgreSQL's programs are enough: without `--postgres`
a server of our own is started, with its defaults but for the number of connections. The bare
figures are those of the same file in the same run: the loop of a chunked `pandas.read_csv`, and a
COPY into a table of texts without any index. The time of a command is that of its whole process,
its start included. The second only writes a file: a payroll of bank transfers, about 130 bytes a
row, no two of the same beneficiary.
A Parquet file has one row group, as most tools write it, unless --group-rows says otherwise.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import program
from benchmarks.program import held

ROOT = Path(__file__).parent.parent
COLUMNS = (
    "reference_id", "amount", "currency", "service", "description", "fields.account_number",
    "fields.bank_code", "fields.account_type", "fields.beneficiary_document_type",
    "fields.beneficiary_document_id", "metadata.department",
)  # fmt: skip
BANKS = ("061000021", "021000021", "011000015")
DEPARTMENTS = ("Support", "Warehouse", "Sales", "Engineering")
CHUNK_ROWS = 20_000
# What pyarrow and pandas write where nothing else is said: of a million rows, one row group.
GROUP_ROWS = 1 << 20
MB = 1_000_000
# Enough for any of them.
BALANCE = "USD=999999999999.00"


@dataclass(frozen=True, slots=True)
class Measured:
    """A process that has ended: its time from start to end, and the most memory it had."""

    seconds: float
    # Of the processor, in this process; what the database's server needs is not in it.
    cpu_s: float
    peak_bytes: int
    out: str


def rows_of(count: int) -> Iterator[list[str]]:
    """The rows of a payroll, the same at every call."""
    draw = random.Random(17)
    for number in range(count):
        yield [
            f"SAL-2026-03-{number:07}",
            f"{draw.randrange(900, 9000)}.{draw.randrange(100):02}",
            "USD",
            "bank_transfer_usd",
            "Salary March 2026, monthly run",
            f"7{number:07}{draw.randrange(10_000):04}",
            draw.choice(BANKS),
            draw.choice(("checking", "savings")),
            "passport",
            f"P{draw.randrange(10**8):08}",
            draw.choice(DEPARTMENTS),
        ]


def write(path: Path, count: int, group_rows: int = GROUP_ROWS) -> None:
    """A file of so many rows, CSV or Parquet by its suffix.

    Args:
        group_rows: in Parquet, the rows of a row group.
    """
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(rows_of(count))
        return
    import pyarrow as pa  # noqa: PLC0415 - it would count as memory of the commands
    import pyarrow.parquet as pq  # noqa: PLC0415

    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    rows = rows_of(count)
    tables = []
    while some := list(islice(rows, CHUNK_ROWS)):
        tables.append(pa.table(list(zip(*some, strict=True)), schema=schema))
    pq.write_table(pa.concat_tables(tables), path, row_group_size=group_rows)


# --- the bare figures; each is a process of its own too ---


def read_bare(path: Path) -> float:
    """Seconds to go through the file with pandas, or pyarrow for Parquet, and nothing else."""
    import pandas as pd  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    began = time.perf_counter()
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS):
            batch.to_pandas()
    else:
        for _ in pd.read_csv(path, dtype=str, chunksize=CHUNK_ROWS):
            pass
    return time.perf_counter() - began


def copy_bare(path: Path, url: str) -> float:
    """Seconds to COPY the file into a table of texts, and commit."""
    import psycopg  # noqa: PLC0415

    columns = ", ".join(f'"{name}" text' for name in COLUMNS)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(f"CREATE TABLE bare ({columns})")
        connection.commit()
        began = time.perf_counter()
        with (
            path.open("rb") as file,
            connection.cursor().copy("COPY bare FROM STDIN (FORMAT csv, HEADER)") as copy,
        ):
            while block := file.read(1 << 18):
                copy.write(block)
        connection.commit()
        seconds = time.perf_counter() - began
        connection.execute("DROP TABLE bare")
    return seconds


# --- measuring ---


def measured(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Measured:
    """Run a command to its end, which must be a success."""
    own = {**os.environ, **env}
    # Compiled once, as everywhere but in some containers; not at each start.
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryFile() as out, contextlib.ExitStack() as stack:
        began = time.perf_counter()
        with held():
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=own,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.callback(_kill, process)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read().decode(errors="replace")
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return Measured(seconds, cpu_s, usage.ru_maxrss * 1024, said)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command that an interruption has left."""
    if process.returncode is None:
        process.kill()
        process.wait()


def bare(way: str, path: Path, url: str = "") -> float:
    """The seconds that a bare way takes, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.files", "--bare", way, "--write", str(path)]
    done = measured([*command, "--postgres", url], ROOT, {})
    seconds: float = json.loads(done.out)
    return seconds


@contextlib.contextmanager
def simulator() -> Iterator[Mapping[str, Any]]:
    """A simulator that can pay any file; its addresses."""
    command = [sys.executable, "-m", "workers.simulator.payelata", "--until-stdin-closes"]
    command += ["--quiet", "--balance", BALANCE]
    with _program(command) as line:
        yield json.loads(line)


@contextlib.contextmanager
def server(folder: Path | None) -> Iterator[str]:
    """A PostgreSQL of our own; its address."""
    command = [sys.executable, "-m", "benchmarks.server", *([str(folder)] if folder else [])]
    with _program(command) as line:
        yield line.decode().strip().replace("postgresql:", "postgresql+psycopg:")


@contextlib.contextmanager
def _program(command: Sequence[str]) -> Iterator[bytes]:
    """A program that ends with its standard input; the line that it says when it is up.

    Raises:
        SystemExit: it has ended instead, and has said why.
    """
    with contextlib.ExitStack() as stack:
        with held():
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            stack.callback(_close, process)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(process.wait() or 1)
        yield line


def _close(process: subprocess.Popen[bytes]) -> None:
    """Let a program end, and wait for it: `with` does not, where it was interrupted."""
    with held():
        process.communicate()


@contextlib.contextmanager
def database(server_url: str) -> Iterator[str]:
    """A database of our own on that server; its address.

    Raises:
        SystemExit: no server answers there, or it refuses.
    """
    import psycopg  # noqa: PLC0415

    name = f"paybatch_bench_{secrets.token_hex(4)}"
    try:
        admin = psycopg.connect(server_url.replace("+psycopg", ""), autocommit=True)
    except psycopg.Error as error:
        raise SystemExit(
            f"--postgres: no database can be made there: {' '.join(str(error).split())}; without"
            " --postgres a server of our own is started"
        ) from None
    with admin:
        admin.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"{server_url.rpartition('/')[0]}/{name}"
        finally:
            with held():
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def settings_of(address: Mapping[str, Any], url: str) -> Mapping[str, str]:
    """The environment of a command that pays through that simulator."""
    account = {
        "provider": "payelata",
        "base_url": address["base_url"],
        "public_base_url": address["public_base_url"],
        "account_id": "coma_Demo0000Demo0001",
        "api_key": "demo-api-key",
        "public_key": "pk_test_demo",
        "signing_key": "sk_test_demo",
        "test_mode": "true",
        "rate_per_s": "0",
    }
    named = {f"PAYBATCH_ACCOUNTS__MAIN__{key.upper()}": str(text) for key, text in account.items()}
    return {
        **named,
        "PAYBATCH_DATABASE_URL": url,
        "PAYBATCH_ENCRYPTION_KEY": base64.b64encode(bytes(range(32))).decode(),
    }


def commands(
    path: Path, folder: Path, env: Mapping[str, str], formats: Sequence[str]
) -> Iterator[tuple[str, Measured]]:
    """Every command once, on an empty database."""
    paybatch = [str(Path(sys.executable).with_name("paybatch"))]
    # So that no command pays for making the tables.
    measured([*paybatch, "migrate"], folder, env)
    yield "start alone", measured([*paybatch, "--version"], folder, env)
    yield "check", measured([*paybatch, "check", str(path)], folder, env)
    stored = measured([*paybatch, "submit", str(path), "--json"], folder, env)
    yield "submit", stored
    batch_id = json.loads(stored.out)["batch_id"]
    yield "approve", measured([*paybatch, "approve", batch_id], folder, env)
    yield "status", measured([*paybatch, "status", batch_id], folder, env)
    for ending in formats:
        out = ["-o", str(folder / f"results.{ending}")]
        yield (
            f"results .{ending}",
            measured([*paybatch, "results", batch_id, *out], folder, env),
        )


def measure(count: int, flags: argparse.Namespace, folder: Path, server_url: str) -> None:
    """Measure one size on both databases, and print its lines of the table."""
    kind, formats = flags.kind, flags.results
    path = folder / f"payroll-{count}.{kind}"
    csv_path = path.with_suffix(".csv")
    for each in {path, csv_path}:
        write_apart(each, count, flags.group_rows)
    with simulator() as address, database(server_url) as url:
        # The best of three: what else the machine does only ever adds.
        copied = min(bare("copy", csv_path, url) for _ in range(3))
        read = min(bare("read", path) for _ in range(3))
        print(f"| {count:,} | bare read_{kind} | | {read:.2f} | 1.0 | | | |")
        print(f"| {count:,} | bare COPY | postgresql | {copied:.2f} | | 1.0 | | |", flush=True)
        for name, address_of in (("sqlite", ""), ("postgresql", url)):
            with tempfile.TemporaryDirectory(dir=folder) as work:
                env = settings_of(address, address_of or f"sqlite:///{work}/paybatch.db")
                for command, done in commands(path, Path(work), env, formats):
                    print(
                        f"| {count:,} | {command} | {name} | {done.seconds:.2f}"
                        f" | {done.seconds / read:.1f} | {done.seconds / copied:.1f}"
                        f" | {done.cpu_s:.2f} | {done.peak_bytes / MB:.0f} |",
                        flush=True,
                    )
    for each in {path, csv_path}:
        each.unlink()


def write_apart(path: Path, count: int, group_rows: int) -> None:
    """Write a file in another process: what this one had at its peak would count for each command
    that it starts."""
    command = [sys.executable, "-m", "benchmarks.files", "--write", str(path)]
    measured([*command, "--rows", str(count), "--group-rows", str(group_rows)], ROOT, {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 200_000, 1_000_000])
    parser.add_argument("--kind", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--group-rows", type=int, default=GROUP_ROWS, help="of a Parquet file")
    parser.add_argument("--results", nargs="*", default=["csv", "parquet"])
    parser.add_argument("--folder", type=Path, help="where there is room for the files")
    parser.add_argument("--postgres", metavar="URL", help="a server to use; else one is started")
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--bare", choices=("read", "copy"), help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.bare:
        is_copy = flags.bare == "copy"
        print(copy_bare(flags.write, flags.postgres) if is_copy else read_bare(flags.write))
        return 0
    if flags.write is not None:
        write(flags.write, flags.rows[0], flags.group_rows)
        return 0
    given = contextlib.nullcontext(flags.postgres)
    with given if flags.postgres else server(flags.folder) as url:
        print("| rows | what | database | seconds | x read | x COPY | CPU s | peak MB |")
        print("|---:|---|---|---:|---:|---:|---:|---:|")
        for count in flags.rows:
            with tempfile.TemporaryDirectory(dir=flags.folder) as folder:
                measure(count, flags, Path(folder), url)
    return 0


if __name__ == "__main__":
    program.run(main)
