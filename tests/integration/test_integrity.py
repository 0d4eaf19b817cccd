"""A host is compared with how it looked when it was in order; what an intruder left is named, path by path."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from irflow.actions.host_isolate import HostIsolate
from irflow.actions.host_release import HostRelease
from irflow.actions.integrity_baseline import IntegrityBaseline
from irflow.actions.integrity_check import IntegrityCheck
from irflow.core.errors import IrflowError
from irflow.lab.attack import stage
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.integration.lab_actions import Hands
from tests.services.on_host import on

BASELINE, CHECK, ISOLATE, RELEASE = IntegrityBaseline(), IntegrityCheck(), HostIsolate(), HostRelease()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    assert made.run(BASELINE, "web-1")[1].passed
    yield made
    made.close()


def test_a_host_that_nobody_touched_matches_also_while_isolated(hands: Hands) -> None:
    assert hands.run(CHECK, "web-1")[1].passed
    assert hands.run(ISOLATE, "web-1")[1].passed
    try:
        _, proof = hands.run(CHECK, "web-1")
        assert proof.passed, proof
    finally:
        hands.run(RELEASE, "web-1")
    assert proof.facts["lines"] > 500


def test_what_the_attack_left_is_named_and_gone_after_it_was_removed(lab: Lab, hands: Hands) -> None:
    with stage(lab, lab.hosts[0]) as attack:
        _, proof = hands.run(CHECK, "web-1")
        assert not proof.passed
        assert proof.facts["changed"] == ["/etc/crontab"]
        assert proof.facts["added"] == ["/usr/local/bin/syshealth"]
        assert len(proof.facts["running"]) == 1
        assert f"{attack.implant} (deleted)" in proof.facts["running"][0]
        assert set(proof.failed) == {"no file changed", "no file added", "no program runs without its file"}
        attack.clean()
        _, proof = hands.run(CHECK, "web-1")
        assert proof.passed, proof
        assert proof.facts["withdrawn"] == ["/home/mallory/.ssh/authorized_keys"]


@pytest.mark.parametrize(
    ("tampering", "undo", "kind", "path"),
    [
        ("chmod 4755 /usr/bin/find", "chmod 755 /usr/bin/find", "changed", "/usr/bin/find"),
        ("cp /usr/bin/env /opt/x; chmod 4755 /opt/x", "rm /opt/x", "added", "/opt/x"),
        ("echo k >>/root/.ssh/authorized_keys", "sed -i '$d' /root/.ssh/authorized_keys", "changed",
         "/root/.ssh/authorized_keys"),
        ("echo x >'/etc/a b'", "rm '/etc/a b'", "added", "/etc/a b"),
        ("ln -s /tmp /etc/cron.d/x", "rm /etc/cron.d/x", "added", "/etc/cron.d/x"),
        ("chown 1001 /etc/hosts", "chown 0 /etc/hosts", "changed", "/etc/hosts"),
        ("mv /etc/hosts /etc/.hosts", "mv /etc/.hosts /etc/hosts", "removed", "/etc/hosts"),
    ],
)  # fmt: skip
def test_each_way_to_stay_is_found(lab: Lab, hands: Hands, tampering: str, undo: str, kind: str, path: str) -> None:
    on(lab, lab.hosts[0], tampering)
    try:
        _, proof = hands.run(CHECK, "web-1")
        assert not proof.passed
        assert path in proof.facts[kind]
        _, agreed = hands.run(CHECK, "web-1", accept=[path, *proof.facts["added"], *proof.facts["changed"]])
        assert agreed.passed
        assert path in agreed.facts["accepted"]
    finally:
        on(lab, lab.hosts[0], undo)
    assert hands.run(CHECK, "web-1")[1].passed


def test_a_file_name_with_a_line_break_hides_nothing(lab: Lab, hands: Hands) -> None:
    """It forges the line that an unchanged /etc/hosts would have."""
    host = lab.hosts[0]
    original = on(lab, host, "sha256sum </etc/hosts").split()[0]
    folder = f"\"$(printf '/etc/x\\nsum {original} ')/etc\""
    on(lab, host, f"cp -p /etc/hosts /root/hosts; echo evil >>/etc/hosts; mkdir -p {folder}; touch {folder}/hosts")
    try:
        _, proof = hands.run(CHECK, "web-1")
        assert "/etc/hosts" in proof.facts["changed"]
    finally:
        on(lab, host, "cp -p /root/hosts /etc/hosts; rm -rf /etc/x*")


def test_a_new_port_is_found(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[0]
    serve = "import socket,time; s=socket.create_server(('', 4444)); print(flush=True); time.sleep(60)"
    pid = on(lab, host, f'python3 -c "{serve}" >/run/ready 2>&1 </dev/null & p=$!; '
                        "while [ ! -s /run/ready ]; do :; done; echo $p").strip()  # fmt: skip
    try:
        _, proof = hands.run(CHECK, "web-1")
        assert proof.facts["listening"] == ["tcp 0.0.0.0:4444"]
    finally:
        on(lab, host, f"kill {pid}; rm /run/ready; while [ -d /proc/{pid} ]; do :; done")


def test_without_a_baseline_the_error_says_how_to_get_one(hands: Hands) -> None:
    with pytest.raises(IrflowError, match="no baseline") as caught:
        hands.run(CHECK, "web-2")
    assert "irflow run baseline" in caught.value.hint


def test_the_newest_baseline_counts_and_a_forged_one_is_refused(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[1]
    hands.run(BASELINE, host.name)
    on(lab, host, "touch /etc/new")
    assert hands.run(CHECK, host.name)[1].facts["added"] == ["/etc/new"]
    _, proof = hands.run(BASELINE, host.name)
    assert hands.run(CHECK, host.name)[1].passed
    on(lab, host, "rm /etc/new")
    assert hands.run(CHECK, host.name)[1].facts["removed"] == ["/etc/new"]
    file = hands.home / "evidence" / proof.facts["baseline"]
    file.chmod(0o600)
    file.write_text(file.read_text().replace("/etc/new", "/etc/old"))
    with pytest.raises(IrflowError, match="not what was recorded"):
        hands.run(CHECK, host.name)
