"""An adapter of somebody else that cannot be used is named, and stops nobody else's."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batches import declarations
from batches.cli import cli
from workers.errors import SettingsError
from workers.providers.payelata import Payelata
from workers.providers.port import load_provider

HALF = """
from workers.providers.payelata import Payelata
from workers.providers.port import Provider

class Whole(Payelata):
    name = "acme"

class Half(Provider):
    def create(self, order): ...

half = Half.__new__(Half)
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package into this process's path as an installer would: what it adds, by name."""
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        monkeypatch.delitem(sys.modules, name)

    def put(module: str, text: str, **points: str) -> None:
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{module}-0.1.dist-info"
        info.mkdir()
        project = module.replace("_", "-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 0.1\n")
        lines = [f"{name} = {module}:{value}" for name, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[paybatch.providers]", *lines, ""]))
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield put
    for name in [name for name in sys.modules if name.startswith("acme_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ("import acme_nothing", "Acme", "cannot be imported: ModuleNotFoundError: No module named"),
        ("raise OSError('no disk')", "Acme", "cannot be imported: OSError: no disk"),
        ("", "Acme", "cannot be imported: AttributeError"),
        ("Acme = 5", "Acme", "is no adapter; it lacks: a class"),
        (HALF, "half", "is no adapter; it lacks: a class"),
        ("class Acme: name = 'acme'", "Acme", "it lacks: capabilities, Config, account_defaults,"),
        (HALF, "Half", "it lacks: name, capabilities,"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_a_settings_error_that_names_it(
    install: Install, text: str, value: str, told: str
) -> None:
    install("acme_one", text, acme=value)
    with pytest.raises(SettingsError) as refused:
        load_provider("acme")
    (problem,) = refused.value.problems
    assert problem.startswith(f"provider 'acme', acme_one:{value} of acme-one 0.1, ")
    assert told in problem


def test_every_member_that_is_missing_is_named(install: Install) -> None:
    install("acme_one", HALF, acme="Half")
    with pytest.raises(SettingsError) as refused:
        load_provider("acme")
    lacks = str(refused.value).partition("it lacks: ")[2].split(", ")
    assert {"name", "facts", "webhook_answers", "why_not", "poll", "list_payouts"} <= set(lacks)
    assert "create" not in lacks
    assert not any(name.startswith("_") for name in lacks)


def test_two_adapters_under_one_name_are_refused_and_both_named(install: Install) -> None:
    install("acme_one", HALF, acme="Whole", acme2="Whole")
    assert issubclass(load_provider("acme"), Payelata)
    install("acme_two", HALF, acme="Whole")
    with pytest.raises(SettingsError, match="installed more than once") as refused:
        load_provider("acme")
    assert "acme_one:Whole of acme-one 0.1 and acme_two:Whole of acme-two 0.1" in str(refused.value)
    assert issubclass(load_provider("acme2"), Payelata)


def test_providers_and_doctor_say_so_in_a_line_and_go_on(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    install("acme_one", HALF, acme="Whole", broken="Half")
    assert list(declarations.broken()) == ["broken"]

    ended = _run("providers")
    assert ended.return_value == 2
    assert " payelata" in ended.stdout
    assert "for acme, which plug-ins add: paybatch providers --json" in ended.stdout
    (line,) = [line for line in ended.stderr.splitlines() if "'broken'" in line]
    assert line.startswith("PROBLEM  provider 'broken', acme_one:Half of acme-one 0.1, is no")
    told = json.loads(_run("providers", "--json").stdout)["providers"]
    assert {"acme", "payelata"} <= {one["provider"] for one in told}
    assert "broken" not in {one["provider"] for one in told}

    ended = _run("doctor", "--json")
    assert ended.return_value == 2
    checks = {one["check"]: one for one in json.loads(ended.stdout)["checks"]}
    assert [name for name, one in checks.items() if not one["ok"]] == ["provider"]
    assert "provider 'broken'" in checks["provider"]["detail"]
    assert "payelata answers" in checks["account sandbox"]["detail"]


def test_an_account_of_an_adapter_that_cannot_be_used_is_told_once(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("acme_one", HALF, broken="Half")
    monkeypatch.chdir(tmp_path)
    Path("paybatch.toml").write_text('[accounts.main]\nprovider = "broken"\n')
    checks = json.loads(_run("doctor", "--json").stdout)["checks"]
    assert [one["check"] for one in checks] == ["settings"]
    assert checks[0]["detail"].startswith("accounts.main.provider: provider 'broken', ")


def _run(*words: str) -> Any:
    return CliRunner().invoke(cli, list(words), standalone_mode=False, catch_exceptions=False)
