"""No host is logged in to that is not the one on record, and no host lets in who should not be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.adapters.prober import TcpProber
from irflow.adapters.ssh import SshShell, scan_host_keys
from irflow.core.errors import ConfigurationError, HostKeyChanged, HostKeyUnknown, HostUnreachable, LoginFailed
from irflow.core.inventory import Host
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.integration.ssh_hosts import certify, host_of, new_key, shell_for

TIMEOUT_S = 15.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture
def host(lab: Lab) -> Host:
    return host_of(lab, 0)


@pytest.fixture
def shell(host: Host) -> Iterator[SshShell]:
    made = shell_for([host])
    yield made
    made.close()


@pytest.fixture
def nobody_is_let_in(lab: Lab) -> Iterator[None]:
    """The first host's sshd must not accept anybody during the test."""
    before = _logins(lab)
    yield
    assert _logins(lab) == before


def _logins(lab: Lab) -> int:
    return lab.exec(lab.hosts[0], ["cat", "/var/log/auth.log"]).stdout.decode().count("Accepted publickey")


def lines(shell: SshShell, host: Host, *args: str) -> list[str]:
    return shell.run(host, "who.sh", args, timeout_s=TIMEOUT_S).text.splitlines()


# ---------------------------------------------------------------- who is there


@pytest.mark.usefixtures("nobody_is_let_in")
def test_a_host_without_a_key_on_record_is_not_logged_in_to(host: Host, shell: SshShell) -> None:
    with pytest.raises(HostKeyUnknown) as caught:
        lines(shell, host.model_copy(update={"host_keys": ()}))
    assert caught.value.where == "web-1"
    assert "irflow hosts enrol web-1" in caught.value.hint


@pytest.mark.usefixtures("nobody_is_let_in")
def test_a_changed_key_stops_the_login_and_both_fingerprints_are_told_as_ssh_keygen_prints_them(
    lab: Lab, host: Host, shell: SshShell
) -> None:
    with pytest.raises(HostKeyChanged) as caught:
        lines(shell, host.model_copy(update={"host_keys": (lab.hosts[1].host_key,)}))
    for one in lab.hosts:
        printed = subprocess.run(["ssh-keygen", "-lf", "-"], input=one.host_key.encode(), capture_output=True).stdout
        assert printed.decode().split()[1] in str(caught.value)


def test_one_of_several_keys_on_record_is_enough(lab: Lab, host: Host, shell: SshShell) -> None:
    both = host.model_copy(update={"host_keys": (lab.hosts[1].host_key, lab.hosts[0].host_key)})
    assert lines(shell, both)[0] == "web-1"


@pytest.mark.usefixtures("nobody_is_let_in")
def test_reading_keys_for_enrolment_needs_neither_a_record_nor_a_login(lab: Lab, host: Host) -> None:
    assert scan_host_keys(host.model_copy(update={"host_keys": ()})) == (lab.hosts[0].host_key,)


@pytest.mark.usefixtures("nobody_is_let_in")
@pytest.mark.parametrize("argument", ["a b", "$(reboot)", "a;b", "a'b", "a\n", "a\0b", "é"])
def test_an_argument_that_is_refused_costs_no_login(host: Host, shell: SshShell, argument: str) -> None:
    with pytest.raises(ConfigurationError, match="refusing to send the argument") as caught:
        lines(shell, host, "fine", argument)
    assert caught.value.where == "web-1"


# ---------------------------------------------------------------- who we are


@pytest.mark.usefixtures("nobody_is_let_in")
def test_a_key_the_host_does_not_know_is_refused(host: Host, shell: SshShell, tmp_path: Path) -> None:
    with pytest.raises(LoginFailed, match="refused the login as root") as caught:
        lines(shell, host.model_copy(update={"key": f"file:{new_key(tmp_path)}"}))
    assert "authorized_keys of root" in caught.value.hint


@pytest.mark.usefixtures("nobody_is_let_in")
def test_a_certificate_for_another_account_is_refused(lab: Lab, host: Host, shell: SshShell, tmp_path: Path) -> None:
    key = new_key(tmp_path)
    known = {"key": f"file:{key}", "certificate": str(certify(lab, key, principal="somebody"))}
    with pytest.raises(LoginFailed) as caught:
        lines(shell, host.model_copy(update=known))
    assert "does the certificate name root" in caught.value.hint


@pytest.mark.usefixtures("nobody_is_let_in")
@pytest.mark.parametrize("kind", ["a certificate for another key", "a public key", "not of SSH at all", "missing"])
def test_what_is_no_certificate_for_the_key_is_a_mistake_in_the_inventory(
    lab: Lab, host: Host, shell: SshShell, tmp_path: Path, kind: str
) -> None:
    other = new_key(tmp_path, "other")
    certificate = certify(lab, other)
    if kind == "a public key":
        certificate = Path(f"{other}.pub")
    elif kind == "not of SSH at all":
        certificate.write_bytes(b"\xff\xfe ssh-ed25519-cert-v01@openssh.com \0")
    elif kind == "missing":
        certificate.unlink()
    mixed = {"key": f"file:{new_key(tmp_path)}", "certificate": str(certificate)}
    with pytest.raises(ConfigurationError, match=r"is not an SSH certificate for the key|cannot be read") as caught:
        lines(shell, host.model_copy(update=mixed))
    assert str(certificate) in str(caught.value)


def test_without_sudo_a_script_runs_as_the_account_itself(host: Host, shell: SshShell) -> None:
    assert lines(shell, host.model_copy(update={"user": "ir"}))[1] == "1100"


# ---------------------------------------------------------------- what answers


def test_an_address_where_no_host_is_ends_at_the_deadline(host: Host, shell: SshShell) -> None:
    with pytest.raises(HostUnreachable, match=r"10\.77\.9\.9 port 22: (no answer in time|no route to host)"):
        shell.run(host.model_copy(update={"address": "10.77.9.9"}), "who.sh", timeout_s=0.5)


def test_a_probe_tells_a_firewall_that_drops_from_a_port_that_is_closed(lab: Lab, host: Host) -> None:
    prober = TcpProber()
    both = (host, host.model_copy(update={"address": lab.hosts[0].address6}))
    rules = b"table inet t {\nchain c {\ntype filter hook input priority 0\ntcp dport { 9, 22 } drop\n}\n}\n"
    assert [prober.tcp(one, port, timeout_s=5) for one in both for port in (22, 9)] == ["open", "refused"] * 2
    try:
        assert lab.exec(lab.hosts[0], ["nft", "-f", "-"], stdin=rules).returncode == 0
        assert [prober.tcp(one, port, timeout_s=0.3) for one in both for port in (22, 9)] == ["silent"] * 4
    finally:
        lab.exec(lab.hosts[0], ["nft", "flush", "ruleset"])
