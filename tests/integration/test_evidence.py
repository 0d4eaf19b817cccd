"""Evidence comes off a host unchanged, leaves nothing there, and holds what an intruder would rather not have seen."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator

import pytest

from irflow.actions.evidence_collect import EvidenceCollect
from irflow.actions.host_facts import HostFacts
from irflow.actions.host_isolate import HostIsolate
from irflow.lab.attack import StagedAttack, stage
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.integration.lab_actions import Hands
from tests.services.on_host import on

COLLECT, FACTS, ISOLATE = EvidenceCollect(), HostFacts(), HostIsolate()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def attack(lab: Lab) -> Iterator[StagedAttack]:
    with stage(lab, lab.hosts[0]) as staged:
        yield staged


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = [one for one in archive.getmembers() if one.isfile()]
        return {
            one.name.removeprefix("evidence/"): found.read() for one in files if (found := archive.extractfile(one))
        }


@pytest.mark.parametrize("profile", ["snapshot", "volatile"])
def test_what_is_kept_hashes_as_the_host_said_and_has_a_custody_entry(hands: Hands, profile: str) -> None:
    _, proof = hands.run(COLLECT, "web-2", profile=profile)
    assert proof.passed, proof
    (entry,) = proof.facts["evidence"]
    content = hands.evidence.get(entry["path"])
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["bytes"] == len(content)
    assert (entry["who"], entry["where"], entry["profile"]) == ("irflow:test", "web-2", profile)
    assert entry["how"].startswith(f"evidence.sh {profile} --seconds")
    assert "script SHA-256 " in entry["how"]
    assert abs(entry["clock_offset_s"]) <= entry["clock_uncertainty_s"] + 0.05
    assert content.endswith(b"==> end <==\n") if profile == "snapshot" else members(content)


def test_the_snapshot_names_the_beacon_and_the_session(lab: Lab, hands: Hands, attack: StagedAttack) -> None:
    _, proof = hands.run(COLLECT, "web-1", profile="snapshot")
    text = hands.evidence.get(proof.facts["evidence"][0]["path"]).decode()
    parts = dict(re.findall(r"^==> ([^\n]+) <==\n(.*?)(?=^==> |\Z)", text, re.MULTILINE | re.DOTALL))
    programs = parts["programs, folders and sockets of processes"]
    assert f"/proc/{beacon_inside(lab, attack)}/exe -> {attack.implant} (deleted)" in programs
    assert "socket:[" in programs
    assert "mallory" in parts["processes"]
    assert ":0016 " in parts["tcp"]
    assert "end" in parts


def beacon_inside(lab: Lab, attack: StagedAttack) -> str:
    return on(lab, attack.host, f"pgrep -f {attack.implant}").split()[0]


def test_volatile_evidence_holds_the_deleted_program_itself(lab: Lab, hands: Hands, attack: StagedAttack) -> None:
    pid = beacon_inside(lab, attack)
    real = on(lab, attack.host, f"sha256sum </proc/{pid}/exe").split()[0]
    _, proof = hands.run(COLLECT, "web-1", profile="volatile")
    found = members(hands.evidence.get(proof.facts["evidence"][0]["path"]))
    assert hashlib.sha256(found[f"programs/pid{pid}"]).hexdigest() == real
    assert real in found["02_programs_sha256"].decode()
    assert b"syshealth" in found["files/etc/crontab"]
    manifest = {line[66:]: line[:64] for line in found["MANIFEST"].decode().splitlines()}
    for name, content in found.items():
        if name != "MANIFEST":
            assert manifest[f"./{name}"] == hashlib.sha256(content).hexdigest()


def test_an_isolated_host_still_gives_its_evidence(hands: Hands) -> None:
    assert hands.run(ISOLATE, "web-2")[1].passed
    assert hands.run(COLLECT, "web-2", profile="volatile")[1].passed


def test_collecting_leaves_nothing_on_the_host(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[1]
    hands.run(COLLECT, host.name, profile="snapshot")
    before = lab.diff(host)
    hands.run(COLLECT, host.name, profile="volatile")
    assert lab.diff(host) == before
    assert on(lab, host, "ls -A /dev/shm /run | grep irflow || :") == ""


def test_the_snapshot_keeps_to_its_time_on_a_host_with_many_processes(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[1]
    many = "i=0; while [ $i -lt 300 ]; do sleep 60 >/dev/null & i=$((i + 1)); done; echo $$"
    group = on(lab, host, f"exec setsid sh -c '{many}' </dev/null 2>/dev/null")
    try:
        _, proof = hands.run(COLLECT, host.name, profile="snapshot")
        assert proof.passed
        assert proof.facts["seconds"] < 1.5  # 0.25 s of collecting, the rest is this machine's load
    finally:
        on(lab, host, f"kill -- -{group.strip()}")


def test_a_link_of_an_account_leads_nowhere(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[1]
    on(lab, host, "ln -sf /etc/shadow /home/alice/.bash_history")
    _, proof = hands.run(COLLECT, host.name, profile="volatile")
    found = members(hands.evidence.get(proof.facts["evidence"][0]["path"]))
    assert "files/home/alice/.bash_history" not in found
    assert b"/home/alice/.bash_history|symbolic link" in found["files_stat"]


def test_first_facts_name_what_looks_wrong(lab: Lab, hands: Hands, attack: StagedAttack) -> None:
    _, proof = hands.run(FACTS, "web-1")
    assert proof.passed
    facts = proof.facts
    assert facts["os"].startswith("Debian")
    assert any(one.startswith("mallory@pts/") for one in facts["sessions"])
    assert any(f"{attack.implant} (deleted)" in one for one in facts["suspicious"])
    assert any(one.startswith("tcp 0.0.0.0:22 ") for one in facts["listeners"])
    assert abs(facts["clock_offset_s"]) < 5
    assert hands.run(FACTS, "web-1")[0] == ()
