"""A disabled account has no way in and none to come back, seen from the attacker's side; undo brings back what was."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from irflow.actions.account_disable import AccountDisable, DisableParams
from irflow.core.action import Change, Proof
from irflow.core.errors import HostError, Refused, RemoteFailed
from irflow.lab.attack_brute_force import PASSWORD, weaken
from irflow.lab.intruder import works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv
from tests.integration.lab_actions import Hands
from tests.services.on_host import on, until

DISABLE = AccountDisable()
SCRIPT = "account.sh"
WHO = "bob"
UID = "1002"
CONTROL = ("alice", "mallory")
"""Others on the same host, whose jobs and logins go on."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        weaken(running, running.hosts[0])
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


def places(lab: Lab, host: LabHost) -> str:
    """All that undo must bring back, with owner, mode and time to the nanosecond, and what irflow keeps."""
    return on(lab, host, """
        find /etc/passwd /etc/shadow /home/bob /root/.ssh /etc/ssh /var/spool/cron /var/lib/systemd/linger \
            /var/lib/irflow/accounts* '(' -type f -o -type l ')' -printf '%p %l %u:%g %m %T@\\n' 2>/dev/null | sort
        sha256sum /etc/passwd /etc/shadow /home/bob/.ssh/* /var/spool/cron/*/* /var/lib/systemd/linger/* 2>/dev/null |
            sort || :
    """)  # fmt: skip


@pytest.fixture
def host(lab: Lab, hands: Hands) -> Iterator[LabHost]:
    """A host on which bob has a key, a password, a crontab, an at job, linger and nothing else."""
    one = lab.hosts[0]
    on(
        lab,
        one,
        "cp -a /etc/shadow /etc/passwd /etc/group /etc/gshadow /etc/ssh/sshd_config /root/; cp -a /home/bob /root/bob",
    )
    on(lab, one, """
        mkdir -p /var/lib/systemd/linger; : >/var/lib/systemd/linger/bob
        cp -a /home/bob/.ssh/authorized_keys /home/bob/.ssh/authorized_keys2
        for one in alice bob mallory; do
            printf '@reboot touch /tmp/cron-%s\\n' $one | crontab -u $one -
        done
        touch -d 2026-01-02T03:04:05.678 /var/spool/cron/crontabs/bob /var/lib/systemd/linger/bob /etc/shadow
    """)  # fmt: skip
    at_jobs(lab, one)
    yield one
    on(lab, one, """
        while p=$(ps -u bob -o pid=); do kill -KILL $p 2>/dev/null || :; done
        rm -rf /var/lib/irflow /var/lib/systemd/linger /var/spool/cron/crontabs/* /var/spool/cron/atjobs/a* /home/bob \
            /tmp/cron-* /tmp/at-* /etc/cron.d/*
        mv /root/bob /home/bob
        mv /root/shadow /root/passwd /root/group /root/gshadow /etc/
        mv /root/sshd_config /etc/ssh/
    """)  # fmt: skip
    hands.status.steps.clear()


def at_jobs(lab: Lab, host: LabHost, accounts: Sequence[str] = (*CONTROL, WHO)) -> None:
    """A job of each account that is due at once."""
    for one in accounts:
        on(lab, host, f"cd /; echo 'touch /tmp/at-{one}' | setpriv --reuid {one} --regid {one} --clear-groups "
                      f"env USER={one} LOGNAME={one} at now 2>/dev/null")  # fmt: skip


def jobs_run(lab: Lab, host: LabHost) -> tuple[bool, bool]:
    """Whether cron and atd run what bob left: the real daemons, which run the jobs of the others for sure."""
    at_jobs_of = " ".join(f"/tmp/at-{one}" for one in CONTROL)
    cron_jobs_of = " ".join(f"/tmp/cron-{one}" for one in CONTROL)
    on(lab, host, "rm -f /tmp/cron-* /tmp/at-* /run/crond.*; cron; atd -s")
    try:
        assert until(lambda: not lab.exec(host, ["sh", "-c", f"ls {cron_jobs_of} {at_jobs_of}"]).returncode)
        assert until(lambda: on(lab, host, "ps -e -o comm=").split().count("cron") == 1)
    finally:
        on(lab, host, "kill $(cat /run/crond.pid)")
    left = on(lab, host, "ls /tmp").split()
    return f"cron-{WHO}" in left, f"at-{WHO}" in left


@dataclasses.dataclass
class Thief:
    """An attacker with bob's key, password and a certificate of the lab's own authority."""

    lab: Lab
    host: LabHost
    folder: Path

    def __post_init__(self) -> None:
        self.ask = self.folder / "ask"
        self.ask.write_text('#!/bin/sh\nprintf "%s\\n" "$GUESS"\n')
        self.ask.chmod(0o755)
        self.certified = self.folder / "certified"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.certified], check=True)
        assert self.lab.user_ca is not None
        subprocess.run(
            ["ssh-keygen", "-q", "-s", self.lab.user_ca, "-I", "thief", "-n", "bob,alice", "-V", "+1h",
             f"{self.certified}.pub"], check=True,
        )  # fmt: skip

    def key_login(self, user: str = WHO) -> list[str]:
        return ssh_argv(self.lab, self.host, "attacker", user=user, key=self.lab.responder_key)

    def key(self, user: str = WHO) -> bool:
        return works(self.lab, self.key_login(user), 5.0)

    def certificate(self, user: str = WHO) -> bool:
        return works(self.lab, ssh_argv(self.lab, self.host, "attacker", user=user, key=self.certified), 5.0)

    def password(self, word: str = PASSWORD) -> bool:
        ssh = self.key_login()
        options = ("BatchMode=no", "NumberOfPasswordPrompts=1", "PreferredAuthentications=password")
        at = ssh.index("-F") + 2
        asked = ["env", f"GUESS={word}", f"SSH_ASKPASS={self.ask}", "SSH_ASKPASS_REQUIRE=force"]
        return works(self.lab, [*asked, *ssh[:at], *(part for one in options for part in ("-o", one)), *ssh[at:]], 8.0)

    def ways_in(self) -> dict[str, bool]:
        return {"key": self.key(), "password": self.password(), "certificate": self.certificate()}


@pytest.fixture
def thief(lab: Lab, host: LabHost, tmp_path: Path) -> Thief:
    return Thief(lab, host, tmp_path)


WAYS = ("key", "password", "certificate")
ALL, NONE = dict.fromkeys(WAYS, True), dict.fromkeys(WAYS, False)


def undo(hands: Hands, host: LabHost, *changes: Change) -> list[Proof]:
    """As another process would, days later: from the journal alone, the last change first."""
    proofs = []
    for change in reversed(changes):
        again = Change.from_data(json.loads(json.dumps(change.to_data())))
        proofs.append(DISABLE.undo(again, hands.context(DISABLE, host.name)))
        assert proofs[-1].passed, proofs[-1]
    return proofs


def own(seen: str) -> list[str]:
    """Without the at jobs of others, which have run meanwhile."""
    return [line for line in seen.splitlines() if "/atjobs/" not in line or "bob:" in line]


def of(lab: Lab, host: LabHost, user: str = WHO) -> list[str]:
    return lab.exec(host, ["ps", "-u", user, "-o", "comm="]).stdout.decode().split()


# ---------------------------------------------------------------- the attacker's side


def test_every_way_in_and_back_is_cut_and_undo_opens_them_again(
    lab: Lab, hands: Hands, host: LabHost, thief: Thief
) -> None:
    assert thief.ways_in() == ALL
    assert jobs_run(lab, host) == (True, True)
    at_jobs(lab, host)
    before = places(lab, host)
    session, other = Session(lab, host, login=thief.key_login()), Session(lab, host, login=thief.key_login("alice"))
    try:
        session.ask("(setsid sh -c 'while :; do (sleep 0.5 &); sleep 0.1; done' >/dev/null 2>&1 </dev/null &)", 5)
        assert until(lambda: "sleep" in of(lab, host))
        (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
        assert proof.passed, proof
        assert change.summary.startswith(
            "disable bob on web-1: password and certificates, 2 key files, 1 crontab, 1 at job, linger; ends "
        )
        checks = {one.name: (one.before, one.after) for one in proof.checks}
        assert checks["bob is locked and expired: no password, key or certificate logs in"] == (
            "not locked, not expired", "locked, expired",
        )  # fmt: skip
        assert not session.echoes(1.0)
        assert of(lab, host) == []
        assert thief.ways_in() == NONE
        on(lab, host, "echo '@reboot bob touch /tmp/cron-bob' >/etc/cron.d/left")
        assert jobs_run(lab, host) == (False, False), (
            "not even from a place that was overlooked: the account is expired"
        )
        on(lab, host, "rm /etc/cron.d/left")
        assert other.echoes() and thief.key("alice") and thief.certificate("alice"), "others go on"
    finally:
        session.close()
        other.close()
    (back,) = undo(hands, host, change)
    assert back.facts["restored"] == "byte for byte"
    assert {one.after.rpartition(", ")[2] for one in back.checks} == {"byte for byte"}
    assert own(places(lab, host)) == own(before)
    assert thief.ways_in() == ALL
    at_jobs(lab, host, CONTROL)
    assert jobs_run(lab, host) == (True, True)


def test_the_keys_put_back_by_root_malware_open_nothing_and_a_second_run_takes_them_again(
    lab: Lab, hands: Hands, host: LabHost, thief: Thief
) -> None:
    before = places(lab, host)
    first, _ = hands.run(DISABLE, host.name, accounts=[WHO])
    on(lab, host, "cd /home/bob/.ssh; cat /root/bob/.ssh/authorized_keys - >authorized_keys; chown bob: *", b"# back\n")
    assert not thief.key() and not thief.certificate()
    on(lab, host, "sed -i 's/^UsePAM.*/UsePAM no/' /etc/ssh/sshd_config; kill -HUP $(cat /run/sshd.pid)")
    assert until(lambda: thief.key("alice"))
    assert not thief.key() and not thief.certificate()
    on(lab, host, "cp -a /root/sshd_config /etc/ssh/sshd_config; kill -HUP $(cat /run/sshd.pid)")
    assert until(lambda: thief.key("alice"))
    second, proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed
    assert [one.summary for one in second] == ["disable bob on web-1: password and certificates, 1 key file"]
    back, _ = undo(hands, host, *first, *second)
    assert back.facts["restored"] == "changed_meanwhile"
    assert back.facts["changed_meanwhile"] == ["/home/bob/.ssh/authorized_keys is there anew"]
    assert own(without_left(places(lab, host))) == own(before), "what was there first came back"
    assert thief.key()


def without_left(seen: str) -> str:
    return "\n".join(line for line in seen.splitlines() if "accounts.left" not in line)


def test_a_second_run_changes_nothing_and_no_hash_leaves_the_host(lab: Lab, hands: Hands, host: LabHost) -> None:
    secret = on(lab, host, "sed -n 's/^bob:\\([^:]*\\):.*/\\1/p' /etc/shadow").strip()
    assert len(secret) > 30
    context = hands.context(DISABLE, host.name)
    params = DisableParams(host=host.name, accounts=(WHO,))
    seen = DISABLE.observe(params, context)
    changes, proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed
    again, same = hands.run(DISABLE, host.name, accounts=[WHO])
    assert (again, same.passed) == ((), True)
    (back,) = undo(hands, host, *changes)
    everything = json.dumps([seen, [one.to_data() for one in changes], proof.facts, back.facts]) + str(proof)
    assert secret not in everything
    assert on(lab, host, "find /var/lib/irflow -name 'was*'") == ""


# ---------------------------------------------------------------- what others did


def test_what_somebody_else_disabled_before_stays_disabled_after_undo(
    lab: Lab, hands: Hands, host: LabHost, thief: Thief
) -> None:
    on(lab, host, "usermod -L -e 2020-02-02 bob; touch -d 2026-01-02T03:04:05 /etc/shadow")
    before = places(lab, host)
    (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed
    assert change.summary.endswith("(somebody else disabled it before, and it stays so after undo)")
    assert change.data["before"]["locked"] and change.data["before"]["expired"]
    undo(hands, host, change)
    assert own(places(lab, host)) == own(before)
    assert not thief.key() and not thief.certificate()


@pytest.mark.parametrize("half", ["-L", "-e 2020-02-02", "-p ''"])
def test_what_was_half_disabled_or_had_no_password_is_so_again(
    lab: Lab, hands: Hands, host: LabHost, half: str
) -> None:
    on(lab, host, f"usermod {half} bob; touch -d 2026-01-02T03:04:05 /etc/shadow")
    before = places(lab, host)
    (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed
    undo(hands, host, change)
    assert own(places(lab, host)) == own(before)


def test_a_password_set_meanwhile_and_other_lines_stay(lab: Lab, hands: Hands, host: LabHost, thief: Thief) -> None:
    (change,), _ = hands.run(DISABLE, host.name, accounts=[WHO])
    on(lab, host, "echo 'bob:another2026' | chpasswd; echo 'alice:hers' | chpasswd; "
                  "echo '0 0 * * * :' | crontab -u bob -; echo : >/var/spool/cron/atjobs/other")  # fmt: skip
    alice = on(lab, host, "grep ^alice: /etc/shadow")
    (back,) = undo(hands, host, change)
    assert back.facts["restored"] == "changed_meanwhile"
    assert back.facts["changed_meanwhile"] == [
        "the password was set anew", "/var/spool/cron/crontabs/bob is there anew",
    ]  # fmt: skip
    assert thief.password("another2026") and not thief.password()
    assert on(lab, host, "crontab -u bob -l") == "0 0 * * * :\n"
    assert on(lab, host, "grep ^alice: /etc/shadow") == alice
    assert "@reboot touch" in on(lab, host, f"cat {back.facts['left']}/aside/*"), "nor is the older one thrown away"


def test_an_account_that_is_gone_meanwhile_is_left_so(lab: Lab, hands: Hands, host: LabHost) -> None:
    (change,), _ = hands.run(DISABLE, host.name, accounts=[WHO])
    on(lab, host, "userdel bob")
    (back,) = undo(hands, host, change)
    assert back.facts["changed_meanwhile"] == ["the account itself is gone or another one"]
    assert "bob" not in on(lab, host, "cat /etc/passwd /etc/shadow")


def test_two_incidents_need_it_and_the_last_one_enables_it(lab: Lab, hands: Hands, host: LabHost, thief: Thief) -> None:
    before = places(lab, host)
    (first,), _ = hands.run(DISABLE, host.name, accounts=[WHO])
    incident = hands.status.incident
    hands.status = dataclasses.replace(hands.status, incident=incident.model_copy(update={"id": incident.id[::-1]}))
    try:
        (second,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
        assert proof.passed
        assert second.summary == "keep bob on web-1 disabled, as it is"
    finally:
        hands.status = dataclasses.replace(hands.status, incident=incident)
    (back,) = undo(hands, host, first)
    assert [one.name for one in back.checks] == ["bob stays disabled: another incident needs it too"]
    assert not thief.key()
    (back,) = undo(hands, host, second)
    assert back.facts["restored"] == "byte for byte"
    assert own(places(lab, host)) == own(before)


def test_the_daemons_of_jobs_and_sessions_hear_of_what_is_back(lab: Lab, hands: Hands, host: LabHost) -> None:
    """atd would look again within the hour, and logind at the next boot. Of logind this notes the calls."""
    on(lab, host, "mkdir -p /run/systemd/system; mv /usr/bin/loginctl /usr/bin/loginctl.away; "
                  "cat >/usr/bin/loginctl; chmod 755 /usr/bin/loginctl", LOGINCTL)  # fmt: skip
    before = places(lab, host)
    (change,), _ = hands.run(DISABLE, host.name, accounts=[WHO])
    on(lab, host, "atd")
    try:
        assert until(lambda: lab.exec(host, ["test", "-e", "/tmp/at-alice"]).returncode == 0)
        undo(hands, host, change)
        assert until(lambda: lab.exec(host, ["test", "-e", "/tmp/at-bob"]).returncode == 0)
        undo(hands, host, change)
        assert on(lab, host, "cat /run/loginctl.log") == "enable-linger bob\n"
        lingers = [[line for line in one.splitlines() if "linger" in line] for one in (before, places(lab, host))]
        assert lingers[0] == lingers[1], "the time is as before, too"
    finally:
        on(lab, host, "kill $(cat /run/atd.pid); mv /usr/bin/loginctl.away /usr/bin/loginctl; rm -r /run/systemd")


LOGINCTL = b"""#!/bin/sh
echo "$*" >>/run/loginctl.log
touch /var/lib/systemd/linger/$2
"""


# ---------------------------------------------------------------- crashes

# Stands in the place of a program, and kills the script that called it: before or after the program did its work.
DIES = """#!/bin/sh
echo >>/run/calls
[ "$(wc -l </run/calls)" = {nth} ] || exec /usr/bin/real-{name} "$@"
{before}
/usr/bin/real-{name} "$@"
kill -KILL $PPID
"""


@contextmanager
def dying(lab: Lab, host: LabHost, program: str, nth: int, *, before: bool) -> Iterator[None]:
    name = Path(program).name
    text = DIES.format(name=name, nth=nth, before="kill -KILL $PPID; exit" if before else "")
    on(lab, host, f"mv {program} /usr/bin/real-{name}; cat >{program}; chmod 755 {program}; rm -f /run/calls",
       text.encode())  # fmt: skip
    try:
        yield
    finally:
        on(lab, host, f"mv /usr/bin/real-{name} {program}; rm -f /run/calls")


@pytest.mark.parametrize("then", ["again", "undo"])
@pytest.mark.parametrize(
    ("program", "nth", "before"),
    [
        ("/usr/sbin/usermod", 1, True),
        ("/usr/sbin/usermod", 1, False),
        ("/usr/bin/mv", 1, True),  # before what was is written down
        ("/usr/bin/mv", 2, True),  # the epoch is the first, what was the second
        ("/usr/bin/mv", 3, False),  # between an at job's way and its place
        ("/usr/bin/mv", 6, True),
    ],
)
def test_killed_anywhere_a_second_run_or_undo_brings_it_to_a_clean_end(
    lab: Lab, hands: Hands, host: LabHost, program: str, nth: int, before: bool, then: str
) -> None:
    was = places(lab, host)
    params, context = DisableParams(host=host.name, accounts=(WHO,)), hands.context(DISABLE, host.name)
    first = DISABLE.plan(params, DISABLE.observe(params, context))
    with dying(lab, host, program, nth, before=before), pytest.raises(HostError):
        DISABLE.apply(first[0], context)
    second: tuple[Change, ...] = ()
    if then == "again":
        second, proof = hands.run(DISABLE, host.name, accounts=[WHO])
        assert proof.passed, proof
        assert hands.run(DISABLE, host.name, accounts=[WHO])[0] == ()
    undo(hands, host, *first, *second)
    assert own(places(lab, host)) == own(was)
    undo(hands, host, *first, *second)
    assert own(places(lab, host)) == own(was), "undo twice does no harm"


@pytest.mark.parametrize(("program", "nth"), [("/usr/bin/mv", 2), ("/usr/sbin/usermod", 1), ("/usr/sbin/usermod", 2)])
def test_an_undo_that_is_killed_is_brought_to_its_end_by_the_next(
    lab: Lab, hands: Hands, host: LabHost, program: str, nth: int
) -> None:
    was = places(lab, host)
    (change,), _ = hands.run(DISABLE, host.name, accounts=[WHO])
    with dying(lab, host, program, nth, before=False), pytest.raises(HostError):
        DISABLE.undo(change, hands.context(DISABLE, host.name))
    undo(hands, host, change)
    assert own(places(lab, host)) == own(was)


def test_undo_is_safe_when_apply_never_happened(lab: Lab, hands: Hands, host: LabHost) -> None:
    was = places(lab, host)
    params, context = DisableParams(host=host.name, accounts=(WHO,)), hands.context(DISABLE, host.name)
    undo(hands, host, *DISABLE.plan(params, DISABLE.observe(params, context)))
    assert places(lab, host) == was


def test_a_writer_that_was_overtaken_can_do_nothing(lab: Lab, hands: Hands, host: LabHost, thief: Thief) -> None:
    params, late = DisableParams(host=host.name, accounts=(WHO,)), hands.context(DISABLE, host.name)
    (change,) = DISABLE.plan(params, DISABLE.observe(params, late))
    hands.run(DISABLE, host.name, accounts=[WHO])
    with pytest.raises(RemoteFailed, match="is over"):
        DISABLE.undo(change, late)
    assert not thief.key()


# ---------------------------------------------------------------- traps


def test_a_link_to_roots_keys_is_moved_and_never_what_it_names(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "rm -r /home/bob/.ssh; ln -s /root/.ssh /home/bob/.ssh; chown -h bob: /home/bob/.ssh; "
                  "touch -h -d 2026-01-02T03:04:05 /home/bob/.ssh")  # fmt: skip
    before = places(lab, host)
    (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed
    assert on(lab, host, "ls -A /home/bob; ls /root/.ssh") == "authorized_keys\n"
    undo(hands, host, change)
    assert own(places(lab, host)) == own(before)


def test_keys_of_a_shared_home_and_a_file_of_all_accounts_stay(
    lab: Lab, hands: Hands, host: LabHost, thief: Thief
) -> None:
    on(lab, host, """
        sed -i 's|^bob:\\(.*\\):/home/bob:|bob:\\1:/root/:|' /etc/passwd
        mkdir -p /etc/ssh/own /etc/ssh/odd; cp /root/.ssh/authorized_keys /etc/ssh/all
        cp /root/.ssh/authorized_keys /etc/ssh/own/bob; cp /root/.ssh/authorized_keys /etc/ssh/odd/1002%
        printf 'AuthorizedKeysFile /etc/ssh/all "/etc/ssh/own/%%u"\nMatch Address 192.0.2.1\n%s\n' \
            'AuthorizedKeysFile=/etc/ssh/odd/%U%%' >>/etc/ssh/sshd_config
    """)  # fmt: skip
    before = places(lab, host)
    (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed, proof
    assert "2 key files" in change.summary
    assert on(lab, host, "cd /etc/ssh; ls all own odd /root/.ssh/authorized_keys").split() == [
        "/root/.ssh/authorized_keys", "all", "odd:", "own:",
    ]  # fmt: skip
    undo(hands, host, change)
    assert own(places(lab, host)) == own(before)
    on(lab, host, "rm -r /etc/ssh/own /etc/ssh/odd /etc/ssh/all")


def test_a_home_on_another_disk_comes_back_too(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "mount -t tmpfs none /home/bob; cp -a /root/bob/. /home/bob/; chown bob: /home/bob; "
                  "touch -d 2026-01-02T03:04:05.678 /home/bob/.ssh/authorized_keys; "
                  "truncate -s 20M /home/bob/.ssh/authorized_keys2")  # fmt: skip
    try:
        before = places(lab, host)
        (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
        assert proof.failed == ("nothing lets bob back in: no keys, crontab, at job or linger",)
        said = next(one.after for one in proof.checks if not one.passed)
        assert said == "1 key file: /home/bob/.ssh/authorized_keys2: too large to be put aside"
        undo(hands, host, change)
        assert own(places(lab, host)) == own(before)
    finally:
        on(lab, host, "umount /home/bob")


def test_what_is_started_again_and_again_is_named(lab: Lab, hands: Hands, host: LabHost) -> None:
    on(lab, host, "setsid sh -c 'while :; do setpriv --reuid bob --clear-groups sleep 100; done' "
                  ">/dev/null 2>&1 </dev/null & echo $! >/run/again")  # fmt: skip
    assert until(lambda: of(lab, host) == ["sleep"])
    try:
        _, proof = hands.run(DISABLE, host.name, accounts=[WHO])
        assert proof.failed == ("nothing of bob runs",)
        assert "sleep" in proof.checks[-1].after
    finally:
        on(lab, host, "kill -KILL $(cat /run/again)")


@pytest.mark.parametrize(
    ("cgroup", "lives"),
    [
        ("0::/system.slice/docker-0a1b.scope", True),
        ("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-2c.scope", True),
        ("0::/user.slice/user-1002.slice/user@1002.service/user.slice/libpod-3d.scope", False),
        ("0::/user.slice/user-1002.slice/session-4.scope", False),
    ],
)
def test_containers_that_only_have_the_number_live_and_what_hides_in_a_namespace_dies(
    lab: Lab, hands: Hands, host: LabHost, cgroup: str, lives: bool
) -> None:
    inside = "setpriv --reuid bob --clear-groups sleep 77"
    on(lab, host, f"setsid unshare --pid --fork {inside} >/dev/null 2>&1 </dev/null &")
    assert until(lambda: of(lab, host) == ["sleep"])
    pid = on(lab, host, "ps -u bob -o pid=").strip()
    # The lab has no container manager: the kernel's word for where it put the process is replaced.
    on(lab, host, f"echo {cgroup} >/run/cgroup; mount --bind /run/cgroup /proc/{pid}/cgroup")
    (change,), proof = hands.run(DISABLE, host.name, accounts=[WHO])
    assert proof.passed, proof
    assert (of(lab, host) == ["sleep"]) is lives
    assert ("1 process of containers has its number, and stays" in change.summary) is lives
    assert proof.facts["boxed"] == ({"bob": [f"{pid}:sleep"]} if lives else {})


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("root", "root is never disabled: there is no way in"),
        ("toor", "toor is never disabled: its number is 0, it is root"),
        ("sshd", "sshd is never disabled: the responder's own way in"),
    ],
)
def test_root_and_what_the_way_in_needs_is_refused(lab: Lab, hands: Hands, host: LabHost, name: str, said: str) -> None:
    on(lab, host, "echo 'toor:x:0:0::/root:/bin/sh' >>/etc/passwd; echo 'toor:*:20000::::::' >>/etc/shadow")
    before = places(lab, host)
    with pytest.raises(Refused, match=said):
        hands.run(DISABLE, host.name, accounts=[WHO, name])
    assert refused_by_the_host(hands, host, name)
    assert places(lab, host) == before


def refused_by_the_host(hands: Hands, host: LabHost, name: str) -> bool:
    """Whatever a caller says, the script refuses by itself."""
    epoch = str(hands.context(DISABLE, host.name).epoch)
    args = ["--epoch", epoch, "--step", "s", "--id", "ab", "--holder", "cd", "--account", name]
    done = hands.shell.run(hands.hosts[host.name], SCRIPT, ["disable", *args], timeout_s=20, check=False)
    return done.status == 64 and b"refusing to disable" in done.stderr


def test_the_account_that_irflow_logged_in_with_is_refused_also_behind_sudo(
    lab: Lab, hands: Hands, host: LabHost, tmp_path: Path
) -> None:
    on(lab, host, "echo 'other:x:1100:1100::/home/ir:/bin/sh' >>/etc/passwd; echo 'other:*:20000::::::' >>/etc/shadow")
    behind = {host.name: hands.hosts[host.name].model_copy(update={"user": "ir", "sudo": True})}
    ir = Hands(lab, tmp_path, behind)
    try:
        with pytest.raises(Refused, match="ir is never disabled: it is the account that irflow logs in with"):
            ir.run(DISABLE, host.name, accounts=["ir"])
        with pytest.raises(Refused, match="other is never disabled: the responder's own session is its"):
            ir.run(DISABLE, host.name, accounts=["other"])
        assert refused_by_the_host(ir, host, "ir") and refused_by_the_host(ir, host, "other")
        changes, proof = ir.run(DISABLE, host.name, accounts=[WHO])
        assert proof.passed
        undo(ir, host, *changes)
    finally:
        ir.close()


def test_an_account_that_is_not_there_is_named_and_keeps_no_other_open(
    lab: Lab, hands: Hands, host: LabHost, thief: Thief
) -> None:
    with pytest.raises(HostError, match=r"web-1: there is no account nobodyhere\."):
        hands.run(DISABLE, host.name, accounts=["nobodyhere"])
    (change,), proof = hands.run(DISABLE, host.name, accounts=["nobodyhere", WHO])
    assert proof.passed
    assert change.summary.endswith(" (there is no account nobodyhere)")
    assert proof.facts["missing"] == ["nobodyhere"]
    assert not thief.key()


def test_a_system_account_is_called_one(lab: Lab, hands: Hands, host: LabHost) -> None:
    before = places(lab, host)
    on(lab, host, "setsid setpriv --reuid www-data --clear-groups sleep 100 >/dev/null 2>&1 </dev/null &")
    assert until(lambda: of(lab, host, "www-data") == ["sleep"])
    (change,), proof = hands.run(DISABLE, host.name, accounts=["www-data"])
    assert proof.passed
    assert change.summary == (
        "disable www-data on web-1: password and certificates; ends 1 process "
        "(a system account: services may run as it)"
    )
    undo(hands, host, change)
    assert places(lab, host) == before
