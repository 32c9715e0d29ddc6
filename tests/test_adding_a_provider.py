"""docs/adding-a-provider.md is true: its plug-in is installed, checked, run and proved as the page
says, and the screens that it shows are the ones that are printed.
"""

from __future__ import annotations

import ast
import configparser
import contextlib
import csv
import dataclasses
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from workers.providers.port import ENTRY_POINTS, Capabilities
from workers.record.status import Outcome
from workers.settings import AccountSettings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "adding-a-provider.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
TIMEOUT_S = 120
START_S = 60
# A server and tests print, assert, start processes and read the environment.
NOT_FOR_TESTS = "S,PLR,T20,TID251"
# Progress on standard error comes by the clock.
PROGRESS = re.compile(r"[0-9]+/[0-9]+ settled, ")


class Block(NamedTuple):
    """A fenced block of the page, and the paragraph that leads to it."""

    lead: str
    language: str
    text: str


def _blocks(page: str) -> Iterator[Block]:
    end = 0
    for fence in re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        lead = page[end : fence.start()].strip().rpartition("\n\n")[2]
        yield Block(lead, fence[1], fence[2])
        end = fence.end()


BLOCKS = list(_blocks(PAGE))
# By the name that the paragraph before it begins with: "`acme.py`".
FILES = {
    named[1]: block.text
    for block in BLOCKS
    if (named := re.match(r"`(\w+\.\w+)`", block.lead)) and block.language != "console"
}
# Commands, each with the lines that the page shows below it.
SCREENS = [
    (command, shown)
    for block in BLOCKS
    if block.language == "console"
    for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
]
SHELL = "".join(block.text for block in BLOCKS if block.language == "sh")
EXPORTED = dict(re.findall(r"^export (\w+)=(\S+)$", SHELL, re.MULTILINE))
PROJECT = tomllib.loads(FILES["pyproject.toml"])["project"]


def install(folder: Path, **changed: str) -> None:
    """Write the page's files, and what an installer makes of its pyproject.toml.

    Args:
        changed: an adapter that is not the page's, as `acme`.
    """
    for name, text in FILES.items():
        (folder / name).write_text(changed.get(name.removesuffix(".py"), text), encoding="utf-8")
    info = folder / f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    (info / "METADATA").write_text(metadata)
    points = configparser.ConfigParser()
    points.read_dict(PROJECT["entry-points"])
    with (info / "entry_points.txt").open("w") as file:
        points.write(file)


def environ(folder: Path, **more: str) -> dict[str, str]:
    """A shell in which the plug-in is installed, and nothing of ours is set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PAYBATCH_", "PYTEST_"))}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    # So wide is a screen that is no terminal.
    shell = {"PATH": path, "PYTHONPATH": str(folder), "COLUMNS": "80"}
    return {**kept, **shell, **EXPORTED, **more}


def ran(
    command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@contextlib.contextmanager
def stand_in(folder: Path) -> Iterator[int]:
    """The page's stand-in as the page starts it, at a free port."""
    started = re.search(r"^python (\S+) --port \d+ > (\S+) &$", SHELL, re.MULTILINE)
    assert started, SHELL
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    command = [sys.executable, started[1], "--port", str(port)]
    with (
        (folder / started[2]).open("w") as printed,
        subprocess.Popen(command, cwd=folder, stdout=printed, stdin=subprocess.DEVNULL) as process,
    ):
        try:
            until = time.monotonic() + START_S
            while time.monotonic() < until and process.poll() is None:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


def typed(command: str, code: int, folder: Path, env: Mapping[str, str]) -> tuple[str, int]:
    """What a command prints, and its exit code.

    Args:
        code: that of the command before, for `echo $?`.
    """
    ended = ran(["bash", "-c", f"(exit {code}); {command}"], folder, env)
    assert "Traceback" not in ended.stderr, ended.stderr
    errors = [line for line in ended.stderr.splitlines() if not PROGRESS.match(line)]
    lines = [*ended.stdout.splitlines(), *errors]
    if command == "paybatch providers":
        lines = first_provider(lines)
    return plain("\n".join(lines)), ended.returncode


def first_provider(lines: Sequence[str]) -> list[str]:
    """The first provider's column; the page leaves the others out, and the lines below them."""
    below = next(at for at, line in enumerate(lines) if line.startswith("What of this"))
    starts = [word.start() for word in re.finditer(r"\S+", lines[0])]
    return [line[: starts[1]] for line in lines[:below]]


def plain(text: str) -> str:
    """Without what differs from run to run, or cannot be seen."""
    text = re.sub(r"\b([Bb]atch) [0-9A-Z]{7}\b", r"\1 XXXXXXX", text)
    text = re.sub(r"\bin \d+\.\d\ds$", "in 0.00s", text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines())


def adapter(path: Path) -> ModuleType:
    """The page's adapter, in this process."""
    spec = importlib.util.spec_from_file_location("acme_of_the_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path)
    return tmp_path


# --- the page's words ---


def test_the_page_has_the_files_that_it_speaks_of() -> None:
    assert set(FILES) == {
        *("acme.py", "pyproject.toml", "paybatch.toml"),
        *("acme_stand_in.py", "march.csv", "test_acme.py"),
    }
    assert len(SCREENS) >= 8
    assert len(EXPORTED) == 1


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Capabilities)])
def test_the_page_tells_of_every_capability(name: str) -> None:
    table = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert any(f"`{name}`" in line for line in table)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_page_tells_of_every_outcome(outcome: Outcome) -> None:
    assert re.search(rf"`{outcome.name}`", PAGE)


def test_the_page_tells_of_every_error_that_the_adapter_lists(folder: Path) -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    for (status, code), outcome in adapter(folder / "acme.py").ERRORS.items():
        said = [line for line in rows if f"| {status} " in line and f"`{code}`" in line]
        assert len(said) == 1, code
        assert f"`{outcome.name}`" in said[0]


def test_the_adapter_imports_only_what_the_page_allows() -> None:
    said = re.search(r"^It may import (.*?)Everything else", PAGE, re.MULTILINE | re.DOTALL)
    assert said
    short = set(re.findall(r"`([\w.]+)`", said[1]))
    allowed = {name if "." in name else f"workers.providers.{name}" for name in short}
    imported: set[str] = set()
    for node in ast.walk(ast.parse(FILES["acme.py"])):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("workers"):
            within = node.module == "workers.providers"
            imported |= {f"{node.module}.{each.name}" for each in node.names if within}
            imported |= set() if within else {str(node.module)}
        elif isinstance(node, ast.Import):
            imported |= {each.name for each in node.names if each.name.startswith("workers")}
    assert imported
    assert imported <= allowed


def test_the_package_asks_for_this_version_of_paybatch() -> None:
    (needed,) = map(Requirement, PROJECT["dependencies"])
    assert needed.name == "paybatch"
    assert needed.specifier.contains(version("paybatch"))
    assert not needed.specifier.contains("1.0")
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(ours["requires-python"])
    assert set(PROJECT["entry-points"]) == {ENTRY_POINTS}


# --- the page's code ---


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith(".py")))
def test_the_code_keeps_the_rules_of_the_house(name: str, folder: Path) -> None:
    config: list[str | Path] = ["--config", ROOT / "pyproject.toml", "--no-cache"]
    ignored = [] if name == "acme.py" else ["--extend-ignore", NOT_FOR_TESTS]
    for command in (["check", "--output-format", "concise", *ignored], ["format", "--diff"]):
        ended = ran([BIN / "ruff", *command, *config, folder / name], ROOT)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def mypy(folder: Path) -> subprocess.CompletedProcess[str]:
    """As the page says: from anywhere, with the sources of Paybatch in sight."""
    files = sorted(name for name in FILES if name.endswith(".py"))
    cache = ("--cache-dir", str(folder / ".mypy"))
    command = [sys.executable, "-m", "mypy", "--strict", *cache, *files]
    return ran(command, folder, {**os.environ, "MYPYPATH": str(ROOT)})


def test_a_type_checker_takes_the_code_and_finds_what_of_the_port_is_missing(folder: Path) -> None:
    ended = mypy(folder)
    assert ended.returncode == 0, ended.stdout
    lines = FILES["acme.py"].splitlines()
    last = next(number for number, line in enumerate(lines, 1) if "port.Provider" in line)
    without = FILES["acme.py"].replace("def list_payouts(", "def list_nothing(")
    (folder / "acme.py").write_text(without, encoding="utf-8")
    ended = mypy(folder)
    assert ended.returncode == 1
    assert f"acme.py:{last}: error: Incompatible types" in ended.stdout


def test_what_the_adapter_assumes_can_be_set(folder: Path) -> None:
    acme = adapter(folder / "acme.py").Acme
    usual = set(AccountSettings.model_fields)
    assert set(acme.account_defaults) <= usual
    assumed = [fact for fact in acme.facts if fact.support == "assumed"]
    assert assumed
    for fact in assumed:
        assert fact.settings, fact.claim
        assert set(fact.settings) <= usual | set(acme.Config.model_fields), fact.claim
    assert {fact.support for fact in acme.facts} <= {"documented", "assumed", "seen"}


def test_a_source_is_a_line_of_the_providers_page(folder: Path) -> None:
    (block,) = [block.text for block in BLOCKS if block.language == "text"]
    lines = set(re.findall(r"^ ?(\d+)  ", block, re.MULTILINE))
    assert lines == {str(number) for number in range(1, 11)}
    for fact in adapter(folder / "acme.py").Acme.facts:
        assert set(re.findall(r"\d+", fact.source)) <= lines


def test_the_key_is_never_shown(folder: Path) -> None:
    module = adapter(folder / "acme.py")
    config = module.AcmeConfig.model_validate({"base_url": "http://127.0.0.1:9", "api_key": "s3c"})
    assert "s3c" not in repr(config)


# --- the page's screens ---


@pytest.mark.timeout(2 * TIMEOUT_S)
def test_the_screens_are_what_is_printed_and_each_line_is_paid_once(folder: Path) -> None:
    printed, shown, code = [], [], 0
    with stand_in(folder) as port:
        env = environ(folder, PAYBATCH_ACCOUNTS__ACME__BASE_URL=f"http://127.0.0.1:{port}")
        for command, below in SCREENS:
            text, code = typed(command, code, folder, env)
            printed += [f"$ {command}", text]
            shown += [f"$ {command}", plain(below)]
    assert "\n".join(printed) == "\n".join(shown)
    check_money(folder)


def check_money(folder: Path) -> None:
    """The results against the stand-in's ledger: every line was asked for once."""
    ledger = [line.split() for line in (folder / "acme.ledger").read_text().splitlines()]
    with (folder / "march.results.csv").open(newline="") as file:
        results = list(csv.DictReader(file))
    given = list(csv.DictReader(FILES["march.csv"].splitlines()))
    assert [row["reference_id"] for row in results] == [row["reference_id"] for row in given]
    assert [Decimal(row["amount"]) for row in results] == [Decimal(row["amount"]) for row in given]
    assert sorted(ledger) == sorted(
        [row["reference_id"], str(int(Decimal(row["amount"]) * 100)), row["currency"]]
        for row in given
    )
    for row, line in zip(results, given, strict=True):
        refused = line["description"] == "refuse it"
        assert row["state"] == ("failed" if refused else "paid"), row
        assert row["attempts"] == "1", row


def test_what_is_told_of_a_plug_in_are_its_own_facts(folder: Path) -> None:
    ended = ran([BIN / "paybatch", "providers", "--json"], folder, environ(folder))
    told: dict[str, Any] = {
        each["provider"]: each for each in json.loads(ended.stdout)["providers"]
    }
    acme = adapter(folder / "acme.py").Acme
    assert [fact["claim"] for fact in told["acme"]["facts"]] == [one.claim for one in acme.facts]
    assert told["acme"]["defaults"] == acme.account_defaults
    assert "payelata" in told


@pytest.mark.timeout(2 * TIMEOUT_S)
@pytest.mark.parametrize(
    ("old", "new", "seen", "times"),
    [
        pytest.param(
            "return self.poll(order, order.reference_id)",
            "return Reply(outcome=Outcome.NOT_FOUND)",
            "M-2 250 EUR",
            2,
            id="what was sent is never found, so it is sent again",
        ),
        pytest.param(
            '"amount": order.amount.minor',
            '"amount": order.amount.minor * 100',
            "amount: 250.00 EUR, sent: 2.50 EUR",
            1,
            id="minor units are taken for major ones",
        ),
    ],
)
def test_the_pages_own_test_fails_where_money_would_go_wrong(
    old: str, new: str, seen: str, times: int, tmp_path: Path
) -> None:
    assert FILES["acme.py"].count(old) == 1
    install(tmp_path, acme=FILES["acme.py"].replace(old, new))
    command = [sys.executable, "-m", "pytest", "-q", "-k", "paid_once", "test_acme.py"]
    ended = ran(command, tmp_path, environ(tmp_path))
    assert ended.returncode == 1, ended.stdout
    assert "1 failed" in ended.stdout
    assert ended.stdout.count(seen) == times, ended.stdout
