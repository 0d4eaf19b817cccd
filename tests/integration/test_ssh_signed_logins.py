"""irflow logs in to hosts with certificates that Vault signs for minutes, also while the authority is replaced."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.adapters.vault.failures import VaultDenied, VaultSealed
from irflow.adapters.vault.session import Session
from irflow.adapters.vault.ssh_certificates import VaultCertificates
from irflow.core.errors import LoginFailed, ServiceMissing
from irflow.core.inventory import Host, Inventory
from irflow.drill.installation import install
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.cli.conftest import run
from tests.integration.ssh_hosts import SCRIPTS, new_key
from tests.services.on_host import on
from tests.services.rotation_hands import rotating
from tests.services.ssh_authority import FILE, HOSTS, SIGNS, WHO, Site

pytestmark = pytest.mark.timeout(120)

SIGNED = "vault:ssh/sign/responder"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as one:
        yield one


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        root = one.root()
        root.sys.enable_secrets_engine("ssh")
        root.write_data("ssh/roles/responder", data=SIGNS)
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@pytest.fixture
def site(lab: Lab, vault: EmbeddedVault, process: subprocess.Popen[str], tmp_path: Path) -> Site:
    return Site(lab, vault, process, tmp_path)


@pytest.fixture
def signed(site: Site) -> dict[str, Any]:
    """How a host says that irflow logs in with a key that no host knows, and a certificate for it."""
    return {"key": f"file:{new_key(site.folder, 'responder')}", "certificate": SIGNED}


def who(site: Site, host: Host) -> list[str]:
    """What a script says that is run over a new connection."""
    certifier = VaultCertificates(Session(site.vault.login, FileSecrets()))
    shell = SshShell(
        FileSecrets(), Inventory(hosts={host.name: host}),
        scripts=lambda name: SCRIPTS[name].encode() + b"\n", certifier=certifier,
    )  # fmt: skip
    try:
        return shell.run(host, "who.sh", timeout_s=15).text.splitlines()
    finally:
        shell.close()


def host_of(site: Site, **changes: Any) -> Host:
    return Host(**site.hosts(web_1=changes)[0])


def test_a_key_that_no_host_knows_opens_it_with_a_certificate_signed_at_the_login(
    site: Site, signed: dict[str, Any]
) -> None:
    assert who(site, host_of(site, **signed))[:2] == ["web-1", "0"]
    with pytest.raises(LoginFailed):
        who(site, host_of(site, **signed | {"certificate": None}))
    log = on(site.lab, site.lab.hosts[0], "grep 'Accepted publickey for root' /var/log/auth.log | tail -n 1")
    assert "ED25519-CERT" in log
    left = [one.name for one in site.folder.iterdir() if one.name.startswith("responder-cert")]
    assert not left, "the certificate lies nowhere"


def test_what_vault_does_not_sign_is_said_and_what_hosts_refuse_too(site: Site, signed: dict[str, Any]) -> None:
    with pytest.raises(VaultDenied):
        who(site, host_of(site, **signed | {"certificate": "vault:ssh/sign/other"}))
    on(site.lab, site.lab.hosts[0], f": >{FILE}")
    with pytest.raises(LoginFailed, match="Must the host trust the authority of vault:ssh/sign/responder"):
        who(site, host_of(site, **signed))
    site.vault.root().sys.seal()
    try:
        with pytest.raises(VaultSealed):
            who(site, host_of(site, **signed))
    finally:
        site.vault.unseal()
    without = SshShell(FileSecrets(), Inventory())
    with pytest.raises(ServiceMissing, match="nothing here signs SSH keys"):
        without.connect(host_of(site, **signed), timeout_s=15)
    without.close()


def test_the_authority_is_replaced_over_connections_that_it_has_signed(site: Site, signed: dict[str, Any]) -> None:
    """Also when irflow was killed while hosts believed both, and comes back with a certificate of the new one."""
    hosts = {"web_1": signed, "web_2": signed}
    assert site.rotate("run-1", hosts=hosts, changes=8)["killed"]
    assert site.rotate("", hosts=hosts)["said"] == "rotated"
    site.ended()
    assert who(site, host_of(site, **signed))[0] == "web-1"


def test_a_host_that_does_not_answer_is_not_left_behind_with_an_authority_that_signs_no_more(
    site: Site, signed: dict[str, Any]
) -> None:
    """Who else but irflow would tell it of the new one?"""
    said = site.rotate("run-1", hosts={"web_1": signed, "web_2": {**signed, "port": 9}})["said"]
    assert said.startswith("PartlyDone: the old authority still signs: web-2 did not answer"), said
    assert site.default() == site.old
    assert site.where(site.thief) == set(HOSTS)
    assert site.rotate("", hosts={"web_1": signed, "web_2": signed})["said"] == "rotated"
    site.ended()


def test_an_inventory_says_so_and_a_mistake_is_told_at_its_line(
    site: Site, signed: dict[str, Any], tmp_path: Path
) -> None:
    home, login = tmp_path / "home", site.vault.login
    install(home, site.lab)
    settings = json.loads((home / "irflow.yaml").read_text())
    where = {"url": site.vault.url, "ca": str(site.vault.ca), "role": str(login.role), "secret": str(login.secret)}
    (home / "irflow.yaml").write_text(json.dumps({**settings, "vault": where}))
    target = {"kind": "ssh_ca", "hosts": list(HOSTS), "user": WHO, "role": "responder", "file": FILE}
    (home / "secrets.yaml").write_text(json.dumps({"secrets": {"users": {"target": target}}}))
    inventory = json.loads((home / "inventory.yaml").read_text())
    for one in inventory["hosts"].values():
        one.update(signed)
    (home / "inventory.yaml").write_text(json.dumps(inventory))
    done = run(home, "secrets", "rotate", "users", "--json")
    assert done.code == 0, done.err
    site.ended()
    inventory["hosts"]["web-1"]["certificate"] = "vault:ssh/responder"
    (home / "inventory.yaml").write_text(json.dumps(inventory))
    wrong = run(home, "check")
    assert wrong.code == 6
    assert "inventory.yaml:" in wrong.err
    assert "vault:MOUNT/sign/ROLE" in wrong.err
