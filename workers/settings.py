"""The settings: frozen values from `paybatch.toml` and the environment, all faults told at once.

The only reader of the environment. Secrets have a masked repr and are opened where they are used.
"""

from __future__ import annotations

import copy
import ipaddress
import itertools
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from workers.errors import SettingsError
from workers.logs import LogFormat
from workers.schedules import Schedule, as_list, problems_between

PREFIX = "PAYBATCH_"
# Read by others: the path of the file, and the servers that the tests may use.
NOT_SETTINGS = ("PAYBATCH_CONFIG", "PAYBATCH_TEST_")
FILE_NAME = "paybatch.toml"
ACCOUNT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
# TOML 1.0, "Keys": any other name is written in quotes.
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
SANDBOX = "sandbox"
# The account that is there when no other is: a simulator on this machine, started by the command
# that uses it. Its keys are invented, and the simulator's own defaults.
SANDBOX_ACCOUNT: Mapping[str, Any] = {
    "provider": "payelata",
    "base_url": "http://127.0.0.1:9/api",
    "public_base_url": "http://127.0.0.1:9",
    "account_id": "coma_Demo0000Demo0001",
    "api_key": "demo-api-key",
    "public_key": "pk_test_demo",
    "signing_key": "sk_test_demo",
    "test_mode": True,
    # The simulator is near, quick and never busy: short budgets, in the same order as the others.
    "rate_per_s": 0,
    "in_flight_max": 32,
    "connect_timeout_s": 2,
    "read_timeout_s": 4,
    "call_deadline_s": 5,
    "claim_s": 12,
    "announce_s": 18,
    "poll_first_s": 0.15,
    "poll_max_s": 2,
    "lookup_first_s": 0.5,
    "lookup_grace_s": 25,
    "process_repeat_s": 6,
}

# Of the broker's visibility time-out, where it is not set: 900 s to 600 s of grace.
VISIBILITY_S_MIN = 900
VISIBILITY_RATIO = 1.5

TOKEN_CHARS_MIN = 16

Secret = SecretStr
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ProviderSettings(NamedTuple):
    """What a provider adds to the settings of its accounts."""

    # The model of its own keys.
    model: type[BaseModel]
    # Its defaults of the keys that every account has.
    defaults: Mapping[str, Any]


# One label, as a container's name on its own network.
HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
SettingsOf = Callable[[str], ProviderSettings]


def is_loopback(host: str) -> bool:
    """Whether that host name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_base_url(url: str, sandbox_hosts: Collection[str] = ()) -> str:
    """A provider's address: `https`, or `http` on this machine; no query, user or password.

    Args:
        sandbox_hosts: names of other machines that run simulators, where `http` is taken too. A
            name with a dot counts for nothing: a real provider has one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an address such as https://api.example.com")
    simulated = parts.hostname in sandbox_hosts and "." not in parts.hostname
    if parts.scheme == "http" and not (simulated or is_loopback(parts.hostname)):
        raise ValueError("expected https:// (http:// only on this machine)")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("expected an address without user, password, query or fragment")
    return url.rstrip("/")


def _checked(url: str, info: ValidationInfo) -> str:
    return check_base_url(url, (info.context or {}).get("sandbox_hosts") or ())


# Validated with the context `{"sandbox_hosts": ...}` where the settings name any.
BaseUrl = Annotated[str, AfterValidator(_checked)]


def _listed(value: Any) -> Any:
    """A list may be written in a variable as text, with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def check_token(token: Secret) -> Secret:
    """A token that opens something: too long to be guessed, and fit for a header."""
    text = token.get_secret_value()
    if len(text) < TOKEN_CHARS_MIN or not text.isascii() or not text.isprintable():
        raise ValueError(f"expected at least {TOKEN_CHARS_MIN} printable ASCII characters")
    return token


class Model(BaseModel):
    """Frozen, and every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AccountSettings(BaseModel):
    """One account at a provider: the keys that every provider has. All durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="allow")

    provider: str
    # The service of rows that name none.
    service: str | None = None
    # Calls a second over all workers; 0: no limit. Payelata API facts, section 6: none documented.
    rate_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5
    # Calls at a time, in each process.
    in_flight_max: Annotated[int, Field(ge=1, le=1000)] = 10
    connect_timeout_s: Seconds = 5
    read_timeout_s: Seconds = 30
    # A call's whole time, however slowly the answer drips.
    call_deadline_s: Seconds = 30
    # A claim older than this belongs to a dead worker.
    claim_s: Seconds = 90
    # A message not taken for so long is announced again.
    announce_s: Seconds = 120
    poll_first_s: Seconds = 2
    poll_max_s: Seconds = 300
    # Still open after this: held.
    open_max_s: Seconds = 259_200
    lookup_first_s: Seconds = 5
    # "Not found" proves absence only after this long since the send, and three look-ups.
    lookup_grace_s: Seconds = 600
    # Still unknown after this: held.
    lookup_max_s: Seconds = 86_400
    # Creates of one payout; then held.
    attempts_max: Annotated[int, Field(ge=1)] = 5
    # Between two releases of a payout that still reads "created", and how many; then held.
    process_repeat_s: Seconds = 30
    process_tries_max: Annotated[int, Field(ge=1)] = 3
    # Where the provider tells us of changes, the first poll waits so long for it to do so.
    webhook_wait_s: Seconds = 30

    @property
    def options(self) -> Mapping[str, Any]:
        """The provider's own keys."""
        return self.model_extra or {}

    @model_validator(mode="after")
    def _budgets_in_order(self) -> Self:
        # Each bound must outlast the one before it: a call its deadline, a claim its calls, an
        # announcement its claim, and the doubt about a create everything that could still send it.
        names = ("call_deadline_s", "claim_s", "announce_s", "lookup_grace_s")
        for small, large in itertools.pairwise(names):
            if getattr(self, small) >= getattr(self, large):
                raise ValueError(
                    f"{small} ({getattr(self, small):g}) must be less than"
                    f" {large} ({getattr(self, large):g})"
                )
        return self


class Role(StrEnum):
    """What somebody is to a batch; docs/people.md has who may do what."""

    MAKER = "maker"
    CHECKER = "checker"
    VIEWER = "viewer"
    ADMIN = "admin"


class UserSettings(Model):
    """One person: the operating-system user of the command line, the login of the console."""

    roles: Annotated[tuple[Role, ...], Field(min_length=1)]


def ssh_client() -> str | None:
    """From which address this session came, as its server says; None: from none."""
    address = os.environ.get("SSH_CLIENT", "").partition(" ")[0]
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None


class Settings(Model):
    """Everything that can be set."""

    database_url: str = "sqlite:///paybatch.db"
    broker_url: str = "memory://"
    encryption_key: Secret | None = None
    # Keys that still open what is closed with them, until `paybatch keys rotate` has ended.
    encryption_keys_old: Annotated[tuple[Secret, ...], BeforeValidator(_listed)] = ()
    default_account: str | None = None
    approvals: Annotated[int, Field(ge=1, le=2)] = 1
    accounts: Mapping[str, AccountSettings] = Field(default_factory=dict)
    # Who may do what. None at all: everybody may do everything.
    users: Mapping[str, UserSettings] = Field(default_factory=dict)
    # Named sets of column names for `--map NAME`: theirs to ours.
    mappings: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)
    # Inboxes whose files are settled on business dates: `[[schedules]]`.
    schedules: Annotated[tuple[Schedule, ...], BeforeValidator(as_list)] = ()
    # How long Redis keeps a message that a worker took and did not finish.
    # None: 900, or more where an account's `lookup_grace_s` needs it.
    broker_visibility_s: Seconds | None = None
    callback_base_url: BaseUrl | None = None
    # Of every line of a log, see `workers.logs`.
    log_format: LogFormat = "text"
    # What a scraper of /metrics must know; without it only this machine itself is answered.
    metrics_token: Annotated[Secret, AfterValidator(check_token)] | None = None
    # Names, without a dot, of machines that run simulators: they are spoken to without TLS.
    sandbox_hosts: tuple[HostName, ...] = ()
    # Where a worker and a beat leave the signs that their health checks read: a folder for each
    # process that is checked, as a container's own temporary folder is.
    heartbeat_folder: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()))
    # The same beneficiary and amount within so many days needs --allow-repeats.
    duplicate_window_days: Annotated[int, Field(ge=0)] = 30
    # After a failover of PostgreSQL all accounts are frozen, for a standby may lack the last
    # commits; false says that it cannot, because it is synchronous. A copy is frozen all the same.
    freeze_after_failover: bool = True
    # A paid payout is read again now and then for so many days, in case the money comes back.
    watch_paid_days: Annotated[int, Field(ge=0)] = 7
    # Limits of an input file: untrusted input must end somewhere.
    rows_max: Annotated[int, Field(ge=1)] = 1_000_000
    bytes_max: Annotated[int, Field(ge=1)] = 512 * 1024 * 1024
    cell_chars_max: Annotated[int, Field(ge=1)] = 10_000
    columns_max: Annotated[int, Field(ge=1)] = 200
    # Messages that may be out at a time, so that pause and cancel act at once.
    dispatch_window: Annotated[int, Field(ge=1)] = 2_000

    @property
    def embedded(self) -> bool:
        """Whether the command brings its own worker."""
        return self.broker_url.startswith("memory:")

    @property
    def visibility_s(self) -> float:
        """The last in the order of budgets: how long a broker may keep a message that was taken, so
        that it comes back only when its payout is everybody's again. With Redis none comes back by
        itself (see celeryconfig.py); there it is checked and bounds nothing.
        """
        longest = max((each.lookup_grace_s for each in self.accounts.values()), default=0)
        return self.broker_visibility_s or max(VISIBILITY_S_MIN, longest * VISIBILITY_RATIO)

    @property
    def duplicate_window(self) -> timedelta:
        return timedelta(days=self.duplicate_window_days)

    @property
    def usual_account(self) -> str | None:
        """The account of rows and commands that name none; None: nobody said which of several."""
        if self.default_account is not None:
            return self.default_account
        real = [name for name in self.accounts if name != SANDBOX]
        if not real:
            return SANDBOX
        if len(real) == 1:
            return real[0]
        return "main" if "main" in self.accounts else None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        for name in self.accounts:
            # It becomes part of the address that providers call, and of a variable's name.
            if not ACCOUNT_NAME.fullmatch(name):
                raise ValueError(
                    f"accounts: {name!r} is no name for an account; expected letters, digits,"
                    " - and _"
                )
        for name, account in self.accounts.items():
            if account.lookup_grace_s >= self.visibility_s:
                raise ValueError(
                    f"broker_visibility_s ({self.visibility_s:g}) must be more than"
                    f" accounts.{name}.lookup_grace_s ({account.lookup_grace_s:g})"
                )
        if self.database_url.startswith("postgresql") and self.encryption_key is None:
            raise ValueError(
                "encryption_key is required with PostgreSQL: base64 of 32 random bytes"
            )
        if self.encryption_keys_old and self.encryption_key is None:
            raise ValueError("encryption_keys_old needs encryption_key: the key that is to follow")
        default = self.default_account
        if self.accounts and default is not None and default not in self.accounts:
            raise ValueError(
                f"default_account {default!r} is none of the accounts: {', '.join(self.accounts)}"
            )
        return self

    @classmethod
    def load(
        cls,
        settings_of: SettingsOf | None = None,
        *,
        defaults: Mapping[str, Any] | None = None,
        sandbox: bool = False,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Self:
        """The settings of the file (`PAYBATCH_CONFIG`, else `paybatch.toml` in `folder`) with the
        environment's on top.

        Args:
            settings_of: gives what a provider adds; without it its keys are not checked, and its
                defaults not known.
            defaults: values that the file and the environment go on top of.
            sandbox: have the account `sandbox`, which is there anyhow when there is no other.
            environ: the environment; the process's own by default.
            folder: where the file is looked for; the working folder by default.

        Raises:
            SettingsError: with every missing or wrong value.
        """
        environ = os.environ if environ is None else environ
        given = _from_file(environ, folder or Path.cwd())
        _merge(given, _from_environ(environ))
        values = copy.deepcopy(dict(defaults or {}))
        named = {**values.get("accounts", {}), **_table(given.get("accounts"))}
        if sandbox or SANDBOX in named or not named:
            _merge(values, {"accounts": {SANDBOX: dict(SANDBOX_ACCOUNT)}})
        _merge(values, given)
        problems: list[str] = []
        if settings_of is not None:
            hosts = values.get("sandbox_hosts")
            context = {"sandbox_hosts": hosts if isinstance(hosts, list | tuple) else ()}
            problems += _with_providers(values.get("accounts"), settings_of, context)
        values["schedules"] = as_list(values.get("schedules", ()))
        problems += problems_between(values)
        settings: Self | None = None
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems = [*_sentences(error, ()), *problems]
        if settings is None or problems:
            raise SettingsError(problems)
        return settings


def toml_key(name: str) -> str:
    """A name as a key of the settings' file: in quotes where it needs them."""
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _from_file(environ: Mapping[str, str], folder: Path) -> dict[str, Any]:
    named = environ.get("PAYBATCH_CONFIG")
    path = Path(named) if named else folder / FILE_NAME
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise SettingsError([f"PAYBATCH_CONFIG names {named}, which does not exist"]) from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError([f"{path} cannot be read as TOML: {error}"]) from error


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    """`PAYBATCH_ACCOUNTS__MAIN__API_KEY=x` as {"accounts": {"main": {"api_key": "x"}}}."""
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name.startswith(NOT_SETTINGS):
            continue
        *outer, last = name.removeprefix(PREFIX).lower().split("__")
        place = values
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise SettingsError([f"{name} goes into a setting that has a value of its own"])
        place[last] = _value(text)
    return values


def _value(text: str) -> Any:
    """A table or list may be written as JSON; anything else is text, which the models convert."""
    if text[:1] in "{[":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping):
            inner = values.setdefault(key, {})
            if isinstance(inner, dict):
                _merge(inner, value)
            elif isinstance(inner, list) and isinstance(as_list(value), list):
                # PAYBATCH_SCHEDULES__0__TIME goes into the first of a list.
                numbered = {str(at): each for at, each in enumerate(inner)}
                _merge(numbered, value)
                values[key] = as_list(numbered)
            else:
                values[key] = value
        else:
            values[key] = value


def _with_providers(
    accounts: Any, settings_of: SettingsOf, context: Mapping[str, Any]
) -> list[str]:
    """Put each provider's defaults under its accounts' values; what is wrong with its own keys."""
    problems: list[str] = []
    for name, values in accounts.items() if isinstance(accounts, dict) else ():
        if not isinstance(values, dict) or not isinstance(values.get("provider"), str):
            continue
        try:
            adds = settings_of(values["provider"])
        except SettingsError as error:
            problems += [f"accounts.{name}.provider: {problem}" for problem in error.problems]
            continue
        options = {k: v for k, v in values.items() if k not in AccountSettings.model_fields}
        try:
            adds.model.model_validate(options, context=dict(context))
        except ValidationError as error:
            problems += _sentences(error, ("accounts", name))
        for key, value in adds.defaults.items():
            values.setdefault(key, value)
    return problems


def _sentences(error: ValidationError, inside: tuple[str, ...]) -> list[str]:
    """One sentence a fault: which setting, what was expected, never the value of a secret."""
    sentences = []
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    # A list whose members are refused is then said to be too short as well.
    refused = {fault["loc"][:-1] for fault in faults}
    for fault in faults:
        if fault["type"] == "too_short" and fault["loc"] in refused:
            continue
        path = [*inside, *(str(part) for part in fault["loc"])]
        name = ".".join(toml_key(part) for part in path)
        variable = PREFIX + "__".join(path).upper()
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "missing":
            message = f"is missing; set it in {FILE_NAME} or as {variable}"
        elif fault["type"] == "extra_forbidden":
            message = "is not a setting; check its spelling"
        sentences.append(f"{name}: {message}" if name else message)
    return sentences
