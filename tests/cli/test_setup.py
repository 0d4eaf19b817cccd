"""From an empty folder to a first real use: init, check, doctor."""

from __future__ import annotations

import getpass
import os
import socket
import stat
from pathlib import Path

import pytest

from irflow.drill.installation import free_port
from irflow.shipped import shipped
from tests.cli.conftest import Irflow

PRIVATE = ("irflow.yaml", "sources.yaml", "inventory.yaml", "operators.yaml", "keys/detection.webhook",
           "keys/alertmanager.token", "keys/backup.password", "keys/responder")  # fmt: skip

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHVubGlzdGVuZWQtdG8ta2V5LW9mLW5vLWhvc3QtYQ=="


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def begun(irflow: Irflow, home: Path) -> Path:
    """A home with what `irflow init` writes, on ports that are free here."""
    assert irflow("init").code == 0
    with (home / "irflow.yaml").open("a") as settings:
        settings.write(f"web_port: {free_port()}\nprefect_port: {free_port()}\n")
    return home


# ------------------------------------------------------------------ init


def test_init_writes_everything_and_says_what_comes_next(irflow: Irflow, home: Path) -> None:
    done = irflow("init")
    assert done.code == 0
    written = {line.removeprefix("wrote ") for line in done.out.splitlines() if line.startswith("wrote ")}
    assert written == {str(path) for path in home.rglob("*") if path.is_file()}
    assert done.out.splitlines()[-1] == "next: edit inventory.yaml, then irflow doctor && irflow up"


def test_what_init_writes_is_for_this_account_alone(begun: Path) -> None:
    assert mode(begun) == mode(begun / "keys") == 0o700
    assert {name: mode(begun / name) for name in PRIVATE} == dict.fromkeys(PRIVATE, 0o600)


@pytest.mark.parametrize("kind", ["playbooks", "runbooks"])
def test_init_copies_what_is_shipped(begun: Path, kind: str) -> None:
    assert {one.name: one.read_bytes() for one in (begun / kind).iterdir()} == {
        one.name: one.read_bytes() for one in shipped(kind).glob("*.yaml")
    }


def test_init_makes_whoever_runs_it_an_operator(begun: Path, irflow: Irflow) -> None:
    assert f"login: {getpass.getuser()}" in (begun / "operators.yaml").read_text()
    assert irflow("halt", "--reason", "a test").code == 0


def test_a_second_init_is_refused_and_changes_nothing(begun: Path, irflow: Irflow) -> None:
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    done = irflow("init")
    assert done.code == 2
    assert "irflow init --force" in done.err
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_force_adds_what_is_missing_and_never_overwrites(begun: Path, irflow: Irflow) -> None:
    (begun / "inventory.yaml").write_text("hosts: {} # mine\n")
    key = (begun / "keys" / "responder").read_bytes()
    (begun / "keys" / "alertmanager.token").unlink()
    (begun / "runbooks" / "baseline.yaml").unlink()
    done = irflow("init", "--force")
    assert done.code == 0
    assert done.out.splitlines()[:-1] == [
        f"wrote {begun / 'keys' / 'alertmanager.token'}",
        f"wrote {begun / 'runbooks' / 'baseline.yaml'}",
    ]
    assert (begun / "inventory.yaml").read_text() == "hosts: {} # mine\n"
    assert (begun / "keys" / "responder").read_bytes() == key


def test_every_line_that_init_comments_out_is_valid_when_it_is_used(begun: Path, irflow: Irflow) -> None:
    settings, inventory = begun / "irflow.yaml", begun / "inventory.yaml"
    unfolded = [
        line[2:] if line.startswith(("# web_port", "# prefect_port", "# drill_schedule")) else line
        for line in settings.read_text().splitlines()
        if not line.startswith(("web_port", "prefect_port"))
    ]
    start = unfolded.index("# responder:")
    settings.write_text("\n".join(unfolded[:start] + [line[2:] for line in unfolded[start:]]) + "\n")
    head, _, example = inventory.read_text().partition("hosts: {}\n")
    inventory.write_text(head + "hosts:\n" + "".join(line[1:] + "\n" for line in example.splitlines()))
    done = irflow("check")
    assert done.code == 0, done.err
    assert "2 hosts" in done.out


# ------------------------------------------------------------------ check


def test_check_plans_every_phase_of_every_shipped_playbook(begun: Path, irflow: Irflow) -> None:
    rows = irflow("check", "--json").json
    assert {one["playbook"] for one in rows} == {path.stem for path in shipped("playbooks").glob("*.yaml")}
    assert {one["phase"] for one in rows if one["playbook"] == "system-compromise"} == {
        "detection", "containment", "recovery", "lessons_learned",
    }  # fmt: skip
    assert all(one["steps"] > 0 for one in rows)
    assert "no mistakes" in irflow("check").out


def test_check_names_every_mistake_of_every_file_at_its_line(begun: Path, irflow: Irflow) -> None:
    (begun / "irflow.yaml").write_text("web_port: 8765\nweb_prot: 1\n")
    (begun / "inventory.yaml").write_text("hosts:\n  web-1:\n    adress: 10.0.0.1\n    key: file:x\n")
    (begun / "operators.yaml").write_text("operators:\n  me: {login: me}\n")
    (begun / "sources.yaml").write_text("sources:\n  edr:\n    kind: standard\n    auth: hamc\n    key: file:x\n")
    (begun / "runbooks" / "mine.yaml").write_text(
        "runbook: mine\ntitle: Mine\nsteps:\n  - id: one\n    title: One\n    action: host.isolat\n"
        "    with: {host: web-1}\n  - id: two\n    title: Again\n    manual: '{{ nobody }}'\n    role: legal\n"
    )
    done = irflow("check")
    assert done.code == 6
    assert done.out == ""
    told = [line.removeprefix("error: ") for line in done.err.splitlines()]
    for place, word in (
        ("irflow.yaml:2", "web_prot"),
        ("inventory.yaml:3", "adress"),
        ("inventory.yaml:2", "address"),
        ("operators.yaml:2", "roles"),
        ("sources.yaml:4", "'hmac'"),
        ("runbooks/mine.yaml:6", "host.isolat"),
        ("runbooks/mine.yaml:10", "nobody"),
    ):
        assert [line for line in told if line.startswith(f"{begun / place}: ") and word in line], (place, word, told)
    assert told[-1] == f"{len(told) - 1} mistakes to mend"


def test_every_command_refuses_to_work_with_a_broken_file(begun: Path, irflow: Irflow) -> None:
    (begun / "inventory.yaml").write_text("hosts: [\n")
    for command in (("check",), ("incidents", "list"), ("halt",), ("hosts", "list"), ("up", "--check"), ("web",)):
        done = irflow(*command)
        assert done.code == 6, command
        assert f"error: {begun / 'inventory.yaml'}:" in done.err
        assert "Traceback" not in done.err


# ------------------------------------------------------------------ doctor


def findings(irflow: Irflow) -> dict[str, dict[str, object]]:
    return {one["what"]: one for one in irflow("doctor", "--json").json}


def test_a_fresh_home_passes_and_the_notes_say_what_is_left_to_do(begun: Path, irflow: Irflow) -> None:
    done = irflow("doctor")
    assert done.code == 0, done.out
    assert "MEND" not in done.out
    assert "note  hosts: the inventory is empty\n       -> add hosts to inventory.yaml" in done.out
    assert "note  responder: not running\n       -> irflow up starts it" in done.out


def test_doctor_without_a_home_says_to_make_one(irflow: Irflow, home: Path) -> None:
    done = irflow("doctor")
    assert done.code == 7
    assert f"MEND  configuration: there is none in {home}\n       -> irflow init" in done.out
    assert not home.exists()


def test_doctor_shows_the_mistakes_of_broken_files(begun: Path, irflow: Irflow) -> None:
    (begun / "irflow.yaml").write_text("web_prot: 1\n")
    done = irflow("doctor")
    assert done.code == 7
    assert f"{begun / 'irflow.yaml'}:1" in done.out


def test_doctor_tells_of_a_home_that_others_can_read(begun: Path, irflow: Irflow) -> None:
    begun.chmod(0o755)
    assert irflow("doctor").code == 7
    assert findings(irflow)["home is private"]["mend"] == f"chmod 700 {begun}"


def test_doctor_tells_of_a_key_that_is_gone_or_open_to_others(begun: Path, irflow: Irflow) -> None:
    (begun / "keys" / "detection.webhook").unlink()
    (begun / "keys" / "alertmanager.token").chmod(0o644)
    assert irflow("doctor").code == 7
    found = findings(irflow)
    for name in ("detection", "alertmanager"):
        one = found[f"webhook key of {name}"]
        assert not one["passed"]
        assert one["mend"], one


def test_doctor_looks_at_the_backup_repository(begun: Path, irflow: Irflow) -> None:
    one = findings(irflow)["backup repository"]
    assert one["passed"]
    assert str(one["found"]).startswith(f"{begun / 'backups'}: made at the first use, room for ")
    (begun / "keys/backup.password").chmod(0o644)
    one = findings(irflow)["backup repository"]
    assert not one["passed"]
    assert "chmod 600" in str(one["mend"])
    (begun / "keys/backup.password").chmod(0o600)
    with (begun / "irflow.yaml").open("a") as settings:
        settings.write("backup: {keep_free_mb: 100000000000}\n")
    assert "keep_free_mb" in str(findings(irflow)["backup repository"]["mend"])


def test_doctor_tells_of_a_role_that_nobody_has(begun: Path, irflow: Irflow) -> None:
    (begun / "operators.yaml").write_text("operators:\n  me: {login: me, roles: [communications]}\n")
    assert irflow("doctor").code == 7
    told = findings(irflow)
    assert told["somebody is incident_commander"]["mend"] == "add to operators.yaml"
    assert not told["somebody is legal"]["passed"], "a runbook asks legal"


def test_doctor_looks_at_every_host_and_says_what_each_lacks(begun: Path, irflow: Irflow) -> None:
    with socket.socket() as unused:  # bound, but it does not listen
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        (begun / "inventory.yaml").write_text(
            "defaults: {key: 'file:keys/responder', management: [127.0.0.1]}\nhosts:\n"
            "  open: {address: 127.0.0.2, management: []}\n"
            "  new: {address: 127.0.0.3}\n"
            f"  down: {{address: 127.0.0.1, port: {port}, host_keys: ['{KEY}']}}\n"
        )
        assert irflow("doctor").code == 7
        found = findings(irflow)
    assert "management" in str(found["host open"]["mend"])
    assert found["host new"]["mend"] == "irflow hosts enrol new"
    assert not found["host down"]["passed"]
    assert found["host down"]["found"]
    assert found["host down"]["mend"]


def test_doctor_tells_of_a_database_that_does_not_answer(
    begun: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRFLOW_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:1/none?connect_timeout=2")
    done = irflow("doctor")
    assert done.code == 7
    assert "MEND  journal: " in done.out


def test_doctor_tells_of_a_port_that_somebody_else_has(begun: Path, irflow: Irflow) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (begun / "irflow.yaml").write_text(f"web_port: {port}\n")
        one = findings(irflow)["web port"]
        assert not one["passed"]
        assert f"web needs port {port} on 127.0.0.1" in str(one["found"])
        assert f"pid {os.getpid()}" in str(one["found"])
        assert "irflow.yaml" in str(one["mend"])
