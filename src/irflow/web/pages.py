"""Status pages as plain HTML: what the journal says, every text escaped, nothing to click but links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

from irflow.core.clocks import clocks, elapsed
from irflow.core.incident import Incident
from irflow.core.journal import Event, canonical
from irflow.core.status import IncidentStatus

STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:0 0 2rem}"
    "th,td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #ddd;"
    "overflow-wrap:anywhere}th{font-weight:600;white-space:nowrap}"
    ".critical,.late{color:#b00020;font-weight:600}.high{color:#b05000}.halt{background:#b00020;color:#fff;padding:.5rem}"
)
_EVENTS = 500
_DATA = 400


def incident_list(incidents: Sequence[tuple[Incident, bool]], halted: str | None) -> str:
    """The start page: (incident, closed), newest first. halted: why all automation stands still."""
    rows = [
        (
            _link(one.number),
            _severity(one.severity.value),
            escape(one.type),
            escape(one.title),
            escape(", ".join(one.hosts) or "-"),
            "closed" if closed else "open",
            escape(_time(one.detected_at)),
        )
        for one, closed in incidents
    ]
    head = ("incident", "severity", "type", "title", "hosts", "state", "detected")
    body = _table(head, rows) if rows else "<p>No incidents.</p>"
    return page("Incidents", _halt(halted) + body)


def incident_page(status: IncidentStatus, events: Sequence[Event], now: datetime, halted: str | None) -> str:
    """One incident: facts, phases, clocks, steps and the last 500 events."""
    parts = [
        _halt(halted), '<p><a href="/">all incidents</a></p>', _facts(status), _phases(status, now),
        _clocks(status, now), _steps(status), _journal(events),
    ]  # fmt: skip
    return page(status.incident.number, "".join(parts))


def page(title: str, body: str) -> str:
    """A whole document. body: HTML that is escaped already."""
    name = escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name} - irflow</title>'
        f"<style>{STYLE}</style></head><body><h1>{name}</h1>{body}</body></html>"
    )


def _facts(status: IncidentStatus) -> str:
    one = status.incident
    facts = (
        ("title", escape(one.title)),
        ("severity", _severity(one.severity.value)),
        ("type", escape(one.type)),
        ("playbook", escape(one.playbook or "none")),
        ("trust", escape(one.trust.value)),
        ("hosts", escape(", ".join(one.hosts) or "-")),
        ("not in the inventory", escape(", ".join(one.unknown_hosts) or "-")),
        ("addresses", escape(", ".join(one.addresses) or "-")),
        ("accounts", escape(", ".join(one.accounts) or "-")),
        ("detected", escape(_time(one.detected_at))),
        ("state", "open" if status.open else "closed"),
        ("alerts", str(len(status.alerts))),
    )
    return _table((), facts)


def _phases(status: IncidentStatus, now: datetime) -> str:
    rows = []
    for one in status.phases.values():
        total, machine, human = elapsed(one, now)
        state = one.outcome or ("blocked" if one.blocked else "running" if one.started_at else "planned")
        rows.append((escape(one.phase), escape(state), *(f"{seconds:.1f} s" for seconds in (total, machine, human))))
    return _section("Phases", ("phase", "state", "elapsed", "machine", "waiting for people"), rows)


def _clocks(status: IncidentStatus, now: datetime) -> str:
    rows = [
        (
            escape(one.name),
            escape(_time(one.deadline)),
            f"{min(one.used(now), 9.99):.0%}",
            "in time" if one.met(now) else '<span class="late">late</span>',
        )
        for one in clocks(status, now)
    ]
    return _section("Clocks", ("clock", "deadline", "used", ""), rows)


def _steps(status: IncidentStatus) -> str:
    rows = [
        (
            escape(one.key),
            escape(one.target),
            escape(one.state.value),
            escape(str(one.outcome.get("detail", ""))[:_DATA]),
        )
        for one in status.steps.values()
    ]
    return _section("Steps", ("step", "target", "state", ""), rows)


def _journal(events: Sequence[Event]) -> str:
    rows = [
        (str(one.seq), escape(one.at), escape(one.kind), escape(one.actor), escape(one.target), escape(_data(one)))
        for one in events[-_EVENTS:]
    ]
    return _section("Journal", ("", "time", "event", "by", "target", "data"), rows)


def _data(event: Event) -> str:
    text = canonical(event.data).decode()
    return text if len(text) <= _DATA else text[:_DATA] + "…"


def _section(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    listed = list(rows)
    return f"<h2>{escape(title)}</h2>{_table(head, listed)}" if listed else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML that is escaped already; the first cell of a table without a head names its row."""
    top = "<tr>" + "".join(f"<th>{escape(one)}</th>" for one in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{top}{body}</table>"


def _halt(reason: str | None) -> str:
    return "" if reason is None else f'<p class="halt">All automation is halted: {escape(reason)}</p>'


def _link(number: str) -> str:
    return f'<a href="/incidents/{escape(number)}">{escape(number)}</a>'


def _severity(value: str) -> str:
    return f'<span class="{escape(value)}">{escape(value)}</span>'


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
