"""What the kill matrix kills: a row per action that reaches a host, with its effect as it is seen from outside."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from irflow.core.journal import Kind
from irflow.lab.intruder import works
from irflow.lab.layout import VISITOR
from irflow.lab.model import LabHost
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv, tcp
from irflow.wiring import backup_repository
from tests.services import demo_service
from tests.services.irflow_site import Site
from tests.services.on_host import on

DEN = "/dev/shm/.den"
IMPLANT = b"#!/bin/sh\necho boo\n"
BEACON = Path(shutil.which("sleep") or "/bin/sleep").read_bytes() + b"matrix"
"""A program with a hash of its own; a lab host has the same files below as this machine."""


@dataclass(frozen=True)
class Stage:
    """A row's host: what the test arranged on it and can still use."""

    site: Site
    host: LabHost
    sessions: dict[str, Session]

    def on(self, script: str, stdin: bytes | None = None) -> str:
        return on(self.site.lab, self.host, script, stdin)

    def log_in(self, user: str) -> None:
        """A session from the attacker's network that stays open."""
        key = self.site.lab.deploy_key if user == "deploy" else self.site.lab.responder_key
        argv = ssh_argv(self.site.lab, self.host, "attacker", user=user, key=key)
        self.sessions[user] = Session(self.site.lab, self.host, login=argv)

    def sees(self, vantage: str) -> str:
        """What a vantage point gets from the SSH port over IPv4 and IPv6: one word if both are alike."""
        addresses = (self.host.address, self.host.address6)
        return "/".join(sorted({tcp(self.site.lab.netns(vantage), one, 22, timeout_s=0.3) for one in addresses}))

    def close(self) -> None:
        for one in self.sessions.values():
            one.close()


@dataclass(frozen=True)
class Row:
    """One action. given: what is arranged first. asked: the step's arguments, as YAML.

    look: the effect from outside, in words; `before` is what it says of a host that nobody touched, `after` when the
    action was done once. calls: what it runs on the host to change something. evidence: custody entries of one run.
    """

    action: str
    asked: str
    look: Callable[[Stage], str]
    before: str
    after: str
    calls: tuple[str, ...]
    given: Callable[[Stage], None] = lambda _: None
    evidence: int = 0

    @property
    def runbook(self) -> str:
        return "only-" + self.action.replace(".", "-").replace("_", "-")

    @property
    def type(self) -> str:
        """The type of incident whose playbook does nothing but this."""
        return self.runbook.replace("-", "_")


# ---------------------------------------------------------------- the effects


def _cut(stage: Stage) -> str:
    found = stage.site.isolation(stage.host)
    return f"attacker {stage.sees('attacker')}, {found.tables} table {','.join(found.kinds)}".strip()


def _blocked(stage: Stage) -> str:
    tables = stage.on("nft list tables").count("irflow_block_")
    return f"visitor {stage.sees('visitor')}, attacker {stage.sees('attacker')}, {tables} table"


def _bob(stage: Stage) -> None:
    stage.on("printf '@reboot touch /tmp/back\\n' | crontab -u bob -")


def _bobs_ways_in(stage: Stage) -> str:
    login = works(
        stage.site.lab,
        ssh_argv(stage.site.lab, stage.host, "attacker", user="bob", key=stage.site.lab.responder_key),
        5.0,
    )
    other = works(
        stage.site.lab,
        ssh_argv(stage.site.lab, stage.host, "attacker", user="alice", key=stage.site.lab.responder_key),
        5.0,
    )
    jobs = stage.on("ls /var/spool/cron/crontabs").split()
    locked = stage.on("grep -c '^bob:!' /etc/shadow || :").strip()
    return f"bob's login {login}, alice's {other}, crontabs {jobs}, locked {locked}"


def _two_sessions(stage: Stage) -> None:
    stage.log_in("deploy")
    stage.log_in("alice")


def _which_live(stage: Stage) -> str:
    return ", ".join(f"{user} {'lives' if one.echoes(1.0) else 'ended'}" for user, one in stage.sessions.items())


def _service(stage: Stage) -> None:
    demo_service.start(stage.site.lab, stage.host)


def _service_answers(stage: Stage) -> str:
    """Once it is silent, also whether it stays so when somebody starts it."""
    if demo_service.answers(stage.site.lab, stage.host):
        return "answers"
    return f"is silent, start {stage.on('service demo start >/dev/null 2>&1 && echo works || echo refused').strip()}"


def _beacon(stage: Stage) -> None:
    stage.on(f"mkdir -p {DEN}; cat >{DEN}/beacon; chmod 755 {DEN}/beacon", BEACON)
    stage.on(f"setsid {DEN}/beacon 3600 </dev/null >/dev/null 2>&1 & setsid sleep 3599 </dev/null >/dev/null 2>&1 &")
    stage.on(f"for i in 1 2 3 4 5 6 7 8 9; do pgrep -f '^{DEN}/beacon' >/dev/null && exit 0; sleep 0.1; done; exit 1")


def _beacons(stage: Stage) -> str:
    count = stage.on("ps -e -o stat=,args= | awk '$1 ~ /^[^ZXtT]/ && /3600/ && !/awk/' | wc -l").strip()
    other = stage.on("ps -e -o stat=,args= | awk '$1 ~ /^[^ZXtT]/ && /3599/ && !/awk/' | wc -l").strip()
    return f"beacon {count}, others {other}"


def _implant(stage: Stage) -> None:
    stage.on(f"mkdir -p {DEN}; cat >{DEN}/implant; chmod 4755 {DEN}/implant", IMPLANT)


def _implants(stage: Stage) -> str:
    there = stage.on(f"ls {DEN} 2>/dev/null || :").split()
    kept = stage.on("cat /var/lib/irflow/quarantine/*/*.file 2>/dev/null | wc -c").strip()
    return f"there {there}, {kept} bytes kept"


def _data(stage: Stage) -> None:
    stage.on("mkdir -p /srv; head -c 3000000 /dev/urandom >/srv/data")


def _backups(stage: Stage) -> str:
    """Whole ones; what a killed engine's restic still stored at its end has no receipt and never counts."""
    incident = next(one for one, _ in stage.site.store.incidents(limit=1000) if stage.host.name in one.hosts)
    intents = stage.site.events(incident.id, Kind.STEP_INTENT)
    keys = sorted({change["data"]["key"] for one in intents for change in one.data["changes"]})
    found = backup_repository(stage.site.config.settings).find(keys, timeout_s=30) if keys else ()
    left = stage.on("pgrep -x 'tar|tee|sha256sum' || :; ls -A /dev/shm").split()
    return f"{sum(one.whole for one in found)} backup, left on the host {left}"


def _untouched(stage: Stage) -> str:
    return f"irflow's files {stage.on('find /var/lib/irflow /dev/shm -type f 2>/dev/null || :').split()}"


ROWS = (
    Row("host.isolate", "", _cut, "attacker open, 0 table", "attacker silent, 1 table lease",
        ("isolate.sh apply", "isolate.sh confirm")),
    Row("host.release", "", _cut, "attacker silent, 1 table lease", "attacker open, 0 table", ("isolate.sh undo",)),
    Row("network.block_ip", f"addresses: [{', '.join(VISITOR)}, 203.0.113.0/24]", _blocked,
        "visitor open, attacker open, 0 table", "visitor silent, attacker open, 1 table",
        ("block.sh apply", "block.sh hold")),
    Row("account.disable", "accounts: [bob]", _bobs_ways_in,
        "bob's login True, alice's True, crontabs ['bob'], locked 0",
        "bob's login False, alice's True, crontabs [], locked 1", ("account.sh disable",), given=_bob),
    Row("session.revoke", "accounts: [deploy]", _which_live, "deploy lives, alice lives", "deploy ended, alice lives",
        ("session.sh end",), given=_two_sessions),
    Row("service.stop", "services: [demo]", _service_answers, "answers", "is silent, start refused",
        ("service.sh stop",), given=_service),
    Row("process.kill_tree", f"hashes: [{hashlib.sha256(BEACON).hexdigest()}]", _beacons, "beacon 1, others 1",
        "beacon 0, others 1", ("killtree.sh freeze", "killtree.sh kill"), given=_beacon, evidence=1),
    Row("file.quarantine", f"hashes: [{hashlib.sha256(IMPLANT).hexdigest()}], roots: [{DEN}]", _implants,
        "there ['implant'], 0 bytes kept", f"there [], {len(IMPLANT)} bytes kept", ("quarantine.sh move",),
        given=_implant, evidence=1),
    Row("backup.emergency", "paths: [/srv]", _backups, "0 backup, left on the host []",
        "1 backup, left on the host []", ("backup.sh tar",), given=_data),
    Row("host.snapshot", "seconds: 6", _untouched, "irflow's files []", "irflow's files []", ("snapshot.sh --seconds",),
        evidence=2),
    Row("evidence.collect", "profile: snapshot", _untouched, "irflow's files []", "irflow's files []",
        ("evidence.sh snapshot",), evidence=1),
)  # fmt: skip
