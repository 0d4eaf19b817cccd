"""Full evidence of a host holds what an intruder left, within time and size, without secrets and without a trace."""

from __future__ import annotations

import hashlib
import io
import tarfile
import time
from collections.abc import Iterator

import pytest

from irflow.actions.host_snapshot import HostSnapshot, SnapshotParams
from irflow.core.action import Proof
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.integration.lab_actions import Hands
from tests.services.on_host import on

SNAPSHOT = HostSnapshot()
PRIVATE = "PRIVATE"  # apart: no file of the project looks as if it held a key
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPlantedPlantedPlantedPlantedPlantedPlant intruder"
HASH = "$6$saltsalt$ThisHashMustNotLeaveTheHostAtAllThisHashMustNotLeaveTheHost"
PLANT = f"""
cp /bin/true /usr/local/bin/helper && chmod 4755 /usr/local/bin/helper
mkdir -p /home/alice/.ssh && echo '{KEY}' >>/home/alice/.ssh/authorized_keys
echo '* * * * * root /opt/beacon' >/etc/cron.d/planted
mkdir -p /opt && echo 'new on this host' >/opt/recent.txt
echo 'planted:{HASH}:20000:0:99999:7:::' >>/etc/shadow
cp /etc/shadow /etc/shadow.bak
echo 'back:{HASH}:0:0::/root:/bin/sh' >>/etc/passwd
mkdir -p /etc/ssl/private
printf -- '-----BEGIN {PRIVATE} KEY-----\\nMIIsecret\\n' >/etc/ssl/private/planted.pem
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates
printf '%s\\n' 'Package: planted-tool' 'Status: install ok installed' 'Version: 1.0' 'Architecture: all' \
    'Maintainer: none' 'Description: a tool' >/var/lib/dpkg/status
echo 'old:abABcdCD01239:1009:1009::/nowhere:/bin/sh' >>/etc/passwd
mkdir -p /var/log && head -c 3000000 /dev/urandom >/var/log/big.log
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        on(running, running.hosts[0], PLANT)
        yield running


@pytest.fixture(scope="module")
def hands(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hands]:
    made = Hands(lab, tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def proof(hands: Hands) -> Proof:
    """With time enough for a machine that is busy."""
    context, params = (
        hands.context(SNAPSHOT, "web-1", seconds=400),
        SnapshotParams(host="web-1", seconds=240, max_mb=64),
    )
    applied = tuple(SNAPSHOT.apply(change, context) for change in SNAPSHOT.plan(params, {}))
    return SNAPSHOT.verify(params, {}, applied, context)


@pytest.fixture(scope="module")
def found(hands: Hands, proof: Proof) -> dict[str, bytes]:
    return members(hands.evidence.get(proof.facts["evidence"][1]["path"]))


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        files = [one for one in archive.getmembers() if one.isfile()]
        return {one.name.removeprefix("evidence/"): got.read() for one in files if (got := archive.extractfile(one))}


def listed(manifest: bytes) -> dict[str, str]:
    """What sha256sum wrote; before a line with an escaped backslash it puts another one."""
    lines = [line.removeprefix("\\") for line in manifest.decode().splitlines()]
    return {line[66:].replace("\\\\", "\\"): line[:64] for line in lines}


def test_both_archives_hash_as_the_host_said_and_every_part_as_its_manifest(
    hands: Hands, proof: Proof, found: dict[str, bytes]
) -> None:
    assert proof.passed, proof
    for entry in proof.facts["evidence"]:
        assert entry["sha256"] == hashlib.sha256(hands.evidence.get(entry["path"])).hexdigest()
        assert (entry["who"], entry["where"]) == ("irflow:test", "web-1")
        inside = members(hands.evidence.get(entry["path"]))
        manifest = listed(inside.pop("MANIFEST"))
        assert manifest == {f"./{name}": hashlib.sha256(content).hexdigest() for name, content in inside.items()}
    assert len(found) > 100


def test_what_was_planted_is_in_it(lab: Lab, found: dict[str, bytes]) -> None:
    assert "|/usr/local/bin/helper" in found["06_suid"].decode()
    assert KEY in found["files/home/alice/.ssh/authorized_keys"].decode()
    assert b"/opt/beacon" in found["files/etc/cron.d/planted"]
    assert "|/opt/recent.txt" in found["05_recent"].decode()
    real = on(lab, lab.hosts[0], "sha256sum /opt/recent.txt /usr/local/bin/helper")
    recent, helper = real.splitlines()
    assert recent in found["05_recent_sha256"].decode()
    assert helper in found["06_programs_sha256"].decode()


@pytest.mark.parametrize(
    ("part", "text"),
    [("06_packages", "planted-tool"), ("04_accounts", "root:x:0:0"), ("01_mounts", " / "), ("04_groups", "root:x:0:"),
     ("files/etc/ssh/sshd_config", "")],
)  # fmt: skip
def test_the_state_of_the_host_is_in_it(found: dict[str, bytes], part: str, text: str) -> None:
    assert text in found[part].decode()


def test_no_hash_of_a_password_and_no_private_key_leaves_the_host(
    hands: Hands, proof: Proof, found: dict[str, bytes]
) -> None:
    state = found
    assert not [name for name, content in state.items() if HASH[12:].encode() in content]
    assert not [name for name in state if name.startswith("files/etc/shadow")]
    assert not [name for name, content in state.items() if b"MIIsecret" in content]
    assert b"planted password 20000" in state["04_passwords"]
    assert b"/etc/shadow|" in state["04_shadow_stat"]
    assert b"files/etc/ssl/private/planted.pem" in state["WITHHELD"]
    assert b"|./04_accounts|" in state["WITHHELD"]
    assert b"|/etc/shadow.bak" in state["WITHHELD"]
    assert b"old:WITHHELD:1009:" in state["files/etc/passwd"]
    assert b"back:$6$WITHHELD:0:0::/root:/bin/sh" in state["files/etc/passwd"]


def test_what_is_not_there_is_named(proof: Proof, found: dict[str, bytes]) -> None:
    (_, state) = proof.facts["evidence"]
    assert "everything:memory" in state["cut"]  # a lab host has 64 MiB of /dev/shm
    assert b"the folder in memory has no room for 64 MiB" in found["INCOMPLETE"]
    assert b"systemd does not run here" in found["INCOMPLETE"]


def test_it_leaves_nothing_on_the_host(lab: Lab, hands: Hands, proof: Proof) -> None:
    host = lab.hosts[0]
    before = lab.diff(host)
    hands.run(SNAPSHOT, host.name, seconds=6, max_mb=8)
    assert lab.diff(host) == before
    assert on(lab, host, "ls -A /dev/shm /run | grep irflow || :") == ""


def test_the_time_box_holds_and_says_what_it_cut(lab: Lab, hands: Hands) -> None:
    host = lab.hosts[0]
    # A host whose package manager hangs and that has no getcap.
    hang = "printf '#!/bin/sh\\nsleep 100\\n' >/usr/bin/dpkg; chmod 755 /usr/bin/dpkg"
    getcap = on(lab, host, "command -v getcap").strip()
    on(lab, host, f"mv /usr/bin/dpkg /usr/bin/dpkg.real; {hang}; mv {getcap} {getcap}.real")
    try:
        begun = time.monotonic()
        _, proof = hands.run(SNAPSHOT, host.name, seconds=9, max_mb=64)
        assert time.monotonic() - begun < 9 * 1.5 + 6
    finally:
        on(lab, host, f"mv /usr/bin/dpkg.real /usr/bin/dpkg; mv {getcap}.real {getcap}")
    assert proof.passed, proof
    assert any(part.endswith(":time") and part.startswith("06_packages") for part in proof.facts["incomplete"])
    inside = members(hands.evidence.get(proof.facts["evidence"][1]["path"]))
    assert b"06_packages: time" in inside["INCOMPLETE"]
    assert proof.facts["evidence"][1]["missing"] == ["getcap"]
    assert b"06_capabilities: no getcap on this host" in inside["INCOMPLETE"]


def test_the_size_cap_holds_and_says_what_it_left(hands: Hands) -> None:
    _, proof = hands.run(SNAPSHOT, "web-1", seconds=30, max_mb=2)
    assert proof.passed, proof
    entry = proof.facts["evidence"][1]
    assert entry["bytes"] < 2 << 20
    assert "06_logs:size" in entry["cut"]
    inside = members(hands.evidence.get(entry["path"]))
    assert sum(len(one) for one in inside.values()) < (2 << 20) + 500_000
    assert b"06_logs|3000000|/var/log/big.log" in inside["NOT_TAKEN"]
