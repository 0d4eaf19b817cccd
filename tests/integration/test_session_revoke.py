"""Ended sessions are over for whoever had them; others' go on, and a new login stays possible."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from irflow.actions.session_revoke import RevokeParams, SessionRevoke
from irflow.adapters.hooks import ConfiguredHooks
from irflow.adapters.secret_files import FileSecrets
from irflow.config import HookSettings
from irflow.core.action import Change
from irflow.core.errors import Refused, RemoteFailed
from irflow.lab import inventory
from irflow.lab.intruder import works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv
from tests.integration.lab_actions import Hands
from tests.services.on_host import on, until

REVOKE = SessionRevoke()
SCRIPT = "session.sh"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture
def host(lab: Lab, hands: Hands) -> Iterator[LabHost]:
    yield lab.hosts[0]
    hands.status.steps.clear()
    on(lab, lab.hosts[0], """
        for one in alice bob mallory deploy; do
            while p=$(ps -u $one -o pid=); do kill -KILL $p 2>/dev/null || :; done
        done
        rm -rf /var/lib/irflow
    """)  # fmt: skip


@pytest.fixture
def login(lab: Lab, host: LabHost) -> Iterator[Callable[..., Session]]:
    """Opens sessions from the attacker's network that end with the test."""
    with ExitStack() as closing:

        def opened(user: str, *, six: bool = False, at: LabHost = host) -> Session:
            argv = ssh_argv(lab, at, "attacker", user=user, key=key_of(lab, user))
            if six:
                argv[-1] = f"{user}@{at.address6}"
            session = Session(lab, at, login=argv)
            closing.callback(session.close)
            return session

        yield opened


def key_of(lab: Lab, user: str) -> Path:
    return {"mallory": lab.attacker_key, "deploy": lab.deploy_key}.get(user, lab.responder_key)


def can_log_in(lab: Lab, host: LabHost, user: str) -> bool:
    return works(lab, ssh_argv(lab, host, "attacker", user=user, key=key_of(lab, user)), 5.0)


def running(lab: Lab, host: LabHost, command: str) -> bool:
    return command in lab.exec(host, ["ps", "-e", "-o", "args="]).stdout.decode().splitlines()


# ---------------------------------------------------------------- the attacker's side


def test_sessions_of_an_account_die_with_all_that_runs_in_them_and_others_live(
    lab: Lab, hands: Hands, host: LabHost, login: Callable[..., Session]
) -> None:
    first, second, other = login("deploy"), login("deploy", six=True), login("alice")
    assert "[deploy" in on(lab, host, "utmpdump /run/utmp 2>/dev/null")
    first.ask("(setsid sleep 1001 >/dev/null 2>&1 </dev/null &)", 5)
    second.ask("sh -c 'sleep 1002 & sleep 1003 & wait' >/dev/null 2>&1 </dev/null & :", 5)
    on(lab, host, "setsid setpriv --reuid deploy --clear-groups sleep 1004 >/dev/null 2>&1 </dev/null &")
    assert until(lambda: all(running(lab, host, f"sleep {one}") for one in (1001, 1002, 1003, 1004)))
    (change,), proof = hands.run(REVOKE, host.name, accounts=["deploy"])
    assert proof.passed, proof
    assert change.summary.startswith("end 2 SSH sessions on web-1: deploy from 10.77.0.66, deploy from fd77::66 (")
    assert proof.checks[0].name == "no SSH session of deploy is left"
    assert proof.checks[0].after == "none"
    assert not first.echoes(1.0) and not second.echoes(1.0)
    left = [one for one in (1001, 1002, 1003, 1004) if running(lab, host, f"sleep {one}")]
    assert left == [1004], "what no session started is not the session's"
    assert other.echoes()
    assert can_log_in(lab, host, "deploy"), "that is what account.disable is for"
    assert "[deploy" not in on(lab, host, "utmpdump /run/utmp 2>/dev/null"), "the logout was written down"


def test_sessions_from_an_address_die_whoever_they_are_and_that_of_irflow_lives(
    lab: Lab, hands: Hands, host: LabHost, login: Callable[..., Session]
) -> None:
    mallory, root = login("mallory"), login("root")
    root.ask("nohup sleep 1005 >/dev/null 2>&1 </dev/null & :", 5)
    assert until(lambda: running(lab, host, "sleep 1005"))
    other = lab.popen_from("visitor", [*ssh_argv(lab, host, "visitor", user="alice"), "echo in; exec cat"])
    assert other.stdout is not None and other.stdin is not None
    try:
        assert other.stdout.readline() == b"in\n"
        (change,), proof = hands.run(REVOKE, host.name, addresses=["10.77.0.64/30"])
        assert proof.passed, proof
        assert change.summary.startswith("end 2 SSH sessions on web-1: mallory from 10.77.0.66, root from 10.77.0.66 (")
        assert not mallory.echoes(1.0) and not root.echoes(1.0)
        assert not running(lab, host, "sleep 1005")
        other.stdin.write(b"there\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"there\n", "who comes from elsewhere is not disturbed"
    finally:
        other.kill()
        other.communicate()


def test_irflows_own_account_may_be_named_and_its_own_sessions_stay(
    lab: Lab, hands: Hands, host: LabHost, login: Callable[..., Session]
) -> None:
    root = login("root")
    own = lab.popen_from("responder", [*ssh_argv(lab, host, "responder"), "echo in; exec cat"])
    assert own.stdout is not None and own.stdin is not None
    try:
        assert own.stdout.readline() == b"in\n"
        (change,), proof = hands.run(REVOKE, host.name, accounts=["root"])
        assert proof.passed, proof
        assert [one["address"] for one in change.data["sessions"]] == ["10.77.0.66"]
        assert set(proof.facts["kept"]) == {"root from 10.77.0.10"}
        assert not root.echoes(1.0)
        own.stdin.write(b"there\n")
        own.stdin.flush()
        assert own.stdout.readline() == b"there\n", "another process of irflow's is not disturbed"
    finally:
        own.kill()
        own.communicate()


def test_behind_sudo_its_own_sessions_are_those_of_the_account_that_it_logged_in_with(
    lab: Lab, host: LabHost, login: Callable[..., Session], tmp_path: Path
) -> None:
    theirs, root = login("ir"), login("root")
    entry = inventory.entries(lab, user="ir")[0]
    ir = Hands(lab, tmp_path, {host.name: entry})
    try:
        _, proof = ir.run(REVOKE, host.name, accounts=["ir", "root"])
        assert proof.passed, proof
        assert set(proof.facts["kept"]) == {"ir from 10.77.0.10"}
        assert not theirs.echoes(1.0) and not root.echoes(1.0)
    finally:
        ir.close()


def test_a_login_that_has_not_come_to_its_end_dies_too(lab: Lab, hands: Hands, host: LabHost) -> None:
    knock = "exec 3<>/dev/tcp/$0/22; read -r line <&3; echo $line; cat <&3 >/dev/null; echo over"
    half = lab.popen_from("attacker", ["bash", "-c", knock, host.address])
    assert half.stdout is not None
    try:
        assert half.stdout.readline().startswith(b"SSH-2.0")
        (change,), proof = hands.run(REVOKE, host.name, addresses=["10.77.0.66"])
        assert proof.passed, proof
        assert "login from 10.77.0.66" in change.summary
        assert half.stdout.readline() == b"over\n"
    finally:
        half.kill()
        half.communicate()


ECHO = """
$| = 1; my $s = IO::Socket::INET->new(LocalPort => 4444, Listen => 1, ReuseAddr => 1); print "up\\n";
my $c = $s->accept; print "got\\n"; while (<$c>) { print $c $_ }
"""


def test_what_a_session_forwards_does_not_make_it_one_from_there(lab: Lab, hands: Hands, host: LabHost) -> None:
    """alice, from elsewhere, has a connection through the host to the attacker's address: her session is hers."""
    ssh = ssh_argv(lab, host, "visitor", user="alice")
    server = lab.popen_from("attacker", ["perl", "-MIO::Socket::INET", "-e", ECHO])
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == b"up\n"
        client = lab.popen_from("visitor", [*ssh[:-1], "-W", "10.77.0.66:4444", ssh[-1]])
        assert client.stdin is not None and client.stdout is not None
        try:
            assert server.stdout.readline() == b"got\n"
            changes, proof = hands.run(REVOKE, host.name, addresses=["10.77.0.66"])
            assert (changes, proof.passed) == ((), True)
            client.stdin.write(b"hers\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"hers\n"
        finally:
            client.kill()
            client.communicate()
    finally:
        server.kill()
        server.communicate()


def test_without_sessions_nothing_is_done_and_a_missing_account_is_told(hands: Hands, host: LabHost) -> None:
    changes, proof = hands.run(REVOKE, host.name, accounts=["deploy", "nobodyhere"])
    assert (changes, proof.passed) == ((), True)
    assert proof.facts["missing"] == ["nobodyhere"]


# ---------------------------------------------------------------- crashes and refusals


@pytest.mark.parametrize("died", ["before apply", "after apply"])
def test_killed_before_or_after_a_second_run_converges(
    hands: Hands, host: LabHost, login: Callable[..., Session], died: str
) -> None:
    session = login("deploy")
    params, context = RevokeParams(host=host.name, accounts=("deploy",)), hands.context(REVOKE, host.name)
    first = REVOKE.plan(params, REVOKE.observe(params, context))
    if died == "after apply":
        REVOKE.apply(Change.from_data(json.loads(json.dumps(first[0].to_data()))), context)
    changes, proof = hands.run(REVOKE, host.name, accounts=["deploy"])
    assert proof.passed
    assert bool(changes) == (died == "before apply")
    assert not session.echoes(1.0)


def test_a_session_that_was_killed_halfway_frozen_is_ended_by_the_next_run(
    lab: Lab, hands: Hands, host: LabHost, login: Callable[..., Session]
) -> None:
    session = login("deploy")
    on(lab, host, "kill -STOP $(ps -u deploy -o pid=)")
    assert not session.echoes(0.5)
    _, proof = hands.run(REVOKE, host.name, accounts=["deploy"])
    assert proof.passed
    assert lab.exec(host, ["ps", "-u", "deploy", "-o", "pid="]).stdout == b""


def test_a_process_that_ends_while_it_is_looked_at_is_no_error(
    lab: Lab, hands: Hands, host: LabHost, login: Callable[..., Session]
) -> None:
    session = login("deploy")
    # Every connection is also held by a process that is gone by the time anybody looks.
    on(lab, host, r"""
        real=$(command -v ss); mv "$real" "$real.real"
        printf '#!/bin/sh\n%s.real "$@" | sed "s/users:((/&\"sshd\",pid=4194301,fd=9),(/"\n' "$real" >"$real"
        chmod 755 "$real"
    """)  # fmt: skip
    try:
        assert "4194301" in on(lab, host, "ss -H -t -n -p state established")
        _, proof = hands.run(REVOKE, host.name, accounts=["deploy"])
    finally:
        on(lab, host, 'real=$(command -v ss); mv "$real.real" "$real"')
    assert proof.passed
    assert not session.echoes(1.0)


def test_a_writer_that_was_overtaken_can_do_nothing(hands: Hands, host: LabHost, login: Callable[..., Session]) -> None:
    session = login("deploy")
    params, late = RevokeParams(host=host.name, accounts=("deploy",)), hands.context(REVOKE, host.name)
    (change,) = REVOKE.plan(params, REVOKE.observe(params, late))
    hands.run(REVOKE, host.name, accounts=["deploy"])
    session = login("deploy")
    with pytest.raises(RemoteFailed, match="is over"):
        REVOKE.apply(change, late)
    assert session.echoes()


@pytest.mark.parametrize(
    ("pid_file", "said"),
    [
        ("/run/sshd.pid", "it is this one"),
        ("/run/other.pid", "it is the SSH server itself"),
        ("/run/sleep.pid", "it leads no session"),
    ],
)
def test_the_ssh_server_and_what_leads_no_session_cannot_be_ended(
    lab: Lab, hands: Hands, host: LabHost, pid_file: str, said: str
) -> None:
    on(lab, host, "/usr/sbin/sshd -p 2222 -o PidFile=/run/other.pid")
    on(lab, host, "setsid sleep 100 >/dev/null 2>&1 & echo $! >/run/sleep.pid")
    assert until(lambda: lab.exec(host, ["test", "-s", "/run/other.pid"]).returncode == 0)
    pid = on(lab, host, f"cat {pid_file}").strip()
    started = on(lab, host, f"cut -d' ' -f22 /proc/{pid}/stat").strip()
    args = ["end", "--epoch", str(hands.context(REVOKE, host.name).epoch), "--step", "s", "--id", "ab"]
    entry = hands.hosts[host.name]
    try:
        done = hands.shell.run(
            entry, SCRIPT, [*args, "--sessions", f"{pid}:{started}:0"], timeout_s=20, check=False
        )  # fmt: skip
        assert done.status == 64
        assert said in done.stderr.decode()
        assert can_log_in(lab, host, "alice")
        gone = hands.shell.run(entry, SCRIPT, [*args, "--sessions", f"{pid}:{int(started) + 1}:0"], timeout_s=20,
                               check=False)  # fmt: skip
        assert gone.status == (64 if pid_file == "/run/sshd.pid" else 0), "a number that another process has now"
        assert on(lab, host, f"ls -d /proc/{pid}").strip() == f"/proc/{pid}"
    finally:
        on(lab, host, "kill $(cat /run/other.pid /run/sleep.pid); rm /run/sleep.pid")


def test_an_address_that_the_responder_needs_is_refused(hands: Hands, host: LabHost) -> None:
    with pytest.raises(Refused, match="irflow's own management network"):
        hands.run(REVOKE, host.name, addresses=["10.77.0.0/24"])


# ---------------------------------------------------------------- web sessions

# An application's own tool: its sessions are a JSON file, {account: address}.
APPLICATION = """\
#!{python}
import json, sys
request = json.load(sys.stdin)
asked, sessions = request["payload"], json.load(open({store!r}))
meant = {{who for who, origin in sessions.items() if who in asked["accounts"] or origin in asked["addresses"]}}
assert asked["incident"] == "IR-2026-0001" and request["host"]["name"] == "web-1"
if request["verb"] == "check":
    print(json.dumps({{"left": len(meant)}}))
else:
    {doing}
    print(json.dumps({{"ended": len(meant)}}))
"""
HONEST = "json.dump({who: origin for who, origin in sessions.items() if who not in meant}, open(%r, 'w'))"


@pytest.fixture
def application(hands: Hands, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Gives the host a hook to its application; what it is told to do makes it honest, a liar, or broken."""
    store, program, before = tmp_path / "sessions", tmp_path / "app", hands.ports

    def made(doing: str | None = None, verbs: tuple[str, ...] = ("revoke_sessions", "check")) -> Path:
        store.write_text(json.dumps({"deploy": "192.0.2.1", "eve": "10.77.0.66", "alice": "192.0.2.2"}))
        text = APPLICATION.format(python=sys.executable, store=str(store), doing=doing or HONEST % str(store))
        program.write_text(text)
        program.chmod(0o755)
        settings = HookSettings(hosts=("web-1",), verbs=verbs, command=(str(program),))
        fields: dict[str, Any] = {**vars(before), "hooks": ConfiguredHooks({"shop": settings}, FileSecrets())}
        hands.ports = type(before)(**fields)
        return store

    yield made
    hands.ports = before


ASKED: dict[str, Any] = {"accounts": ["deploy"], "addresses": ["10.77.0.66"], "web": True}


def test_web_sessions_end_by_the_hook_and_its_own_count_proves_it(
    hands: Hands, host: LabHost, login: Callable[..., Session], application: Callable[..., Path]
) -> None:
    store, session = application(), login("deploy")
    (ssh, web), proof = hands.run(REVOKE, host.name, **ASKED)
    assert proof.passed, proof
    assert ssh.summary.startswith("end 1 SSH session on web-1: deploy from 10.77.0.66 (")
    assert web.summary == "end web sessions of deploy or from 10.77.0.66 on web-1 by hook shop (2 now)"
    checks = {one.name: (one.before, one.after) for one in proof.checks}
    assert checks["hook shop counts no web session"] == ("2", "0 left")
    assert proof.facts["web_ended"] == 2
    assert json.loads(store.read_text()) == {"alice": "192.0.2.2"}
    assert not session.echoes(1.0)
    again, proof = hands.run(REVOKE, host.name, **ASKED)
    assert (again, proof.passed) == ((), True)


@pytest.mark.parametrize(
    ("doing", "verbs", "said"),
    [
        ("pass", ("revoke_sessions", "check"), "2 left"),
        ("sys.exit('no database')", ("revoke_sessions", "check"), "2 left; web-1: hook shop, .*: no database"),
        (None, ("revoke_sessions",), "there is no hook shop for check"),
        (
            None,
            ("isolate", "release", "status"),
            "irflow.yaml names no hook that does revoke_sessions and check",
        ),
    ],
)
def test_a_hook_that_lies_fails_or_is_missing_is_a_failed_check_and_the_ssh_session_ends_all_the_same(
    hands: Hands, host: LabHost, login: Callable[..., Session], application: Callable[..., Path], doing: str | None,
    verbs: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    application(doing, verbs)
    session = login("deploy")
    _, proof = hands.run(REVOKE, host.name, **ASKED)
    (failed,) = [one for one in proof.checks if not one.passed]
    assert "web session" in failed.name
    assert re.search(said, failed.after), failed.after
    assert not session.echoes(1.0)
