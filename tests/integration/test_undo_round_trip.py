"""Everything that containment can do to a host, and then `irflow undo`: the host is byte for byte what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from irflow.lab.attack_brute_force import weaken
from irflow.lab.intruder import works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.vantage import look, ssh_argv
from tests.integration.cli_site import FIRST, SECOND, Desk, desk
from tests.services import demo_service
from tests.services.on_host import on

pytestmark = pytest.mark.timeout(240)

IMPLANT = b"#!/bin/sh\necho boo\n"
DEN = "/home/mallory/den"
UNDONE = {"host.isolate", "network.block_ip", "account.disable", "service.stop", "file.quarantine"}
# Rules of the host's own, as docker and firewalld leave them.
OWN_RULES = b"""
table ip nat {
	chain DOCKER { }
	chain PREROUTING {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local counter jump DOCKER
	}
}
table inet firewalld {
	set known { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
	chain filter_INPUT {
		type filter hook input priority 10; policy accept;
		ip saddr @known counter accept
		tcp dport { 22, 8642 } accept
	}
}
"""
PLAYBOOK = f"""\
playbook: everything
title: All that containment can do
match: {{types: [everything], severity: [critical]}}
roles: {{incident_commander: oncall, communications: docs}}
auto_approve:
  contain.isolate: [critical]
  contain.block: [critical]
  contain.disable: [critical]
  stop-services.stop: [critical]
  remove-malware.isolate: [critical]
  remove-malware.kill: [critical]
  remove-malware.quarantine: [critical]
phases:
  containment:
    - runbook: contain
      with:
        hosts: "{{{{ incident.hosts }}}}"
        addresses: [203.0.113.0/24, "2001:db8:5::/48"]
        accounts: [bob, deploy]
        backup: [/srv]
    - {{runbook: stop-services, with: {{hosts: "{{{{ incident.hosts }}}}", services: [demo]}}}}
    - runbook: remove-malware
      with:
        hosts: "{{{{ incident.hosts }}}}"
        hashes: [{hashlib.sha256(IMPLANT).hexdigest()}]
        roots: [{DEN}]
        backup: [/srv]
documents: []
"""
# All files with owner, mode and time, but for the copies that Debian's usermod leaves of what it changes.
WHAT = """
nft -s list ruleset
find /etc /home /root /var/spool/cron /var/lib/systemd /srv '(' -type f -o -type l ')' \
    ! -path /etc/passwd- ! -path /etc/shadow- \
    -printf '%p %l %u:%g %m %T@ %n\\n' | sort
find /etc/passwd /etc/shadow /etc/group /etc/gshadow /var/spool/cron /home /root/.ssh /etc/cron* /etc/init.d /srv \
    -type f -print0 | sort -z | xargs -0 sha256sum
ps -u bob,deploy -o args= || :
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        for host in running.hosts:
            weaken(running, host)
            furnish(running, host)
        yield running


def furnish(lab: Lab, host: LabHost) -> None:
    """What a host has that a careless undo loses: rules, keys, jobs, odd owners and times, a set-user-id implant."""
    on(lab, host, "nft -f -", OWN_RULES)
    on(lab, host, f"mkdir -p {DEN} /srv; cat >{DEN}/implant", IMPLANT)
    on(lab, host, f"""
        chown -R mallory:mallory {DEN}; chmod 4751 {DEN}/implant; touch -d '2024-02-29 12:34:56.123456789' {DEN}/implant
        head -c 500000 /dev/urandom >/srv/data
        mkdir -p /var/lib/systemd/linger; : >/var/lib/systemd/linger/bob
        cp -a /home/bob/.ssh/authorized_keys /home/bob/.ssh/authorized_keys2
        for one in alice bob deploy; do printf '@reboot touch /tmp/%s\\n' $one | crontab -u $one -; done
        cd /; echo true | setpriv --reuid bob --regid bob --clear-groups env USER=bob LOGNAME=bob at tomorrow
        touch -d 2026-01-02T03:04:05.678 /var/spool/cron/crontabs/bob /var/lib/systemd/linger/bob /etc/shadow
    """)  # fmt: skip
    demo_service.start(lab, host)


def can_log_in(lab: Lab, host: LabHost, user: str) -> bool:
    key = lab.deploy_key if user == "deploy" else lab.responder_key
    return works(lab, ssh_argv(lab, host, "attacker", user=user, key=key), 3.0)


def outside(lab: Lab, host: LabHost) -> dict[str, object]:
    """What others can do with the host."""
    return {
        "dark": look(lab, host, "attacker", timeout_s=0.5).dark,
        "service": demo_service.answers(lab, host),
        "logins": [one for one in ("alice", "bob", "deploy") if can_log_in(lab, host, one)],
    }


def test_after_the_undo_of_everything_the_host_is_byte_for_byte_as_before(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here: Desk = desk(tmp_path_factory.mktemp("site") / "home", lab)
    (here.home / "playbooks").mkdir(exist_ok=True)
    (here.home / "playbooks" / "everything.yaml").write_text(PLAYBOOK)
    before = [on(lab, one, WHAT) for one in lab.hosts]
    open_to_all = {"dark": False, "service": True, "logins": ["alice", "bob", "deploy"]}
    assert [outside(lab, one) for one in lab.hosts] == [open_to_all] * 2

    number = here.alert(*(one.name for one in lab.hosts), severity="critical", type="everything")
    for _ in range(3):  # the owner is called after each of two runbooks
        result = here.work(number, "containment")
        if result.open_items:
            assert here.irflow("step", number, "--note", "called", "--as", SECOND).code == 0, result.open_items
    assert not result.open_items

    plan = here.irflow("undo", number, "--dry-run", "--json").json
    assert {one["action"] for one in plan["steps"]} >= UNDONE, plan
    for host, was in zip(lab.hosts, before, strict=True):
        now = on(lab, host, WHAT)
        for what in ("table inet irflow ", "table inet irflow_block_"):
            assert what in now
        assert look(lab, host, "attacker", timeout_s=0.3).dark
        assert now.count(f"{DEN}/implant") == 0 < was.count(f"{DEN}/implant")
        assert now.count("crontabs/bob") == 0 < was.count("crontabs/bob")
        assert "\nbob:!" in "\n" + on(lab, host, "cat /etc/shadow")

    done = here.irflow("undo", number, "--yes", "--as", FIRST, "--json", "--reason", "a test of ours")
    assert done.code == 0, done.err
    assert all(check["passed"] for one in done.json["steps"] for check in one["checks"])
    assert [outside(lab, one) for one in lab.hosts] == [open_to_all] * 2
    for host, was in zip(lab.hosts, before, strict=True):
        assert on(lab, host, WHAT) == was
    status = here.status(number)
    assert not status.leases
    assert here.irflow("journal", "verify", number).code == 0
