"""Operators with real parts: the command line, keyring, OpenBao, journals on SQLite and PostgreSQL, and kill -9."""

from __future__ import annotations

import io
import os
import pwd
import signal
import stat
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
import segno

from irflow.adapters.catalog import load_operators
from irflow.adapters.journal_sql import SqlStore
from irflow.adapters.one_time import AuthenticatorCodes
from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.core.approvals import Operator
from irflow.core.errors import ConfigurationErrors, Refused
from irflow.core.identity import Access
from irflow.core.incident import SYSTEM
from irflow.core.journal import Kind, verify
from irflow.core.one_time import LOCKED, MOST_FAILURES, STEP_S
from irflow.core.proving import CodeIdentities
from irflow.core.secret import SecretValue
from irflow.wiring import load, open_store
from irflow.wiring.identity import identities, operator_tokens
from tests.services.people import People
from tests.services.stores import Opener, opened, postgres, store, url

__all__ = ["opened", "postgres", "store", "url"]

REFUSED, USAGE, INVALID, MISSING = 3, 2, 6, 7
ME = pwd.getpwuid(os.getuid()).pw_name
SIGNED_OFF = ("--login", ME, "--role", "incident_commander")


@pytest.fixture
def people(tmp_path: Path) -> People:
    """An installation with its encrypted keyring; its only operator is whoever runs the tests, an admin."""
    made = People(tmp_path / "home")
    assert made.irflow("init").code == 0
    (made.home / "irflow.yaml").write_text("keyring: {backend: encrypted-file}\n")
    key = made.home / "keys" / "keyring.key"
    key.write_text("k" * 44)
    key.chmod(0o600)
    return made


@pytest.fixture
def team(people: People) -> People:
    """alice and bob share this account, and each has codes."""
    people.add("alice", *SIGNED_OFF)
    people.add("bob", *SIGNED_OFF, "--as", ME)
    return people


# ---------------------------------------------------------------- adding and removing


def test_whoever_is_added_gets_a_key_into_the_keyring_and_onto_the_phone_and_nowhere_else(people: People) -> None:
    done = people.add("alice", *SIGNED_OFF, "--email", "alice@example.org")
    key = people.key("alice")
    picture = io.StringIO()
    uri = AuthenticatorCodes().uri(SecretValue(key.encode()), "alice")
    segno.make(uri, micro=False).terminal(out=picture, compact=True)
    assert picture.getvalue() in done.out, "the QR code says the key that is kept"
    assert key not in done.out + done.err
    (alice,) = [one for one in load(people.home).operators if one.name == "alice"]
    assert (alice.totp, alice.access) == ("keyring:irflow/operators/alice", Access.DEVELOPER)
    files = [path for path in people.home.rglob("*") if path.is_file()]
    assert not [path for path in files if key.encode() in path.read_bytes()], "also the journal has it nowhere"


def test_who_cannot_scan_gets_letters_once_they_ask_for_them(people: People) -> None:
    done = people.add("alice", *SIGNED_OFF, "--show-key")
    assert people.key("alice") in done.out.splitlines()


def test_comments_and_the_other_entries_stay_when_people_come_and_go(people: People) -> None:
    path = people.home / "operators.yaml"
    path.chmod(0o600)
    before = path.read_text() + "  # the night shift\n  zoe: {login: zoe, roles: [legal]}  # since May\n"
    path.write_text(before)
    people.add("alice", *SIGNED_OFF)
    assert path.read_text().startswith(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    people.add("bob", "--role", "legal", "--no-totp", "--as", ME)
    assert people.irflow("operators", "remove", "alice", "--as", ME).code == 0
    left = path.read_text()
    assert "# the night shift\n  zoe: {login: zoe, roles: [legal]}  # since May\n" in left
    assert left.startswith(before)
    assert [one.name for one in load_operators(path)] == [ME, "zoe", "bob"]


def test_removing_someone_keeps_the_comment_before_the_next_one(people: People) -> None:
    path = people.home / "operators.yaml"
    text = path.read_text()
    path.write_text(f"{text}  eve:\n    roles: [legal]\n    # hers\n\n  # of the night shift\n  zoe:\n    roles: []\n")
    assert people.irflow("operators", "remove", "eve").code == 0
    assert path.read_text() == f"{text}\n  # of the night shift\n  zoe:\n    roles: []\n"


def test_whoever_is_removed_has_no_key_and_no_token_any_more(team: People) -> None:
    token = team.irflow("operators", "token", "alice", "--as", ME).out.strip()
    code = team.code("alice")
    assert operator_tokens(load(team.home).settings).owner(token) == "alice"
    assert team.irflow("operators", "remove", "alice", "--as", ME).code == 0
    assert operator_tokens(load(team.home).settings).owner(token) is None
    assert team.irflow("keyring", "list", "--json").json == [{"service": "irflow/operators", "user": "bob"}]
    assert team.irflow("halt", "--as", "alice", "--code", code).code == REFUSED


def test_a_new_key_ends_the_old_one(team: People) -> None:
    old = team.code("alice")
    again = team.irflow("operators", "add", "alice", "--as", ME)
    assert (again.code, "--new-key" in again.err) == (USAGE, True)
    assert team.irflow("operators", "add", "alice", "--new-key", "--as", ME).code == 0
    assert team.irflow("operators", "code", "alice", "--code", old).code == REFUSED
    assert team.irflow("operators", "code", "alice", "--code", team.code("alice")).code == 0
    (alice,) = [one for one in load(team.home).operators if one.name == "alice"]
    assert alice.roles == ("incident_commander",)


def test_the_only_admin_who_lost_the_phone_gets_a_new_key_once_the_line_is_taken_out(people: People) -> None:
    people.add("alice", *SIGNED_OFF)
    assert people.irflow("operators", "add", ME, "--new-key", "--as", ME).code == 0
    assert people.irflow("operators", "list").code == 0
    assert people.irflow("operators", "add", ME, "--new-key", "--as", ME).code == REFUSED, "a code is needed now"
    path = people.home / "operators.yaml"
    path.write_text("".join(line for line in path.open() if f"/{ME}\n" not in line))
    assert people.irflow("operators", "add", ME, "--new-key", "--as", ME).code == 0
    assert people.irflow("operators", "code", ME, "--code", people.code(ME)).code == 0


def test_without_keyring_and_vault_the_key_is_a_file_for_its_owner_alone(people: People) -> None:
    (people.home / "irflow.yaml").write_text("")
    people.add("alice", *SIGNED_OFF)
    file = people.home / "keys" / "alice.totp"
    before = file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for more in ((), ("--totp", "file:keys/alice.totp")):
        assert people.irflow("operators", "add", "alice", "--new-key", *more, "--as", ME).code == 0
        assert file.read_text() != before
        before = file.read_text()
    assert "totp: file:keys/alice.totp" in (people.home / "operators.yaml").read_text()
    assert people.irflow("operators", "code", "alice", "--code", people.code("alice")).code == 0
    assert people.irflow("operators", "remove", "alice", "--as", ME).code == 0
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("eve", "--role", "incident_comander"), USAGE, "Did you mean 'incident_commander'?"),
        (("eve/../x",), USAGE, "no name of an operator"),
        (("eve", "--access", "root"), USAGE, "admin"),
        (("eve", "--totp", "JBSWY3DPEHPK3PXP"), INVALID, "not a secret reference"),
        (("eve", "--totp", "vault:irflow/operators/eve#totp"), INVALID, "names no Vault"),
        (("eve", "--no-totp", "--new-key"), USAGE, "--no-totp"),
        (("alice",), USAGE, "is an operator already"),
        (("eve", "--totp", "keyring:irflow/operators/alice"), REFUSED, "there is a value already"),
    ],
)
def test_what_cannot_be_added_changes_nothing_and_says_why(
    people: People, arguments: tuple[str, ...], code: int, says: str
) -> None:
    people.add("alice")
    before = (people.home / "operators.yaml").read_text()
    key = people.key("alice")
    done = people.irflow("operators", "add", *arguments)
    assert (done.code, says in done.err) == (code, True), done.err
    assert (people.home / "operators.yaml").read_text() == before
    assert people.key("alice") == key
    assert "JBSWY3DPEHPK3PXP" not in done.err


def test_a_role_of_ones_own_is_taken_and_noted(people: People) -> None:
    assert "no playbook or runbook asks the role dba" in people.add("eve", "--role", "dba").err


def test_mistakes_in_operators_yaml_are_told_with_their_lines(people: People) -> None:
    path = people.home / "operators.yaml"
    path.write_text(
        "operators:\n  eve:\n    roles: []\n    totp: JBSWY3DPEHPK3PXP\n  bob:\n    roles: []\n    access: admn\n"
    )
    with pytest.raises(ConfigurationErrors) as found:
        load(people.home)
    assert [str(one.where) for one in found.value.errors] == [f"{path}:4", f"{path}:7"]
    assert "Did you mean 'admin'?" in found.value.errors[1].hint
    assert "JBSWY3DPEHPK3PXP" not in str(found.value)
    path.write_text("operators:\n  a: {roles: [], totp: keyring:x/y}\n  b: {roles: [], totp: keyring:x/y}\n")
    with pytest.raises(ConfigurationErrors, match="'a' has this key already"):
        load(people.home)


def test_only_an_admin_changes_operators_and_others_get_a_token_for_themselves(team: People) -> None:
    def as_one(name: str, *arguments: str, later: int = 0) -> tuple[int, str]:
        done = team.irflow("operators", *arguments, "--as", name, "--code", team.code(name, later))
        return done.code, done.err

    code, err = as_one("alice", "add", "eve")
    assert (code, "may not say who the operators are" in err) == (REFUSED, True)
    assert as_one("bob", "token", "alice")[0] == REFUSED
    assert as_one("alice", "token", "alice", later=1)[0] == 0
    assert [one.name for one in load(team.home).operators] == [ME, "alice", "bob"]


def test_where_nobody_is_admin_the_owner_of_the_home_acts_and_is_told_so(people: People) -> None:
    path = people.home / "operators.yaml"
    path.write_text(path.read_text().replace("    access: admin\n", ""))
    done = people.add("alice", "--access", "admin")
    assert "no operator is admin" in done.err
    (event,) = people.system(Kind.OPERATOR_CHANGED)
    assert event.data["by"] == f"the owner of IRFLOW_HOME, {ME}"
    assert people.irflow("operators", "add", "bob").code == REFUSED, "now there is one"


def test_every_change_stands_in_the_journal_with_who_made_it(team: People) -> None:
    team.irflow("operators", "token", "bob", "--as", ME)
    team.irflow("operators", "token", "bob", "--revoke", "--as", ME)
    assert team.irflow("operators", "token", "bob", "--revoke", "--as", ME).code == USAGE
    team.irflow("operators", "remove", "bob", "--as", ME)
    told = [(one.data["operator"], str(one.data["change"]).partition(",")[0]) for one in team.system()]
    assert told == [
        ("alice", "added"), ("bob", "added"), ("bob", "a token issued"), ("bob", "the token revoked"),
        ("bob", "removed"),
    ]  # fmt: skip


# ---------------------------------------------------------------- deciding


def test_of_a_shared_account_each_is_proved_by_a_code_and_the_journal_says_so(team: People) -> None:
    unasked = team.irflow("halt", "--as", "alice")
    assert (unasked.code, "--code CODE" in unasked.err) == (REFUSED, True)
    assert team.irflow("halt", "--as", "alice", "--code", team.code("alice")).code == 0
    assert team.irflow("resume", "--as", "bob", "--code", team.code("bob")).code == 0
    assert team.irflow("halt", "--as", ME).code == 0, "this one has no codes, as before"
    decided = team.system(Kind.HALTED, Kind.RESUMED)
    assert [(one.data["operator"], one.data["method"]) for one in decided] == [
        ("alice", "totp"), ("bob", "totp"), (ME, "os-account"),
    ]  # fmt: skip
    proved = team.system(Kind.OPERATOR_PROVED)
    assert [(one.data["operator"], one.data["for"]) for one in proved] == [("alice", "halt"), ("bob", "resume")]
    assert set(proved[0].data) == {"operator", "counter", "method", "for"}


def test_an_account_of_one_operator_needs_no_code_and_a_code_is_good_from_any_account(people: People) -> None:
    people.add("alice", "--login", "somebody-else")
    assert people.irflow("halt").code == 0
    assert "is not operator alice" in people.irflow("resume", "--as", "alice").err
    assert people.irflow("resume", "--as", "alice", "--code", people.code("alice")).code == 0
    methods = [one.data["method"] for one in people.system(Kind.HALTED, Kind.RESUMED)]
    assert methods == ["os-account", "totp"]


def test_an_approval_names_the_method_and_every_kind_of_decision_takes_a_code(team: People) -> None:
    (team.home / "inventory.yaml").write_text(
        "hosts: {web-1: {address: 192.0.2.1, user: root, key: 'file:keys/responder', management: [192.0.2.0/28]}}\n"
    )

    def decided(name: str, *arguments: str, later: int = 0) -> None:
        done = team.irflow(*arguments, "--as", name, "--code", team.code(name, later))
        assert done.code == 0, done.err

    decided("alice", "run", "isolate-host", "--param", "hosts=web-1", "--yes")
    dry = team.irflow("run", "isolate-host", "--param", "hosts=web-1", "--dry-run", "--as", "alice")
    assert "one-time code" not in dry.err, "a look needs no proof"
    with open_store(load(team.home).settings) as journal:
        number = journal.incidents()[0][0].number
    decided("bob", "incidents", "note", number, "seen")
    decided("alice", "incidents", "add-host", number, "--address", "203.0.113.9", later=1)
    with open_store(load(team.home).settings) as journal:
        ((incident, _),) = journal.incidents()
        events = {one.kind: one.data for one in journal.events(incident.id)}
    by = {kind: events[kind]["operator"] for kind in (Kind.APPROVAL_GIVEN, Kind.NOTE, Kind.HOST_ADDED)}
    assert by == {Kind.APPROVAL_GIVEN: "alice", Kind.NOTE: "bob", Kind.HOST_ADDED: "alice"}
    assert {events[kind]["method"] for kind in by} == {"totp"}


def test_access_holds_whatever_the_way_to_decide(people: People) -> None:
    path = people.home / "operators.yaml"
    path.write_text(path.read_text().replace("access: admin", "access: monitor"))
    done = people.irflow("halt")
    assert (done.code, "has access monitor and may not halt" in done.err) == (REFUSED, True)
    path.write_text(path.read_text().replace("access: monitor", "access: agent"))
    assert people.irflow("halt").code == 0
    assert "may not lift a halt" in people.irflow("resume").err
    assert people.irflow("incidents", "list").code == 0


def test_a_code_is_tried_without_deciding_anything_and_is_used_up(team: People) -> None:
    code = team.code("alice")
    assert "this is alice" in team.irflow("operators", "code", "alice", "--code", code).out
    assert "was used already" in team.irflow("halt", "--as", "alice", "--code", code).err
    assert "has no key for one-time codes" in team.irflow("operators", "code", ME, "--code", "123456").err
    assert team.irflow("operators", "code", "alic", "--code", "123456").code == USAGE


def test_who_cannot_be_told_apart_is_warned_of(team: People) -> None:
    told = f"the account {ME} stands for several, and who sits there can be {ME} by --as alone"
    assert told in team.irflow("check").err
    assert told in team.irflow("doctor").out
    team.irflow("operators", "add", ME, "--new-key", "--as", ME)
    assert "stands for several" not in team.irflow("check").err


def test_nothing_that_a_process_says_or_keeps_holds_key_or_code(team: People) -> None:
    code, key = team.code("alice"), team.key("alice")
    done = [
        team.processed("halt", "--as", "alice", "--code", code),
        team.processed("halt", "--as", "alice", "--code", code),
        team.processed("resume", "--as", "alice", "--code", team.wrong("alice")), team.processed("operators", "list"),
    ]  # fmt: skip
    said = "".join(one.out + one.err for one in done)
    said += str([one.data for one in team.system()])
    assert [one.code for one in done] == [0, REFUSED, REFUSED, 0]
    assert code not in said
    assert key not in said


# ---------------------------------------------------------------- on a terminal


def on_terminal(people: People, *arguments: str, types: Sequence[Callable[[], str]] = ()) -> tuple[int, str]:
    """A command at a real terminal. types: what the person types at each question for a code."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "irflow", "--home", str(people.home), *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen, lines = b"", list(types)
    try:
        while True:
            seen += os.read(ours, 65536)
            if lines and seen.endswith(b": "):  # the blank comes once the terminal shows nothing any more
                os.write(ours, lines.pop(0)().encode() + b"\n")
    except OSError:  # how Linux says that nobody has the other end open any more
        pass
    finally:
        os.close(ours)
    return process.wait(30), seen.decode()


def test_a_terminal_is_asked_for_a_code_that_does_not_show(team: People) -> None:
    code = team.code("alice")
    status, seen = on_terminal(team, "halt", "--as", "alice", types=[lambda: code])
    assert (status, "halted" in seen) == (0, True), seen
    assert code not in seen


def test_a_new_phone_is_tried_at_once_unless_somebody_says_not_to(people: People) -> None:
    status, seen = on_terminal(
        people, "operators", "add", "bob", types=[lambda: people.wrong("bob"), lambda: people.code("bob")]
    )
    assert (status, "this is bob: the phone is right" in seen) == (0, True), seen
    assert len(people.system(Kind.OPERATOR_REFUSED)) == 1
    status, seen = on_terminal(people, "operators", "add", "eve", types=[lambda: people.wrong("eve")] * 3)
    assert (status, "the phone does not show the codes of eve" in seen) == (REFUSED, True), seen
    status, seen = on_terminal(people, "operators", "add", "dan", "--no-check")
    assert (status, "added dan" in seen) == (0, True), seen


# ---------------------------------------------------------------- keys in OpenBao


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[EmbeddedVault]:
    with running(tmp_path / "vault") as one:
        yield one


def test_a_key_in_vault_proves_and_while_vault_is_down_nothing_counts_as_a_failure(
    people: People, vault: EmbeddedVault
) -> None:
    (people.home / "irflow.yaml").write_text(
        f"vault: {{url: '{vault.url}', ca: '{vault.ca}', role: 'file:{vault.login.role.path}', "
        f"secret: 'file:{vault.login.secret.path}'}}\n"
    )
    people.add("alice", *SIGNED_OFF)
    assert "vault:irflow/operators/alice#totp" in (people.home / "operators.yaml").read_text()
    first, later = people.code("alice"), people.code("alice", 1)
    assert people.irflow("halt", "--as", "alice", "--code", first).code == 0
    vault.stop()
    for _ in range(2 * MOST_FAILURES):
        done = people.irflow("resume", "--as", "alice", "--code", later)
        assert (done.code, "Vault does not answer" in done.err) == (MISSING, True)
    assert people.system(Kind.OPERATOR_REFUSED) == []
    vault.start()
    assert people.irflow("resume", "--as", "alice", "--code", later).code == 0
    assert people.irflow("operators", "add", "alice", "--new-key", "--as", ME).code == 0
    removed = people.irflow("operators", "remove", "alice", "--as", ME)
    assert "the key stays at vault:irflow/operators/alice#totp" in removed.err


# ---------------------------------------------------------------- at the same moment, and killed


@dataclass
class FrozenClock:
    """Stands still until it is moved."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass(frozen=True)
class Desk:
    """eve's codes over one journal, which several stores have open as several processes would."""

    key: Path
    clock: FrozenClock

    def at(self, journal: SqlStore) -> CodeIdentities:
        eve = Operator(name="eve", login="eve", roles=(), totp=f"file:{self.key}")
        return CodeIdentities([eve], FileSecrets(), journal, AuthenticatorCodes(), self.clock)

    def code(self, later: int = 0) -> str:
        return str(pyotp.TOTP(self.key.read_text()).at(self.clock.at, counter_offset=later))

    def wrong(self) -> str:
        near = {self.code(later) for later in range(-2, 3)}
        return next(code for code in (f"{number:06}" for number in range(10)) if code not in near)


@pytest.fixture
def eve(tmp_path: Path) -> Desk:
    key = tmp_path / "eve.totp"
    key.write_text(pyotp.random_base32(32))
    key.chmod(0o600)
    return Desk(key, FrozenClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))


def accepted(proofs: CodeIdentities, code: str, name: str = "eve") -> bool:
    try:
        proofs.prove(name, code)
    except Refused:
        return False
    return True


def test_of_many_threads_with_the_same_code_exactly_one_is_proved(opened: Opener, eve: Desk) -> None:
    stores = [opened(clock=eve.clock) for _ in range(3)]
    desks = [eve.at(stores[number % 3]) for number in range(12)]
    together = threading.Barrier(len(desks))

    def go(proofs: CodeIdentities, code: str) -> bool:
        together.wait()
        return accepted(proofs, code)

    for later in (-1, 0, 1):
        with ThreadPoolExecutor(len(desks)) as pool:
            won = list(pool.map(go, desks, [eve.code(later)] * len(desks)))
        assert won.count(True) == 1
    events = stores[0].events(SYSTEM)
    assert [one.data["counter"] for one in events if one.kind == Kind.OPERATOR_PROVED] == [
        int(eve.clock.at.timestamp()) // STEP_S + later for later in (-1, 0, 1)
    ]
    assert verify(SYSTEM, events, ()).intact


def test_of_many_processes_with_the_same_code_exactly_one_decides(people: People, url: str) -> None:
    people.add("alice", *SIGNED_OFF)
    there = People(people.home, {"IRFLOW_DATABASE_URL": url})
    code = people.code("alice")
    started = [there.start("halt", "--reason", str(number), "--as", "alice", "--code", code) for number in range(4)]
    ended = [process.communicate(timeout=100)[1] for process in started]
    assert sorted(process.returncode for process in started) == [0, REFUSED, REFUSED, REFUSED], ended
    assert sum("was used already" in err for err in ended) == 3


def test_a_code_and_all_before_it_stay_used_in_a_process_that_starts_later(opened: Opener, eve: Desk) -> None:
    assert accepted(eve.at(opened(clock=eve.clock)), eve.code(1))
    later = eve.at(opened(clock=eve.clock))
    assert not accepted(later, eve.code(1))
    assert not accepted(later, eve.code(0)), "an older one"
    eve.clock.at += timedelta(seconds=STEP_S)
    assert not accepted(later, eve.code(0)), "the same step as before, now in the middle"
    assert accepted(later, eve.code(1))


def test_a_code_is_good_for_one_step_either_way_and_no_longer(store: SqlStore, eve: Desk) -> None:
    proofs = eve.at(store)
    assert not accepted(proofs, eve.code(-2))
    assert not accepted(proofs, eve.code(2))
    assert [accepted(proofs, eve.code(later)) for later in (-1, 0, 1)] == [True, True, True]


def test_failures_in_a_row_lock_out_for_a_while_also_elsewhere_and_people_are_told_once(
    opened: Opener, eve: Desk
) -> None:
    here, there = opened(clock=eve.clock), opened(clock=eve.clock)
    for number in range(MOST_FAILURES):
        assert not accepted(eve.at((here, there)[number % 2]), eve.wrong())
    assert not accepted(eve.at(there), eve.code()), "a good one, and another process"
    assert not accepted(eve.at(here), eve.wrong())
    assert len(here.events(SYSTEM)) == MOST_FAILURES, "while it lasts nothing more is written"
    (told,) = [one.payload for one in here.pending() if one.kind == "notify"]
    assert told["channels"] == ["email", "dashboard"]
    assert "eve" in told["title"]
    eve.clock.at += LOCKED - timedelta(seconds=1)
    assert not accepted(eve.at(there), eve.code())
    eve.clock.at += timedelta(seconds=1)
    assert accepted(eve.at(there), eve.code())


def test_strangers_names_read_like_wrong_codes_are_never_kept_and_lock_out_nobody_else(
    store: SqlStore, eve: Desk
) -> None:
    proofs = eve.at(store)
    with pytest.raises(Refused) as wrong:
        proofs.prove("eve", eve.wrong())
    for _ in range(3 * MOST_FAILURES):
        with pytest.raises(Refused) as unknown:
            proofs.prove("mallory", eve.code())
    assert str(unknown.value).replace("mallory", "eve") == str(wrong.value)
    events = store.events(SYSTEM)
    assert "mallory" not in str([one.data for one in events])
    assert len(events) == 1 + MOST_FAILURES
    assert accepted(proofs, eve.code())


def test_a_stranger_takes_about_as_long_as_a_wrong_code(opened: Opener, eve: Desk) -> None:
    proofs = eve.at(opened(clock=eve.clock))

    def took(name: str) -> float:
        start = time.perf_counter()
        assert not accepted(proofs, eve.wrong(), name)
        eve.clock.at += LOCKED  # nobody is locked out for long
        return time.perf_counter() - start

    took("eve"), took("mallory")
    times: dict[str, list[float]] = {"eve": [], "mallory": []}
    for _ in range(15):
        for name, measured in times.items():
            measured.append(took(name))
    ratio = statistics.median(times["mallory"]) / statistics.median(times["eve"])
    assert 0.4 < ratio < 2.5


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_proof_and_decision_the_code_is_used_and_nothing_was_decided(
    people: People, url: str, when: str
) -> None:
    people.add("alice", *SIGNED_OFF)
    there = People(people.home, {"IRFLOW_DATABASE_URL": url})
    arguments = ("halt", "--as", "alice", "--code", people.code("alice"))
    assert there.processed(*arguments, fault=f"{when}:operator.proved").code == -signal.SIGKILL
    again = there.processed(*arguments)
    if when == "before":
        assert again.code == 0, "the proof was not durable, so the code was not used"
    else:
        assert (again.code, "was used already" in again.err) == (REFUSED, True)
        assert "HALTED" not in there.processed("incidents", "list").out


def test_flow_processes_and_the_page_prove_people_through_the_same_port(team: People) -> None:
    config = load(team.home)
    with open_store(config.settings) as journal:
        proofs = identities(config, journal)
        assert proofs.prove("alice", team.code("alice"), for_="the page").name == "alice"
        with pytest.raises(Refused):
            identities(config, journal).prove("bob", team.code("alice", 1))
    assert [one.data["for"] for one in team.system(Kind.OPERATOR_PROVED)] == ["the page"]
