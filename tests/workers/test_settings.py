"""Settings: every rule is checked at once, the environment wins, and secrets are never shown."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.worlds import settings
from workers.errors import SettingsError
from workers.runtime import Runtime, settings_of
from workers.settings import (
    AccountSettings,
    ProviderSettings,
    Settings,
    check_base_url,
    is_loopback,
)

SECRET = "hunter2hunter2"
KEYS = {
    "provider": "payelata",
    "base_url": "http://127.0.0.1:9/api",
    "public_base_url": "http://127.0.0.1:9",
    "account_id": "coma_Demo0000Demo0001",
    "api_key": SECRET,
    "public_key": "pk_test_demo",
    "signing_key": SECRET,
    "test_mode": True,
}


class _Load:
    """Settings as a process with that folder and environment reads them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, toml: str = "", *, checked: bool = False, **environ: str) -> Settings:
        if toml:
            (self.folder / "paybatch.toml").write_text(toml, encoding="utf-8")
        return Settings.load(settings_of if checked else None, environ=environ, folder=self.folder)

    def problems(self, toml: str = "", **more: Any) -> list[str]:
        with pytest.raises(SettingsError) as refused:
            self(toml, **more)
        return list(refused.value.problems)


@pytest.fixture
def load(tmp_path: Path) -> _Load:
    return _Load(tmp_path)


def account(name: str = "main", **changes: Any) -> str:
    """A table of the file for an account whose keys are right but for the changes."""
    values = {key: value for key, value in {**KEYS, **changes}.items() if value is not None}
    lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join([f"[accounts.{name}]", *lines, ""])


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_with_no_settings_at_all_the_defaults_are_those_of_the_design(load: _Load) -> None:
    chosen = load()
    assert chosen.database_url == "sqlite:///paybatch.db"
    assert chosen.broker_url == "memory://"
    assert chosen.embedded
    assert chosen.usual_account == "sandbox"
    usual = AccountSettings(provider="x")
    budgets = (usual.call_deadline_s, usual.claim_s, usual.announce_s, usual.lookup_grace_s)
    assert (*budgets, chosen.visibility_s) == (30, 90, 120, 600, 900)


def test_a_good_file_is_taken(load: _Load) -> None:
    chosen = load(f"approvals = 2\n{account(rate_per_s=0.5)}", checked=True)
    assert chosen.approvals == 2
    assert chosen.accounts["main"].rate_per_s == 0.5
    assert chosen.accounts["main"].options["account_id"] == KEYS["account_id"]


# --- where values come from ---


def test_the_environment_wins_over_the_file(load: _Load) -> None:
    chosen = load(
        f"approvals = 1\nrows_max = 7\n{account(claim_s=91)}",
        PAYBATCH_APPROVALS="2",
        PAYBATCH_ACCOUNTS__MAIN__CLAIM_S="92.5",
        PAYBATCH_ACCOUNTS__MAIN__API_KEY="other",
    )
    assert (chosen.approvals, chosen.rows_max) == (2, 7)
    assert chosen.accounts["main"].claim_s == 92.5
    assert chosen.accounts["main"].options["api_key"] == "other"
    assert chosen.accounts["main"].options["account_id"] == KEYS["account_id"]


def test_an_account_may_come_from_the_environment_alone(load: _Load) -> None:
    environ = {f"PAYBATCH_ACCOUNTS__EU__{key.upper()}": str(v) for key, v in KEYS.items()}
    chosen = load(checked=True, **environ)
    assert list(chosen.accounts) == ["eu"]
    assert chosen.usual_account == "eu"


def test_a_table_may_be_written_as_json(load: _Load) -> None:
    chosen = load(PAYBATCH_ACCOUNTS='{"main": {"provider": "payelata", "claim_s": 91}}')
    assert chosen.accounts["main"].claim_s == 91


def test_a_text_that_only_looks_like_json_stays_text(load: _Load) -> None:
    chosen = load(account(), PAYBATCH_ACCOUNTS__MAIN__API_KEY="{not json")
    assert chosen.accounts["main"].options["api_key"] == "{not json"


def test_defaults_lie_below_the_file_and_are_not_changed(tmp_path: Path) -> None:
    defaults = {"approvals": 2, "rows_max": 5, "accounts": {"main": {"provider": "x"}}}
    (tmp_path / "paybatch.toml").write_text("rows_max = 7\n[accounts.main]\nclaim_s = 91\n")
    chosen = Settings.load(defaults=defaults, environ={}, folder=tmp_path)
    assert (chosen.approvals, chosen.rows_max) == (2, 7)
    assert (chosen.accounts["main"].provider, chosen.accounts["main"].claim_s) == ("x", 91)
    assert defaults["accounts"] == {"main": {"provider": "x"}}


def test_a_named_file_is_read_instead(load: _Load, tmp_path: Path) -> None:
    (tmp_path / "paybatch.toml").write_text("approvals = 1\n")
    (tmp_path / "else.toml").write_text("approvals = 2\n")
    assert load(PAYBATCH_CONFIG=str(tmp_path / "else.toml")).approvals == 2


def test_a_named_file_that_is_missing_is_refused(load: _Load, tmp_path: Path) -> None:
    (problem,) = load.problems(PAYBATCH_CONFIG=str(tmp_path / "nowhere.toml"))
    assert "nowhere.toml, which does not exist" in problem


@pytest.mark.parametrize("content", [b"approvals = ", b"a = 1\na = 2", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_refused_with_its_name(
    load: _Load, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "paybatch.toml").write_bytes(content)
    (problem,) = load.problems()
    assert "paybatch.toml cannot be read as TOML" in problem


def test_other_variables_are_not_settings(load: _Load) -> None:
    assert load(HOME="/", PAYBATCH_TEST_POSTGRES_URL="x", OTHER_APPROVALS="9").approvals == 1


def test_a_variable_inside_a_plain_value_is_refused(load: _Load) -> None:
    (problem,) = load.problems(PAYBATCH_APPROVALS="1", PAYBATCH_APPROVALS__X="2")
    assert problem == "PAYBATCH_APPROVALS__X goes into a setting that has a value of its own"


# --- what is refused ---


def test_the_budgets_are_refused_out_of_their_order(load: _Load) -> None:
    names = ["call_deadline_s", "claim_s", "announce_s", "lookup_grace_s"]
    usual = {name: getattr(AccountSettings(provider="x"), name) for name in names}
    for small, large in itertools.pairwise(names):
        for value in (usual[large], usual[large] + 1):
            (problem,) = load.problems(account(**{small: value}))
            assert f"{small} ({value:g}) must be less than {large}" in problem


@pytest.mark.parametrize("visibility_s", [600, 599.5])
def test_a_broker_must_keep_a_message_longer_than_a_create_is_in_doubt(
    load: _Load, visibility_s: float
) -> None:
    (problem,) = load.problems(f"broker_visibility_s = {visibility_s}\n{account()}")
    assert "must be more than accounts.main.lookup_grace_s (600)" in problem


BAD = [
    ("approvals = 0", "approvals"),
    ("approvals = 3", "approvals"),
    ("rows_max = 0", "rows_max"),
    ("dispatch_window = 0", "dispatch_window"),
    ("duplicate_window_days = -1", "duplicate_window_days"),
    ("watch_paid_days = -1", "watch_paid_days"),
    ("broker_visibility_s = 0", "broker_visibility_s"),
    ("callback_base_url = 'http://example.com'", "callback_base_url"),
    ("aprovals = 2", "aprovals: is not a setting; check its spelling"),
    ("accounts = 3", "accounts"),
    ("[accounts.main]\nclaim_s = 90", "accounts.main.provider: is missing"),
    (account(claim_s=0), "accounts.main.claim_s"),
    (account(rate_per_s=-1), "accounts.main.rate_per_s"),
    (account(in_flight_max=0), "accounts.main.in_flight_max"),
    (account(in_flight_max=1001), "accounts.main.in_flight_max"),
    (account(attempts_max=0), "accounts.main.attempts_max"),
    (account(process_tries_max=0), "accounts.main.process_tries_max"),
    (account(poll_first_s="soon"), "accounts.main.poll_first_s"),
    ("[accounts.main]\nprovider = 'x'\npoll_max_s = inf", "accounts.main.poll_max_s"),
    ("[accounts.main]\nprovider = 'x'\npoll_max_s = nan", "accounts.main.poll_max_s"),
    ("[users.ann]\nroles = ['boss']", "users.ann.roles.0: Input should be 'maker', 'checker'"),
    ("[users.ann]\nroles = []", "users.ann.roles: Tuple should have at least 1 item"),
    ("[users.'uid 5555']\nroles = []", 'users."uid 5555".roles: '),
]


@pytest.mark.parametrize(("toml", "expected"), BAD)
def test_a_wrong_value_is_refused_by_its_name(load: _Load, toml: str, expected: str) -> None:
    (problem,) = load.problems(toml)
    assert problem.startswith(expected)


def test_a_missing_value_is_told_with_both_ways_to_set_it(load: _Load) -> None:
    (problem,) = load.problems("[accounts.main]\nclaim_s = 90")
    assert problem == (
        "accounts.main.provider: is missing; set it in paybatch.toml or as"
        " PAYBATCH_ACCOUNTS__MAIN__PROVIDER"
    )


def test_all_problems_are_told_at_once(load: _Load) -> None:
    toml = f"approvals = 9\nspeling = 1\n{account(claim_s=-1, api_key=None, colour='red')}"
    problems = load.problems(toml, checked=True)
    names = {problem.split(":")[0] for problem in problems}
    assert names >= {
        "approvals",
        "speling",
        "accounts.main.claim_s",
        "accounts.main.api_key",
        "accounts.main.colour",
    }


def test_a_provider_that_is_not_installed_is_named(load: _Load) -> None:
    (problem,) = load.problems("[accounts.main]\nprovider = 'nobody'", checked=True)
    assert problem.startswith("accounts.main.provider: provider 'nobody' is not installed")


def test_a_providers_own_keys_are_checked_by_its_model(load: _Load) -> None:
    class Config(BaseModel):
        shop_id: int

    (load.folder / "paybatch.toml").write_text("[accounts.main]\nprovider = 'x'\nshop_id = 'a'\n")
    with pytest.raises(SettingsError, match=r"accounts\.main\.shop_id"):
        Settings.load(lambda _: ProviderSettings(Config, {}), environ={}, folder=load.folder)


def test_a_providers_defaults_go_under_what_is_set(load: _Load) -> None:
    class Config(BaseModel):
        pass

    (load.folder / "paybatch.toml").write_text("[accounts.main]\nprovider = 'x'\nrate_per_s = 7\n")
    adds = ProviderSettings(Config, {"rate_per_s": 2, "poll_first_s": 60, "lookup_grace_s": 3600})
    main = Settings.load(lambda _: adds, environ={}, folder=load.folder).accounts["main"]
    assert (main.rate_per_s, main.poll_first_s, main.lookup_grace_s) == (7, 60, 3600)


def test_the_broker_waits_longer_than_the_longest_doubt(load: _Load) -> None:
    chosen = load(account(lookup_grace_s=3600))
    assert chosen.visibility_s == 5400


def test_postgresql_requires_a_key_of_ones_own(load: _Load) -> None:
    toml = "database_url = 'postgresql+psycopg://u@h/n'"
    (problem,) = load.problems(toml)
    assert "encryption_key is required with PostgreSQL" in problem
    assert load(toml, PAYBATCH_ENCRYPTION_KEY="x").encryption_key is not None


# --- addresses ---


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com:8443/api",
        "http://127.0.0.1:9101/api",
        "http://127.8.8.8",
        "http://[::1]:80",
        "http://localhost:5000",
    ],
)
def test_https_and_this_machine_are_taken(url: str) -> None:
    assert check_base_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0",
        "http://user@127.0.0.1",
        "https://user:pass@example.com",
        "https://example.com?key=1",
        "https://example.com#x",
        "ftp://example.com",
        "file:///etc/passwd",
        "example.com",
        "https://",
        "",
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        check_base_url(url)


@pytest.mark.parametrize("host", ["payelata", "sim-2"])
def test_plain_http_is_taken_for_a_sandbox_host_and_no_other(host: str) -> None:
    assert check_base_url(f"http://{host}:9101/api", [host]) == f"http://{host}:9101/api"
    with pytest.raises(ValueError, match="expected https"):
        check_base_url(f"http://{host}:9101/api", ["other"])
    with pytest.raises(ValueError, match="expected an address without user"):
        check_base_url(f"http://user@{host}", [host])


def test_a_name_that_the_internet_could_have_is_no_sandbox_host(tmp_path: Path) -> None:
    for host in ("api.example.com", "10.0.0.1"):
        with pytest.raises(ValueError, match="expected https"):
            check_base_url(f"http://{host}", [host])
        environ = {"PAYBATCH_SANDBOX_HOSTS": f'["{host}"]'}
        with pytest.raises(SettingsError, match="sandbox_hosts"):
            Settings.load(settings_of, environ=environ, folder=tmp_path)


def test_an_account_at_a_sandbox_host_is_opened_only_where_the_settings_name_it(
    tmp_path: Path,
) -> None:
    url = {"base_url": "http://payelata:9101/api"}
    with pytest.raises(SettingsError, match="expected https"):
        settings(tmp_path, account=url)
    runtime = Runtime.open(settings(tmp_path, account=url, sandbox_hosts=["payelata"]))
    assert list(runtime.accounts) == ["main"]
    runtime.close()


@pytest.mark.parametrize(("host", "is_here"), [("::1", True), ("[::1]", True), ("::2", False)])
def test_this_machine_has_ipv6_addresses_too(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here


# --- accounts that nobody named ---


@pytest.mark.parametrize(
    ("names", "default", "usual"),
    [
        ((), None, "sandbox"),
        (("sandbox",), None, "sandbox"),
        (("eu",), None, "eu"),
        (("sandbox", "eu"), None, "eu"),
        (("eu", "main"), None, "main"),
        (("eu", "main"), "eu", "eu"),
        (("sandbox", "eu"), "sandbox", "sandbox"),
        # Nobody said which: `--account` can.
        (("eu", "us"), None, None),
    ],
)
def test_the_usual_account_is_the_named_one_the_only_one_or_main(
    load: _Load, names: tuple[str, ...], default: str | None, usual: str | None
) -> None:
    named = f"default_account = '{default}'\n" if default else ""
    assert load(named + "".join(account(name) for name in names)).usual_account == usual


def test_a_usual_account_that_is_not_set_up_is_refused(load: _Load) -> None:
    (problem,) = load.problems("default_account = 'us'\n" + account("eu"))
    assert "is none of the accounts: eu" in problem


# --- secrets ---


def test_the_encryption_key_is_in_no_text_of_the_settings(load: _Load) -> None:
    chosen = load(PAYBATCH_ENCRYPTION_KEY=SECRET)
    assert SECRET not in repr(chosen) + str(chosen) + chosen.model_dump_json()
    assert chosen.encryption_key is not None
    assert chosen.encryption_key.get_secret_value() == SECRET


def test_a_refusal_never_shows_a_value(load: _Load) -> None:
    toml = account(api_key=[SECRET], claim_s=SECRET, colour=SECRET)
    told = load.problems(toml, checked=True, PAYBATCH_ENCRYPTION_KEY=f'["{SECRET}"]')
    assert len(told) >= 4
    assert SECRET not in "\n".join(told)


def test_settings_cannot_be_changed(load: _Load) -> None:
    chosen = load(account())
    with pytest.raises(ValidationError, match="frozen"):
        chosen.approvals = 2
    with pytest.raises(ValidationError, match="frozen"):
        chosen.accounts["main"].claim_s = 1


@pytest.mark.parametrize("name", ["A?x", "a#b", "main/verify", "two words", "ä", "a" * 65])
def test_an_account_has_a_name_that_fits_an_address(load: _Load, name: str) -> None:
    (problem,) = load.problems(account(f'"{name}"'))
    assert "no name for an account" in problem


@pytest.mark.parametrize("token", ["", "fifteen-letters", "sixteen-letters\n", "\u00fc" * 16])
def test_a_token_that_could_be_guessed_or_sent_by_nobody_is_refused(
    load: _Load, token: str
) -> None:
    problems = load.problems(PAYBATCH_METRICS_TOKEN=token)
    assert problems == ["metrics_token: expected at least 16 printable ASCII characters"]


def test_a_token_is_kept_secret(load: _Load) -> None:
    made = load(PAYBATCH_METRICS_TOKEN="a-long-enough-token")
    assert "a-long-enough-token" not in repr(made)
    assert load().metrics_token is None
