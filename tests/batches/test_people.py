"""Who may do what: every cell of the table in docs/people.md, by its own command."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import tomllib
from pathlib import Path

import pytest

from batches import cli
from batches.people import MAY, Duty, may, operator, permit
from tests.batches.cli_world import usd_row
from tests.worlds import KEY, MAKER, approved, order, stored
from workers.clock import SystemClock
from workers.errors import NotAllowed
from workers.record.accounts import AccountBook
from workers.record.batches import BatchBook
from workers.record.database import Database
from workers.record.model import Actor
from workers.record.store import Store
from workers.record.vault import Vault
from workers.settings import Role, Settings

ROOT = Path(__file__).parents[2]
TABLE = re.compile(r"^\| (`.+?) \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \|$", re.MULTILINE)
ROLES = ("viewer", "maker", "checker", "admin")
ROWS = TABLE.findall((ROOT / "docs/people.md").read_text(encoding="utf-8"))
CELLS = [
    pytest.param(row[0], role, row[1 + n] == "yes", id=f"{row[0]} {role}")
    for row in ROWS
    for n, role in enumerate(ROLES)
]
ME = operator().name
SETTINGS = f"""
database_url = "sqlite:///paybatch.db"
encryption_key = "{KEY}"
broker_url = "BROKER"
[accounts.main]
provider = "payelata"
base_url = "http://127.0.0.1:9/api"
public_base_url = "http://127.0.0.1:9"
account_id = "coma_Demo0000Demo0001"
api_key = "demo-api-key"
public_key = "pk_test_demo"
signing_key = "sk_test_demo"
test_mode = true
connect_timeout_s = 0.2
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a draft, an approved batch and a finished one; their ids in a file."""
    folder = tmp_path_factory.mktemp("people")
    database = Database(f"sqlite:///{folder}/paybatch.db")
    database.prepare()
    AccountBook(database).register({"main": "payelata"})
    book, now = BatchBook(Store(database, Vault.from_text(KEY))), SystemClock().now()
    ids = [stored(book, [order()], now=now), approved(book, [order()], now=now)]
    (folder / "ids").write_text(" ".join(ids))
    database.close()
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(prepared / "paybatch.db", tmp_path)
    row = usd_row(1)
    text = "\n".join([",".join(row), ",".join(row.values()), ""])
    (tmp_path / "p.csv").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stands(folder: Path) -> list[tuple[object, ...]]:
    """All that somebody could have changed."""
    with contextlib.closing(sqlite3.connect(folder / "paybatch.db")) as connection:
        return [
            row
            for wanted in (
                "SELECT id, decision, carried_to FROM batches ORDER BY id",
                "SELECT id, state, due_at FROM payouts ORDER BY id",
                "SELECT name, paused_kind FROM accounts",
                "SELECT count(*) FROM batch_events",
            )
            for row in connection.execute(wanted)
        ]


def command_of(words: str, prepared: Path) -> tuple[list[str], str]:
    """The command line of a row of the table, and the broker it is meant for."""
    draft, running = (prepared / "ids").read_text().split()
    command, _, remark = words.partition("`,")
    given = command.replace("`", "").partition(" (")[0].split()
    batch = running if "approved" in remark or "watch" in given else draft
    known = {"BATCH": batch, "FILE": "p.csv", "OUT": "out.csv", "NAME": "main", "TEXT": "why"}
    known |= {"D": "2026-03-01", "SERVICE": "test_usd", "REFERENCE_ID": "NONE"}
    broker = "redis://127.0.0.1:9/0" if "cluster" in remark else "memory://"
    return [known.get(word, word) for word in given], broker


@pytest.mark.parametrize(("words", "role", "allowed"), CELLS)
def test_each_role_may_do_what_the_table_says_and_nothing_else(
    words: str,
    role: str,
    allowed: bool,
    folder: Path,
    prepared: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv, broker = command_of(words, prepared)
    if argv[0] == "watch" and allowed:
        # That it is let in is seen from its going on to look for the batch.
        argv[1] = "NONE"
    user = f'[users."{ME}"]\nroles = ["{role}"]\n'
    (folder / "paybatch.toml").write_text(SETTINGS.replace("BROKER", broker) + user)
    before = stands(folder)
    code = cli.main(argv)
    said = capsys.readouterr()
    refused = f"{ME} may not " in said.err
    assert refused is not allowed, (argv, code, said)
    # Let in, it came as far as the database or the provider, and not into an error of ours.
    assert code in (0, 2, 3, 6), (argv, code, said)
    assert "paybatch.toml" not in said.err
    if refused:
        assert code == 2
        assert f"the settings give {ME} {role}" in said.err
        assert stands(folder) == before


@pytest.mark.parametrize("words", [row[0] for row in ROWS])
def test_who_is_not_listed_may_do_nothing(
    words: str, folder: Path, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, broker = command_of(words, prepared)
    somebody = '[users.somebody-else]\nroles = ["admin"]\n'
    (folder / "paybatch.toml").write_text(SETTINGS.replace("BROKER", broker) + somebody)
    assert cli.main(argv) == 2
    assert f"{ME} is none of the users in the settings" in capsys.readouterr().err


def test_the_table_has_every_duty_and_every_command_that_takes_one() -> None:
    assert len(ROWS) == 29
    listed = {command_of_row.strip("`").split()[0] for command_of_row, *_ in ROWS}
    free = {"doctor", "health", "migrate", "providers", "simulator", "webhooks"}
    assert listed | free == set(cli.cli.commands)
    assert set(MAY) == set(Duty)


def settings_with(**users: list[str]) -> Settings:
    return Settings.model_validate(
        {"users": {name: {"roles": roles} for name, roles in users.items()}}
    )


@pytest.mark.parametrize("duty", list(Duty))
def test_without_users_everybody_may_do_everything(duty: Duty) -> None:
    assert may(Settings(), Actor("anybody", "here"), duty)


@pytest.mark.parametrize("duty", list(Duty))
def test_several_roles_allow_what_any_of_them_does(duty: Duty) -> None:
    settings = settings_with(maker=["maker", "checker"])
    assert may(settings, MAKER, duty) is not MAY[duty].isdisjoint({Role.MAKER, Role.CHECKER})


def test_a_refusal_names_the_role_that_it_takes() -> None:
    settings = settings_with(maker=["viewer", "maker"])
    with pytest.raises(NotAllowed) as refused:
        permit(settings, MAKER, Duty.DECIDE)
    assert str(refused.value) == (
        "maker may not approve, reject or resolve: that takes the role admin or checker, and the"
        " settings give maker maker and viewer"
    )


@pytest.mark.parametrize(
    "name", ["ann", "uid 5555", "first.last", 'DOMAIN\\"ann"', "Łukasz", "svc-pay_1"]
)
def test_who_is_not_listed_is_told_what_to_write_into_the_settings(name: str) -> None:
    with pytest.raises(NotAllowed) as refused:
        permit(settings_with(ann2=["admin"]), Actor(name, "here"), Duty.DECIDE)
    written = re.search(
        r"adds (\[users\..*\]) and below it (roles = \[.*\]) \(", str(refused.value)
    )
    assert written
    assert tomllib.loads("\n".join(written.groups())) == {"users": {name: {"roles": ["..."]}}}


@pytest.mark.parametrize("roles", [[], ["owner"], "maker"])
def test_a_role_that_is_none_is_a_fault_of_the_settings(roles: object) -> None:
    with pytest.raises(ValueError, match="roles"):
        Settings.model_validate({"users": {"ann": {"roles": roles}}})


def test_an_operator_is_told_with_machine_process_and_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSH_CLIENT", "192.0.2.7 50122 22")
    assert re.fullmatch(r"cli \S+ pid \d+( \S+)? ssh 192\.0\.2\.7", operator().origin)
    monkeypatch.setenv("SSH_CLIENT", "not an address")
    assert re.fullmatch(r"cli \S+ pid \d+( \S+)?", operator().origin)
