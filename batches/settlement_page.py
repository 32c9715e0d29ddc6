"""A settlement report as one page for people: opens anywhere, prints well, and runs nothing.

Every text becomes an element's text through ElementTree, which escapes it; there are no scripts and
no links to anything outside, and the page itself forbids them.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from batches import screens
from batches.settlement_facts import FileLine, Line, Report, Total
from workers.errors import UsageError
from workers.record.money import Money
from workers.record.status import OPEN, State
from workers.words import number_of

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em;
  color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.1em; margin: 1.8em 0 .4em; }
p.about { color: #555; margin-top: .2em; }
p.trouble { border-left: 4px solid #b00020; padding: .3em .8em; background: #fdf0f1; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: #555; padding-bottom: .3em; }
th, td { text-align: left; padding: .3em .7em; border-bottom: 1px solid #ddd; vertical-align: top;
  overflow-wrap: anywhere; }
th { border-bottom: 2px solid #888; } tr { break-inside: avoid; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
@media print { body { margin: 0; max-width: none; font-size: 10px; padding: 0; }
  thead { display: table-header-group; } h2 { break-after: avoid; } }
"""
_FATES = {
    "taken": "could not be taken yet",
    "storing": "is being stored",
    "waiting": "waiting",
    "approved": "paid or being paid",
    "refused": "refused",
    "delivered_twice": "delivered twice, not paid",
    "rejected": "turned down",
}
_OUTCOMES = {
    "open": "open: files are still taken",
    "finished": "finished",
    "missed": "MISSED: it was not made",
    "failed": "FAILED",
}
_COLUMNS: Sequence[tuple[str, Sequence[State]]] = (
    ("paid", [State.PAID]),
    ("returned", [State.RETURNED]),
    ("failed", [State.FAILED]),
    ("cancelled", [State.CANCELLED]),
    ("held", [State.HELD]),
    ("open", [State.DRAFT, *sorted(OPEN, key=list(State).index)]),
)


def write_page(report: Report, out: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        UsageError: the file cannot be written there.
    """
    new = out.with_name(f".{out.name}.tmp")
    try:
        new.write_bytes(page(report))
        os.replace(new, out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error


def page(report: Report) -> bytes:
    """The page in UTF-8."""
    html = ET.Element("html", lang="en")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    run = report.run
    title = f"Settlement of {run.schedule}, {run.business_date}"
    ET.SubElement(head, "title").text = title
    ET.SubElement(head, "style").text = _STYLE
    body = ET.SubElement(html, "body")
    ET.SubElement(body, "h1").text = title
    _about(body, report)
    _totals(body, report.totals, report.fees)
    _files(body, report)
    _lines(body, "Failed or returned", report.failures, report)
    _lines(body, "Needs a person", report.held, report)
    _open(body, report)
    _acts(body, report)
    text: bytes = ET.tostring(html, encoding="utf-8", method="html")
    return b"<!doctype html>\n" + text + b"\n"


def _about(body: ET.Element, report: Report) -> None:
    run = report.run
    zone = ZoneInfo(report.time_zone)
    about = [
        f"Due {_time(run.due_at, zone)}, begun {_time(run.started_at, zone)}",
        f"times are those of {report.time_zone}",
        f"inbox {report.inbox}" if report.inbox else "",
        f"written {_time(report.written_at, zone)}",
    ]
    ET.SubElement(body, "p", {"class": "about"}).text = "; ".join(filter(None, about)) + "."
    ET.SubElement(body, "p").text = f"The run is {_OUTCOMES[run.outcome]}."
    if run.caught_up:
        ET.SubElement(body, "p").text = "It was made later than it was due."
    if run.problem:
        ET.SubElement(body, "p", {"class": "trouble"}).text = run.problem
    if report.left_out:
        rows = number_of(report.left_out, "row")
        told = f"Left out because of faults, and not paid: {rows}; see Files, and the .errors.csv"
        ET.SubElement(body, "p", {"class": "trouble"}).text = f"{told} beside each."
    if report.missing:
        lines = number_of(report.missing, "stored line")
        told = f"{lines} cannot be found any more: deleted by somebody."
        ET.SubElement(body, "p", {"class": "trouble"}).text = told


def _totals(body: ET.Element, totals: Sequence[Total], fees: Sequence[tuple[str, Money]]) -> None:
    rows = []
    for total in totals:
        cells = [total.account, total.currency.code, _sum(*total.given)]
        cells += [_sum(*total.of(*states)) for _, states in _COLUMNS]
        cells.append(_fees(total.account, fees))
        rows.append(cells)
    heads = ["account", "currency", "in", *(name for name, _ in _COLUMNS), "fees taken"]
    _table(body, "In and out", heads, rows, numbers=range(2, len(heads)))


def _fees(account: str, fees: Sequence[tuple[str, Money]]) -> str:
    return ", ".join(fee.named() for name, fee in fees if name == account) or "none"


def _sum(count: int, amount: Money) -> str:
    return f"{amount} ({count:,})" if count else ""


def _files(body: ET.Element, report: Report) -> None:
    zone = ZoneInfo(report.time_zone)
    rows = [
        [
            one.file.name,
            _FATES[one.file.fate],
            one.file.batch_id or one.file.twin_of or "",
            f"{one.batch.rows:,}" if one.batch else "",
            f"{one.file.rows_left_out:,}" if one.file.rows_left_out else "",
            _time(one.file.taken_at, zone),
            _place(one),
            one.file.reason or "",
        ]
        for one in report.files
    ]
    heads = ["file", "became", "batch", "lines", "left out", "taken", "lies in", "why"]
    _table(body, "Files", heads, rows, numbers=[3, 4])


def _place(one: FileLine) -> str:
    return {"inbox": "the inbox", "gone": "nowhere any more"}.get(
        one.file.place, f"{one.file.place}/"
    )


def _lines(body: ET.Element, title: str, lines: Sequence[Line], report: Report) -> None:
    rows = [
        [
            line.reference_id,
            line.batch_id,
            line.account,
            line.amount.named(),
            line.beneficiary,
            screens.WORDS[line.state],
            screens.duration(report.age_s(line.since)),
            line.reason,
        ]
        for line in lines
    ]
    heads = ["reference id", "batch", "account", "amount", "beneficiary", "state", "age", "reason"]
    _table(body, title, heads, rows, numbers=[3])
    if len(lines) >= report.lines_max:
        told = f"At most {report.lines_max:,} of each batch are shown; paybatch results has all."
        ET.SubElement(body, "p", {"class": "about"}).text = told


def _open(body: ET.Element, report: Report) -> None:
    rows = [
        [
            one.batch_id,
            one.account,
            "waits for approval" if one.state is State.DRAFT else screens.WORDS[one.state],
            f"{one.count:,}",
            one.amount.named(),
            screens.duration(report.age_s(one.since)),
        ]
        for one in report.open
    ]
    heads = ["batch", "account", "state", "payouts", "amount", "oldest"]
    _table(body, "Still open", heads, rows, numbers=[3, 4])


def _acts(body: ET.Element, report: Report) -> None:
    zone = ZoneInfo(report.time_zone)
    rows = [
        [act.batch_id, act.action, act.actor, _time(act.at, zone), act.note] for act in report.acts
    ]
    _table(body, "Who stored and approved", ["batch", "what", "by", "when", "note"], rows)


def _table(
    body: ET.Element,
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Iterable[int] = (),
) -> None:
    right = set(numbers)
    ET.SubElement(body, "h2").text = title
    if not rows:
        ET.SubElement(body, "p", {"class": "about"}).text = "None."
        return
    table = ET.SubElement(body, "table")
    line = ET.SubElement(ET.SubElement(table, "thead"), "tr")
    for at, name in enumerate(heads):
        _cell(line, "th", name, number=at in right)
    inner = ET.SubElement(table, "tbody")
    for row in rows:
        line = ET.SubElement(inner, "tr")
        for at, text in enumerate(row):
            _cell(line, "td", text, number=at in right)


def _cell(line: ET.Element, tag: str, text: str, *, number: bool) -> None:
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text)
    shown = shown.encode(errors="replace").decode()
    ET.SubElement(line, tag, {"class": "number"} if number else {}).text = shown


def _time(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}"
