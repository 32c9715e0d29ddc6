"""The log: one line a record, as JSON or as text, with the time, what happened and a few fields.

Only the fields named here are ever written, whatever else a record carries: they hold ids, counts
and words of our own tables, never a person, an account number or a secret.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

LogFormat = Literal["text", "json"]

FIELDS = (
    # What it is about.
    *("batch_id", "reference_id", "payout_id", "account", "schedule"),
    # A step of a payout, and what became of it.
    *("step", "outcome", "state"),
    # Deliveries and questions of providers.
    *("about", "kept", "allowed"),
    # What a sweep found.
    *("expired", "woken", "lost", "announced", "probed", "carried"),
    # Of a pause; who decided something; and why, in a sentence or an error's name.
    *("kind", "actor", "reason"),
)
_PLAIN = re.compile(r"[\w.:@/+-]+", re.ASCII)
# Whose errors quote no data: ours, and those of the broker and the database, whose parameters and
# details are left out where the database is opened. Errors of the system have a number and a name.
HARMLESS = ("workers", "batches", "sqlalchemy", "psycopg", "sqlite3", "redis", "kombu", "amqp")
WITHHELD = "(its words are withheld: they may quote what was being worked on)"
# These tell every address that is called, every look at the tables' revision, or of every message
# that it came and went, where our own lines tell what became of a payout: noise.
_NOISY = ("alembic", "httpcore", "httpx", "celery.app.trace", "celery.worker.strategy")


@functools.lru_cache(4)
def _second(at: int) -> str:
    """Its date and time; there are many lines a second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class _Lines(logging.Formatter):
    def head(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        """Time (ISO 8601, UTC, milliseconds), level, logger and event."""
        second, rest_us = divmod(round(record.created * 1_000_000), 1_000_000)
        yield "time", f"{_second(second)}.{rest_us // 1000:03}Z"
        yield "level", record.levelname
        yield "logger", record.name
        yield "event", record.getMessage()

    def fields(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        """The fields that the record has, in their order."""
        carried = record.__dict__
        for name in FIELDS:
            value = carried.get(name)
            if value is not None:
                plain = isinstance(value, bool | int)
                yield name, value if plain else str(value)

    def trouble(self, record: logging.LogRecord) -> str:
        """The traceback, if there is one."""
        error = record.exc_info[1] if record.exc_info else None
        return "" if error is None else "".join(_traceback(error)).rstrip("\n")


class JsonLines(_Lines):
    """Each record is a JSON object on a line of its own; a traceback is its `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        document = dict(self.head(record)) | dict(self.fields(record))
        trouble = self.trouble(record)
        if trouble:
            document["exception"] = trouble
        return json.dumps(document)


class TextLines(_Lines):
    """Each record is a line for the eye, its fields as `name=value`; a traceback follows it."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [str(value) for _, value in self.head(record)]
        parts += [f"{name}={_quoted(value)}" for name, value in self.fields(record)]
        trouble = self.trouble(record)
        return " ".join(parts) + (f"\n{trouble}" if trouble else "")


def _traceback(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """Where it went wrong, with what led to it first. An error's own words are told only where
    they are known to hold nothing of a person: others may quote whatever was being worked on.
    """
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _traceback(before, seen | {id(error)})
        yield "\nwhich led to:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )
    words = str(error) if _is_harmless(error) else WITHHELD
    yield f"{name}: {words}\n" if words else f"{name}\n"


def _is_harmless(error: BaseException) -> bool:
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or package in HARMLESS


def _quoted(value: object) -> str:
    """As it stands, or in quotes where it could be taken for more than one value or line."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def formatter(log_format: LogFormat) -> logging.Formatter:
    return JsonLines() if log_format == "json" else TextLines()


def log_to(handler: logging.Handler, log_format: LogFormat, level: int = logging.INFO) -> None:
    """Have the handler take this process's whole log, warnings of libraries too."""
    handler.setFormatter(formatter(log_format))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # No line of ours says where it was written, or by which thread, so that is not found out.
    # Source: Python documentation, "Logging HOWTO", "Optimization".
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def log_to_stderr(
    log_format: LogFormat, level: int = logging.INFO, *, file: str | Path | None = None
) -> None:
    """Have all of a long-running process's log on stderr, or in a file, and nowhere else."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    log_to(logging.FileHandler(file) if file else logging.StreamHandler(), log_format, level)
