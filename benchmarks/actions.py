"""The eight actions alone, the combined containment, 50 hosts with and without a hung one, and undo; connections open.

Times are those of the journal: from the start of the runbook to the outcome of a step.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ulid import ULID

from benchmarks.result import figure
from irflow import undoing
from irflow.adapters.threads import ThreadExecutor
from irflow.core import decisions
from irflow.core.journal import Event, Kind
from irflow.core.model import from_text
from irflow.core.phase import execute
from irflow.core.playbook import Phase
from irflow.drill.installation import install
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv
from irflow.manual_run import accept_file
from irflow.wiring import Runtime, load, open_runtime

MANY, TURNS = 50, 5
CONTAIN_LIMIT_S = 3.0
HUNG_LIMIT = 1.3
"""How much later the last of the healthy hosts may be cut when one of the 50 hangs, as a ratio in one run."""
IMPLANT = b"#!/bin/sh\necho boo\n"
BEACON = Path(shutil.which("sleep") or "/bin/sleep").read_bytes() + b"benchmark"
FOUR = ("isolate", "block", "disable", "backup")


@dataclass(frozen=True)
class Alone:
    """One action in a runbook of its own. given: run on the host first, as root. login: whose session is open."""

    action: str
    asked: str
    given: str = ""
    stdin: bytes | None = None
    login: str = ""


ALONE = (
    Alone("host.isolate", ""),
    Alone("network.block_ip", "addresses: [203.0.113.0/24]"),
    Alone("account.disable", "accounts: [bob]"),
    Alone("session.revoke", "accounts: [deploy]", login="deploy"),
    Alone("service.stop", "services: [nap]", "cat >/etc/init.d/nap; chmod 755 /etc/init.d/nap; "
          "setsid service nap start </dev/null >/dev/null 2>&1",
          b"#!/bin/sh\ncase $1 in\nstart) sleep 3600 & echo $! >/run/nap.pid ;;\n"
          b'stop) kill "$(cat /run/nap.pid)" ;;\nstatus) kill -0 "$(cat /run/nap.pid)" ;;\nesac\n'),
    Alone("process.kill_tree", f"hashes: [{hashlib.sha256(BEACON).hexdigest()}]",
          "mkdir -p /dev/shm/.den; cat >/dev/shm/.den/beacon; chmod 755 /dev/shm/.den/beacon; "
          "setsid /dev/shm/.den/beacon 3600 </dev/null >/dev/null 2>&1 &", BEACON),
    Alone("file.quarantine", f"hashes: [{hashlib.sha256(IMPLANT).hexdigest()}], roots: [/dev/shm]",
          "cat >/dev/shm/implant", IMPLANT),
    Alone("backup.emergency", "paths: [/srv]", "mkdir -p /srv; head -c 3000000 /dev/urandom >/srv/data"),
    Alone("host.snapshot", ""),
)  # fmt: skip

RUNBOOK = """\
runbook: {name}
title: Only {action}
parameters: {{hosts: {{type: hosts, required: true}}}}
steps:
  - id: it
    title: Only this
    action: {action}
    for_each: "{{{{ hosts }}}}"
    with: {{host: "{{{{ item }}}}"{asked}}}
"""
PLAYBOOK = """\
playbook: {name}
title: {name}
match: {{types: [{type}], severity: [critical]}}
roles: {{incident_commander: oncall, communications: docs}}
auto_approve: {{{approved}}}
phases: {{containment: [{{runbook: {runbook}, with: {arguments}}}]}}
documents: []
"""
CONTAIN = '{hosts: "{{ incident.hosts }}", addresses: [203.0.113.0/24], accounts: [bob], backup: [/srv], databases: []}'


@dataclass(frozen=True)
class Bench:
    """The lab and one engine whose connections stay open."""

    lab: Lab
    wired: Runtime
    home: Path

    def contain(self, kind: str, hosts: Sequence[LabHost]) -> tuple[str, list[Event]]:
        """Containment of a new incident of this type, to its end. Returns its id and its journal."""
        operator, file = self.wired.configuration.operators[0], self.home / f"{secrets.token_hex(6)}.json"
        alert = {"type": kind, "severity": "critical", "title": "Benchmark", "hosts": [one.name for one in hosts]}
        file.write_text(json.dumps(alert))
        incident = str(accept_file(self.wired, operator, file)["alerts"][0]["incident_id"])
        with ThreadExecutor() as executor:
            execute(self.wired.engine, incident, Phase.CONTAINMENT, executor, run_id=str(ULID()), kind="threads")
        return incident, self.wired.store.events(incident)

    def undo(self, incident: str) -> float:
        """Seconds to take everything back. Raises RuntimeError when something is left."""
        found = self.wired.store.find_incident(incident)
        if found is None:
            raise RuntimeError(f"no incident {incident}")
        seen = undoing.look(self.wired, found)
        started = time.monotonic()
        for operator in self.wired.configuration.operators:
            asked = undoing.agree(self.wired, seen, operator, method="benchmark", step=None, reason="")
            if not asked.missing:
                break
        ended = undoing.take_back(self.wired, asked.plan, operator, step=None)
        seconds = time.monotonic() - started
        if not ended.complete:
            raise RuntimeError(f"left: {[one.detail for one in ended.results if not one.gone]}")
        self.close(incident)
        return seconds

    def close(self, incident: str) -> None:
        """So that the next alert opens an incident of its own."""
        operator = self.wired.configuration.operators[0]
        self.wired.store.transact(lambda tx: decisions.close(tx, incident, operator, "measured", false_positive=True))


def bench_actions(folder: Path) -> list[dict[str, Any]]:
    """All figures about actions. folder: a scratch folder on a local disk."""
    with ExitStack() as closing:
        lab = closing.enter_context(Lab.up(MANY, folder / "lab"))
        here = closing.enter_context(_bench(folder / "home", lab))
        for host in lab.hosts:
            _on(lab, host, "mkdir -p /srv; head -c 300000 /dev/urandom >/srv/data")
        warm, _ = here.contain("warm", lab.hosts)
        here.close(warm)
        return [*_fifty(here), *_one(here), *_each(here)]


@contextmanager
def _bench(home: Path, lab: Lab) -> Iterator[Bench]:
    install(home, lab)
    for part in ("runbooks", "playbooks"):
        (home / part).mkdir()

    def write(kind: str, runbook: str, approved: Sequence[str], arguments: str) -> None:
        name, said = kind.replace("_", "-"), ", ".join(f"{runbook}.{one}: [critical]" for one in approved)
        text = PLAYBOOK.format(name=name, type=kind, runbook=runbook, arguments=arguments, approved=said)
        (home / "playbooks" / f"{name}.yaml").write_text(text)

    write("contain", "contain", ("isolate", "block", "disable"), CONTAIN)
    for one in (*ALONE, Alone("evidence.collect", "profile: snapshot")):
        kind = "warm" if one.action == "evidence.collect" else one.action.replace(".", "_")
        name = f"only-{kind.replace('_', '-')}"
        text = RUNBOOK.format(name=name, action=one.action, asked=one.asked and f", {one.asked}")
        (home / "runbooks" / f"{name}.yaml").write_text(text)
        write(kind, name, (), '{hosts: "{{ incident.hosts }}"}')
    with open_runtime(load(home), process="responder") as wired:
        yield Bench(lab, wired, home)


def _on(lab: Lab, host: LabHost, script: str, stdin: bytes | None = None) -> None:
    done = lab.exec(host, ["sh", "-euc", script], stdin=stdin)
    if done.returncode:
        raise RuntimeError(f"{host.name}: {done.stderr.decode()}")


def _after_start(events: Sequence[Event], wanted: Callable[[Event], bool]) -> dict[str, float]:
    """Seconds from the start of the runbook, by target, of the events that are wanted."""
    began = from_text(next(one for one in events if one.kind == Kind.RUN_STARTED).at)
    return {one.target: (from_text(one.at) - began).total_seconds() for one in events if wanted(one)}


def _outcomes(events: Sequence[Event], step: str) -> dict[str, float]:
    """When a step was done, by target. Raises RuntimeError when it was not on a host that did not hang."""
    return _after_start(
        events, lambda one: one.kind == Kind.STEP_OUTCOME and f".{step}@" in one.step and one.data["outcome"] == "done"
    )


def _fifty(here: Bench) -> list[dict[str, Any]]:
    """50 hosts × 4 actions in one incident; then the same with one host that hangs; undo after each."""
    hung = here.lab.hosts[MANY // 2]
    results: list[dict[str, Any]] = []
    last: list[float] = []
    undone: list[float] = []
    for hangs in (False, True):
        label = f"{MANY} hosts" + (", one hung" if hangs else "")
        if hangs:
            _on(here.lab, hung, "pkill -STOP sshd")  # also the open connection answers nothing any more
        incident, events = here.contain("contain", here.lab.hosts)
        if hangs:
            _on(here.lab, hung, "pkill -CONT sshd")
        for step in FOUR:
            times = _outcomes(events, step)
            if len(times) != MANY - hangs:
                raise RuntimeError(f"{step} on {len(times)} of {MANY} hosts")
            results.append(figure(f"{label}, {step}, median host", [statistics.median(times.values())], "s"))
            results.append(figure(f"{label}, {step}, last host", [max(times.values())], "s"))
            if step == "isolate":
                last.append(max(times.values()))
        undone.append(here.undo(incident))
    results.append(figure("one hung of 50: last other host cut, ratio", [last[1] / last[0]], "x", limit=HUNG_LIMIT))
    results.append(figure(f"undo of {MANY} hosts", undone, "s"))
    return results


def _one(here: Bench) -> list[dict[str, Any]]:
    """The combined runbook on one host: until it is isolated, blocked and disabled, and its backup has begun."""
    host, through, whole = here.lab.hosts[0], [], []
    for _ in range(TURNS):
        incident, events = here.contain("contain", [host])
        times = [_outcomes(events, step)[host.name] for step in ("isolate", "block", "disable")]
        begun = _after_start(events, lambda one: one.kind == Kind.STEP_INTENT and ".backup@" in one.step)[host.name]
        through.append(max(*times, begun))
        whole.append(max(_after_start(events, lambda one: one.kind == Kind.STEP_OUTCOME).values()))
        here.undo(incident)
    return [
        figure("contain runbook on 1 host, backup begun", through, "s", limit=CONTAIN_LIMIT_S),
        figure("contain runbook on 1 host, backup and evidence done", whole, "s"),
    ]


def _each(here: Bench) -> list[dict[str, Any]]:
    """Each action alone, on hosts where it has something to do."""
    results = []
    for one in ALONE:
        seconds = []
        for host in here.lab.hosts[1 : 1 + TURNS]:
            with ExitStack() as closing:
                if one.given:
                    _on(here.lab, host, one.given, one.stdin)
                if one.login:
                    argv = ssh_argv(here.lab, host, "attacker", user=one.login, key=here.lab.deploy_key)
                    closing.callback(Session(here.lab, host, login=argv).close)
                incident, events = here.contain(one.action.replace(".", "_"), [host])
                seconds.append(_outcomes(events, "it")[host.name])
                here.undo(incident)
        results.append(figure(f"{one.action} alone", seconds, "s"))
    return results


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="irflow-bench-") as scratch:
        for line in bench_actions(Path(scratch)):
            print(line)
