"""What each event of a journal says, in one plain sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from irflow.core.incident import TARGETS
from irflow.core.journal import Event, Kind
from irflow.core.model import Json

Data = Mapping[str, Json]


def sentence(event: Event) -> str:
    """One event as one line for people. Texts from alerts are in it as they are: escape where it is shown."""
    say = _SAY.get(event.kind)
    text = say(event.data) if say else event.kind.replace(".", " ")
    if not event.step:
        return text
    name = event.step.partition("/")[2] or event.step
    bare = name.removesuffix(f"@{event.target}") if event.target else name
    return f"{bare}{f' on {event.target}' if event.target else ''}: {text}"


def _joined(values: Json) -> str:
    return ", ".join(str(value) for value in values or ())


def _after(text: Json, before: str = ": ") -> str:
    return f"{before}{text}" if text else ""


def _moment(text: Json) -> str:
    """A journal time to the second."""
    return f"{str(text)[:19].replace('T', ' ')} UTC"


def _opened(data: Data) -> str:
    one = data["incident"]
    hosts = f" on {_joined(one['hosts'])}" if one.get("hosts") else ""
    return f"incident opened: {one['type']}{hosts}, severity {one['severity']}, trust {one['trust']}: {one['title']}"


def _alert(data: Data) -> str:
    one = data.get("alert", data)
    return f"alert from {one.get('source', 'an unknown source')}{_after(one.get('title'))}"


def _planned(data: Data) -> str:
    plan = data["plan"]
    count = len(plan["steps"])
    refused = _after("; ".join(f"left out: {one}" for one in plan.get("refusals", ())))
    return f"{plan['phase']} planned: {count} step{'' if count == 1 else 's'}, digest {data['digest']}{refused}"


def _blocked(data: Data) -> str:
    return f"{data['phase']} is blocked{_after(data.get('error') or _joined(data.get('steps')))}"


def _intent(data: Data) -> str:
    changes = "; ".join(str(change["summary"]) for change in data.get("changes", ()))
    return f"about to run {data.get('action', 'an action')}{_after(changes)}"


def _outcome(data: Data) -> str:
    checks = data.get("checks", ())
    passed = sum(1 for check in checks if check["passed"])
    proof = f", {passed} of {len(checks)} checks passed" if checks else ""
    return f"{data['outcome']}{proof}{_after(data.get('detail'))}"


def _asked(data: Data) -> str:
    if data.get("manual"):
        return f"{data.get('role')} is asked to do it"
    return f"{data.get('role')} is asked for an approval{_after(_joined(data.get('reasons')))}"


def _approval(word: str) -> Callable[[Data], str]:
    def say(data: Data) -> str:
        who = f"{data['operator']} as {data['role']} ({data['method']})"
        return f"{who} {word} the {data.get('phase', '')} plan {data['digest']}{_after(data.get('reason'))}"

    return say


def _manual(data: Data) -> str:
    return f"{data.get('operator', 'a person')} answered {data['outcome']}{_after(data.get('note'))}"


def _decided(data: Data) -> str:
    again = _after(_joined(data.get("again")), ", once more: ")
    return (
        f"{data['operator']} as {data['role']} ({data['method']}) says {data['decision']}{again}{_after(data['note'])}"
    )


def _evidence(data: Data) -> str:
    return f"evidence {data.get('path')} taken, {data.get('bytes')} bytes, SHA-256 {data.get('sha256')}"


def _notified(word: str) -> Callable[[Data], str]:
    def say(data: Data) -> str:
        channels = _joined(data.get("channels"))
        return (
            f"notification {word} by {channels or 'no channel'}{_after(data.get('title'))}{_after(data.get('error'))}"
        )

    return say


def _mark(data: Data) -> str:
    share = "has passed" if data["mark"] == "100" else f"is {data['mark']} % used"
    return f"the {data['clock']} time {share} (deadline {_moment(data.get('deadline'))})"


def _for(data: Data) -> str:
    return _after(data.get("for"), ", for ")


_SAY: dict[str, Callable[[Data], str]] = {
    Kind.INCIDENT_OPENED: _opened,
    Kind.INCIDENT_CLOSED: lambda data: f"incident closed{_after(data.get('reason'))}",
    Kind.ALERT_RECEIVED: _alert,
    Kind.ALERT_RESOLVED: lambda data: f"the source says it is over: {_alert(data)}",
    Kind.HOST_ADDED: lambda data: (
        f"added to the incident: {_joined(one for name in TARGETS for one in data.get(name, ()))}"
    ),
    Kind.HOST_ENROLLED: lambda data: f"host keys of {data.get('host')} recorded: {_joined(data.get('keys'))}",
    Kind.NOTE: lambda data: f"{data.get('operator', 'note')}: {data['text']}",
    Kind.PHASE_PLANNED: _planned,
    Kind.PHASE_STARTED: lambda data: f"{data['phase']} started",
    Kind.PHASE_ENDED: lambda data: f"{data['phase']} ended: {data['outcome']}",
    Kind.PHASE_BLOCKED: _blocked,
    Kind.RUN_REQUESTED: lambda data: f"a run of {data['phase']} requested",
    Kind.RUN_STARTED: lambda data: f"a run of {data['phase']} started ({data.get('executor')})",
    Kind.RUN_ENDED: lambda data: f"a run of {data.get('phase')} ended",
    Kind.STEP_INTENT: _intent,
    Kind.STEP_OUTCOME: _outcome,
    Kind.STEP_INHERITED: lambda data: f"this incident's alone from now on; {data.get('from')} had done it",
    Kind.STEP_RETRY: lambda data: f"{data.get('operator', 'a person')} lets it run again",
    Kind.UNDO_REQUESTED: lambda data: (
        f"{_joined(data.get('operators'))} take back {len(data.get('steps', ()))} steps{_after(data.get('reason'))}"
    ),
    Kind.UNDO_INTENT: lambda data: f"about to take it back{_after(data.get('reason'))}",
    Kind.UNDO_OUTCOME: lambda data: f"taken back: {data['outcome']}{_after(data.get('detail'))}",
    Kind.PERSON_ASKED: _asked,
    Kind.APPROVAL_GIVEN: _approval("approved"),
    Kind.APPROVAL_TIMED_OUT: lambda data: (
        f"nobody answered in time about {_joined(data.get('steps'))}"
        + _after(_joined(data.get("short")), f"; done for {data.get('seconds')} s at most: ")
    ),
    Kind.APPROVAL_REFUSED: _approval("refused"),
    Kind.MANUAL_ANSWERED: _manual,
    Kind.STEP_DECIDED: _decided,
    Kind.ANSWER_REJECTED: lambda data: (
        f"an answer was not taken; it said it was from {data.get('operator') or 'nobody'}{_after(data.get('reason'))}"
    ),
    Kind.FORM_SHOWN: lambda data: "its form stands in Prefect, the run waits",
    Kind.PERSON_REMINDED: lambda data: (
        f"{data.get('role')} told once more: {data.get('share')} % of the time to answer is over"
        f"{_after(data.get('title'))}"
    ),
    Kind.LEASE_RENEWED: lambda data: f"{data.get('kind')} renewed until {_moment(data.get('until'))}",
    Kind.LEASE_DRIFTED: lambda data: f"{data.get('kind')} was not as left{_after(data.get('reason'))}",
    Kind.LEASE_UNSEEN: lambda data: f"{data.get('kind')} cannot be looked at{_after(data.get('reason'))}",
    Kind.LEASE_SEEN: lambda data: f"{data.get('kind')} was seen again, {data.get('finding')}",
    Kind.LEASE_EXPIRING: lambda data: (
        f"{data.get('kind')} runs out at {_moment(data.get('until'))}, not renewed{_after(data.get('reason'))}"
    ),
    Kind.LEASE_EXPIRED: lambda data: f"{data.get('kind')} has run out{_after(data.get('reason'))}",
    Kind.EVIDENCE_TAKEN: _evidence,
    Kind.DOCUMENT_WRITTEN: lambda data: f"document {data.get('path')} written, SHA-256 {data.get('sha256')}",
    Kind.SECRET_CHANGED: lambda data: (
        f"secret {data.get('name')}: {str(data.get('transition')).replace('_', ' ')}, version {data.get('version')}"
    ),
    Kind.NOTIFICATION_QUEUED: _notified("queued"),
    Kind.NOTIFICATION_SENT: _notified("sent"),
    Kind.NOTIFICATION_FAILED: _notified("FAILED"),
    Kind.CLOCK_WARNED: _mark,
    Kind.CLOCK_BREACHED: _mark,
    Kind.ESCALATED: lambda data: f"escalated{_after(data.get('reason'))}",
    Kind.HALTED: lambda data: f"all automation halted by {data.get('operator')}{_after(data.get('reason'))}",
    Kind.RESUMED: lambda data: f"automation resumed by {data.get('operator')}{_after(data.get('reason'))}",
    Kind.OPERATOR_CHANGED: lambda data: f"operator {data.get('operator')}: {data.get('change')} by {data.get('by')}",
    Kind.OPERATOR_PROVED: lambda data: f"{data.get('operator')} proved who it is ({data.get('method')}){_for(data)}",
    Kind.OPERATOR_REFUSED: lambda data: (
        f"a one-time code of {data.get('operator') or 'a name that no operator has'} was refused"
        f"{_after(data.get('reason'))}{_for(data)}"
    ),
    Kind.CHAIN_ANCHORED: lambda data: f"the journal was signed up to event {data.get('seq')}",
    Kind.CHAIN_JOINED: lambda data: f"another journal was joined, its head is {data.get('hash')}",
}
