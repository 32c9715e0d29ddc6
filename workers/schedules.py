"""What `[[schedules]]` of the settings may say: which inbox is settled when, and by which rules.

Only values and what must hold between them. When a run is due is for `workers.calendars`; nothing
here looks at the clock or at an inbox.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Part of the names of reports, of variables and of metrics.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _time(value: object) -> object:
    """`"02:30"`, or TOML's own 02:30:00."""
    if isinstance(value, time) and value.tzinfo is None and not value.second:
        return value.replace(microsecond=0)
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected a time of day such as 02:30, from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


def _zone(value: object) -> object:
    try:
        return str(ZoneInfo(str(value)))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"no time zone {value!r}; expected a name such as Europe/Berlin or UTC"
        ) from None


def _days(value: object) -> object:
    """Names of weekdays as numbers from Monday, 0."""
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names:
        raise ValueError(f"expected some of {', '.join(WEEKDAYS)}")
    numbers = set()
    for name in names:
        short = str(name).strip().lower()[:3]
        if short not in WEEKDAYS:
            raise ValueError(f"no weekday {name!r}; expected some of {', '.join(WEEKDAYS)}")
        numbers.add(WEEKDAYS.index(short))
    return frozenset(numbers)


def _dates(value: object) -> object:
    """A list of dates, or the path of a file with one date a line."""
    if not isinstance(value, str):
        return frozenset(_date(each) for each in value) if isinstance(value, Iterable) else value
    if value.startswith("20") and "/" not in value:
        return frozenset(_date(each) for each in value.replace(",", " ").split())
    try:
        lines = Path(value).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ValueError(f"the file {value} cannot be read: {why}") from None
    found = set()
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            found.add(_date(text, f"{value}, line {number}: "))
    return frozenset(found)


def _date(value: object, where: str = "") -> date:
    if type(value) is date:
        return value
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError:
        raise ValueError(f"{where}{value!r} is no date; expected one such as 2026-12-24") from None


def _calendar(value: object) -> object:
    name = str(value).strip().upper()
    if not _is_calendar(name):
        raise ValueError(
            f"no calendar {value!r}; expected a country such as DE, one of its parts such as DE-BY,"
            " or a market such as ECB or XNYS"
        )
    return name


def _is_calendar(name: str) -> bool:
    import holidays as public_holidays  # noqa: PLC0415 - all countries', for schedules alone

    country, _, part = name.partition("-")
    parts = public_holidays.list_supported_countries().get(country)
    if parts is not None:
        return not part or part in parts
    return name in public_holidays.list_supported_financial()


@functools.cache
def holidays_of(calendar: str, year: int) -> frozenset[date]:
    """The holidays of a year: of a country, of a part of it, or of a market."""
    import holidays as public_holidays  # noqa: PLC0415 - as above

    country, _, part = calendar.partition("-")
    if country in public_holidays.list_supported_countries():
        found: Iterable[date] = public_holidays.country_holidays(
            country, subdiv=part or None, years=year
        )
    else:
        found = public_holidays.financial_holidays(calendar, years=year)
    # One that falls on a weekend may be kept in the year before or after.
    return frozenset(day for day in found if day.year == year)


TimeOfDay = Annotated[time, BeforeValidator(_time)]


class Schedule(BaseModel):
    """One `[[schedules]]`: the files of one inbox, paid on business dates at one time of day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
    time: TimeOfDay
    time_zone: Annotated[str, BeforeValidator(_zone)]
    business_days: Annotated[frozenset[int], BeforeValidator(_days)] = frozenset(range(5))
    # Holidays of a country (DE), a part of it (DE-BY) or a market (ECB), and dates of one's own.
    calendar: Annotated[str, BeforeValidator(_calendar)] | None = None
    holidays: Annotated[frozenset[date], BeforeValidator(_dates)] = frozenset()
    # A folder or any address that fsspec knows; done/, refused/ and waiting/ are made in it.
    inbox: Annotated[str, Field(min_length=1)]
    # Where the settlement reports go; a folder beside the inbox where it is not set.
    reports: Annotated[str, Field(min_length=1)] | None = None
    # The account of rows that name none; the usual one where it is not set.
    account: str | None = None
    # A name of [mappings].
    mapping: str | None = None
    approval: Literal["automatic", "person"] = "person"
    # Until when files are taken and paid on a business date; None: until the next one's time.
    cut_off: TimeOfDay | None = None
    # What comes later waits for the next business date, or is put before a person at once.
    after_cut_off: Literal["next_day", "person"] = "next_day"
    # A run that nobody was there to begin in time.
    missed: Literal["catch_up", "report"] = "report"
    valid_rows_only: bool = False
    allow_repeats: bool = False
    # Each file needs its control totals beside it: for a.csv, a.csv.totals.
    control_totals: bool = False
    # A file is complete when nothing of it has changed for so long.
    quiet_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def actor(self) -> str:
        """Who stores and approves what is approved automatically."""
        return f"schedule {self.name}"

    @property
    def reports_folder(self) -> str:
        """Where its reports go: a folder, or an address as the inbox's."""
        if self.reports is not None:
            return self.reports
        if "://" not in self.inbox:
            return str(Path(self.inbox).parent / "reports")
        return f"{self.inbox.rstrip('/').rpartition('/')[0]}/reports"

    @model_validator(mode="after")
    def _cut_off_is_later(self) -> Self:
        if self.cut_off is not None and self.cut_off <= self.time:
            raise ValueError(
                f"cut_off ({self.cut_off:%H:%M}) must be later than time ({self.time:%H:%M})"
            )
        if self.cut_off is None and self.after_cut_off == "person":
            raise ValueError("after_cut_off = 'person' needs a cut_off")
        return self


def shown(address: str) -> str:
    """An inbox's address as it may be shown: without user, password and query."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def as_list(value: Any) -> Any:
    """`{"0": {...}, "1": {...}}`, as variables give it, as a list."""
    if isinstance(value, Mapping) and value and all(str(key).isdigit() for key in value):
        return [value[key] for key in sorted(value, key=int)]
    return value


def problems_between(values: Mapping[str, Any]) -> list[str]:
    """What does not hold between the schedules and the other settings; what is wrong with each
    setting alone is for its model.

    Args:
        values: all settings, not validated yet.
    """
    given = values.get("schedules")
    listed = given if isinstance(given, list | tuple) else []
    schedules = [each for each in listed if isinstance(each, Mapping)]
    problems = []
    names: set[Any] = set()
    inboxes: dict[object, tuple[int, str, Any]] = {}
    for at, each in enumerate(schedules):
        where, name = f"schedules.{at}", each.get("name")
        if name is not None and name in names:
            problems.append(f"{where}.name: {name!r} is the name of another schedule already")
        names.add(name)
        inbox = each.get("inbox")
        # A disk is asked only where there is something to compare: it may be a slow one.
        if isinstance(inbox, str) and len(schedules) > 1:
            known = inboxes.setdefault(_identity(inbox), (at, inbox, name))
            if known[0] != at:
                problems.append(f"{where}.inbox: {_shared(inbox, *known[1:])}")
        problems += _references(where, each, values)
    return problems


def _shared(inbox: str, other: str, schedule: object) -> str:
    """That two schedules have one inbox, in a sentence."""
    told = f"is the inbox of schedule {schedule!r} already"
    if inbox != other:
        told = f"{shown(inbox)!r} {told}, which calls it {shown(other)!r}"
    return f"{told}; a file can only be in one schedule's"


def _identity(inbox: str) -> object:
    """What all spellings of one inbox have in common.

    Of a folder: which one the disk has there, whatever links lead to it; while it is not there, its
    whole path. Of an address: all but its password, its host in small letters.
    """
    scheme, found, rest = inbox.partition("://")
    if not found or scheme.lower() in ("file", "local"):
        try:
            path = os.path.realpath(rest if found else inbox)
        except ValueError:
            # No folder can have such a name.
            return inbox
        try:
            there = os.stat(path)
        except OSError:
            return path
        return there.st_dev, there.st_ino
    host, _, path = rest.partition("/")
    user, _, host = host.rpartition("@")
    # Another user may see other folders under the same path.
    whole = (scheme.lower(), user.partition(":")[0], host.lower())
    return *whole, posixpath.normpath(f"/{path.lstrip('/')}")


def _references(where: str, given: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """What a schedule names that the other settings do not have, or do not allow."""
    problems = []
    for key, table in (("account", "accounts"), ("mapping", "mappings")):
        known, named = values.get(table) or {}, given.get(key)
        if named is not None and isinstance(known, Mapping) and named not in known:
            there = ", ".join(map(str, known)) or "there are none"
            problems.append(f"{where}.{key}: {named!r} is none of [{table}]: {there}")
    if given.get("approval") == "automatic" and str(values.get("approvals", 1)) != "1":
        problems.append(
            f"{where}.approval: 'automatic' is only allowed with approvals = 1; with two people"
            " expected 'person'"
        )
    return problems
