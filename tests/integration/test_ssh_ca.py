"""The authority of SSH certificates is replaced on hosts: whoever has stolen it gets in nowhere, others everywhere.

The thief has the authority's private key, signs with ssh-keygen and logs in with ssh from the attacker's network.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hvac.exceptions
import pytest

from irflow.adapters.engines import open_engine, ssh_ca
from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell
from irflow.adapters.targets._ssh import change_host
from irflow.adapters.vault.documents import EnginePlace
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.adapters.vault.session import Session
from irflow.core.engine_rotation import EngineRotator
from irflow.core.errors import PartlyDone
from irflow.core.inventory import Host, Inventory
from irflow.core.rotation import Overtaken
from irflow.core.rotation_means import Means
from irflow.drill.installation import install
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.cli.conftest import run
from tests.integration.ssh_hosts import new_key
from tests.services.on_host import on
from tests.services.rotation_hands import rotating
from tests.services.ssh_authority import FILE, HOSTS, SIGNS, WHO, Site

pytestmark = pytest.mark.timeout(120)

POINTS = ("read", "staged", "tested", "refused", "cleared", "destroyed")
RELOAD = """
listens() { grep -c '^Server listening' /var/log/auth.log || :; }
before=$(listens)
kill -HUP "$(cat /run/sshd.pid)"
while [ "$(listens)" -lt $((before + 2)) ]; do sleep 0.02; done
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as one:
        yield one


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    """A Vault whose owner has enabled the engine."""
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


@pytest.mark.parametrize("point", POINTS)
def test_killed_between_its_transitions_it_goes_on_where_it_was(site: Site, point: str) -> None:
    assert site.gets_in(site.thief, 0)
    assert site.rotate("run-1", fault=point)["killed"]
    assert site.user_gets_in()
    assert site.rotate("run-1")["said"] in ("rotated", "unchanged")
    site.ended()
    assert site.rotate("run-1")["said"] == "unchanged"


# What replace changes: 3 the new authority is made; 4, 5 hosts believe both; 6 it is the default one; 7 a probe is
# signed; 8, 9 hosts believe it alone; 10 the old one is forgotten. 1 and 2 are: which is the default one, its probe.
@pytest.mark.parametrize("changes", (3, 4, 6, 7, 8, 9, 10))
def test_killed_after_any_change_nobody_is_refused_and_it_goes_on(site: Site, changes: int) -> None:
    assert site.rotate("run-1", changes=changes)["killed"]
    assert site.user_gets_in()
    assert site.rotate("")["said"] == "rotated"
    site.ended()


def test_comments_modes_and_named_authorities_stay(site: Site) -> None:
    beside = " ".join(Path(f"{new_key(site.folder, 'beside')}.pub").read_text().split()[:2])
    first = site.lab.hosts[0]
    on(site.lab, first, f"echo '{beside} corporate' >>{FILE}; chmod 640 {FILE}")
    said = site.rotate("run-1")["said"]
    assert "believes an authority that irflow was not told of" in said
    assert site.default() == site.old, "nothing was changed"
    assert site.rotate("run-1", keep=[f"{beside} whatever"])["said"] == "rotated"
    lines = on(site.lab, first, f"cat {FILE}").splitlines()
    assert lines == ["# by hand", f"{beside} corporate", f"{site.issuers()[site.default()]} irflow"]
    assert on(site.lab, first, f"stat -c '%U %a' {FILE}") == "root 640\n"
    assert site.user_gets_in()


def test_a_host_that_does_not_answer_keeps_nobody_waiting_and_is_named_until_it_does(site: Site) -> None:
    away = {"web_2": {"port": 9}}
    said = site.rotate("run-1", hosts=away)["said"]
    assert said.startswith("PartlyDone: the old authority may still open web-2"), said
    assert site.where(site.thief) == {"web-2"}
    assert site.old in site.issuers()
    assert site.rotate("", hosts=away)["said"].startswith("PartlyDone")
    assert site.rotate("")["said"] == "rotated"
    site.ended()


def test_a_dark_host_costs_the_others_seconds_not_its_whole_deadline(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_ca, "_ANSWER_S", 1.0)
    hosts = Inventory(hosts={one["name"]: Host(**one) for one in site.hosts()})
    shell, session = SshShell(FileSecrets(), hosts), Session(site.vault.login, FileSecrets())
    params = {"hosts": list(HOSTS), "user": WHO, "role": "responder", "file": FILE}
    engine = open_engine("ssh_ca", params, Means(FileSecrets(), hosts, shell, shell, session))
    rotator = EngineRotator(EnginePlace(session, site.ref), engine, time.monotonic)
    dark = site.lab.hosts[1]
    on(site.lab, dark, "nft 'add table inet dark; add chain inet dark in { type filter hook input priority 0; };"
       " add rule inet dark in tcp dport 22 drop'")  # fmt: skip
    started = time.monotonic()
    try:
        with pytest.raises(PartlyDone, match="web-2"):
            rotator.rotate("run-1")
        assert time.monotonic() - started < 10
        assert not site.gets_in(site.thief, 0)
    finally:
        on(site.lab, dark, "nft delete table inet dark")
    assert rotator.sweep().result == "rotated"
    shell.close()
    site.ended()


def test_where_no_host_answers_nothing_is_changed(site: Site) -> None:
    said = site.rotate("run-1", hosts={"web_1": {"port": 9}, "web_2": {"port": 9}})["said"]
    assert said.startswith("HostUnreachable"), said
    assert site.default() == site.old
    assert site.gets_in(site.thief, 0)


def test_a_file_that_sshd_does_not_read_is_noticed_before_anything_is_changed(site: Site) -> None:
    on(site.lab, site.lab.hosts[1], f": >{FILE}")
    said = site.rotate("run-1")["said"]
    assert "web-2: the host refuses alice with a certificate of the authority that is to be replaced" in said
    assert site.default() == site.old
    assert site.believed(0) == [site.public]


def test_what_ran_out_while_irflow_was_gone_proves_nothing_and_is_signed_anew(site: Site) -> None:
    root = site.vault.root()
    root.write_data("ssh/roles/responder", data={**SIGNS, "ttl": "20s"})
    try:
        assert site.rotate("run-1", fault="staged")["killed"]
    finally:
        root.write_data("ssh/roles/responder", data=SIGNS)
    assert site.rotate("")["said"] == "rotated"  # 20 s are less than it wants left for a proof
    site.ended()


def test_a_role_that_names_its_authority_is_noticed(site: Site) -> None:
    root = site.vault.root()
    root.write_data("ssh/roles/responder", data={**SIGNS, "issuer_ref": site.old})
    try:
        assert "Take issuer_ref away from the role" in site.rotate("run-1")["said"]
    finally:
        root.write_data("ssh/roles/responder", data=SIGNS)
    assert site.user_gets_in()
    assert site.rotate("")["said"] == "rotated"
    site.ended()


@pytest.mark.parametrize("form", ["krl", "list"])
def test_what_a_host_believes_elsewhere_is_revoked_where_it_has_a_list(site: Site, form: str) -> None:
    """authorized_keys may name an authority too: with RevokedKeys it opens nothing there either."""
    revoked, configured = "/etc/ssh/revoked", "/etc/ssh/sshd_config"
    before = "ssh-keygen -q -k -f /etc/ssh/revoked </dev/null" if form == "krl" else f"echo '{site_key()}' >{revoked}"
    for host in site.lab.hosts:
        on(site.lab, host, before + f"\necho 'RevokedKeys {revoked}' >>{configured}" + RELOAD)
        line = f'cert-authority,principals="{WHO}" {site.public}'
        on(site.lab, host, "cat >>/home/alice/.ssh/authorized_keys", line.encode() + b"\n")
    try:
        assert site.rotate("run-1")["said"].startswith(("CheckFailed", "PartlyDone", "StillAccepted"))
        assert site.gets_in(site.thief, 0)
        assert site.rotate("", revoked=revoked)["said"] == "rotated"
        site.ended()
    finally:
        for host in site.lab.hosts:
            on(site.lab, host, f"sed -i '/RevokedKeys/d' {configured}; sed -i '/cert-authority/d' "
               "/home/alice/.ssh/authorized_keys" + RELOAD)  # fmt: skip


def site_key() -> str:
    """A key that was revoked before."""
    return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBeside0000000000000000000000000000000000000 gone"


def test_irflow_does_not_lock_itself_out(site: Site) -> None:
    certificate = Path(f"{site.thief}-cert.pub")
    said = site.rotate("run-1", hosts={"web_1": {"certificate": str(certificate)}})["said"]
    assert "irflow itself logs in with a certificate of this authority" in said
    assert site.default() == site.old


def test_whoever_was_overtaken_changes_the_hosts_no_more(site: Site) -> None:
    late = EnginePlace(Session(site.vault.login, FileSecrets()), site.ref).read()
    assert site.rotate("run-1")["said"] == "rotated"
    hosts = Inventory(hosts={one["name"]: Host(**one) for one in site.hosts()})
    shell = SshShell(FileSecrets(), hosts)
    keys = ["--file", FILE, "--key", site.public.replace(" ", ":")]
    try:
        with pytest.raises(Overtaken, match="has taken over"):
            change_host(shell, hosts.hosts["web-1"], "ssh_ca.sh", "only", late, keys)
    finally:
        shell.close()
    site.ended()


def test_irflow_may_not_bring_an_authority_of_its_own(site: Site) -> None:
    """Whoever takes over irflow could otherwise sign for everybody."""
    session = Session(site.vault.login, FileSecrets())
    data = {"private_key": site.authority.read_text(), "public_key": site.public, "generate_signing_key": False}
    irflow = site.vault.client(session.call("auth/token/lookup-self", lambda client: client.token))
    for path, given in (("ssh/issuers/import/mine", data), ("ssh/config/ca", data), ("ssh/roles/responder", SIGNS)):
        with pytest.raises(hvac.exceptions.Forbidden):
            irflow.write_data(path, data=given)


def test_as_people_type_it(site: Site, tmp_path: Path) -> None:
    home, login = tmp_path / "home", site.vault.login
    install(home, site.lab)
    settings = json.loads((home / "irflow.yaml").read_text())
    where = {"url": site.vault.url, "ca": str(site.vault.ca), "role": str(login.role), "secret": str(login.secret)}
    (home / "irflow.yaml").write_text(json.dumps({**settings, "vault": where}))
    target = {"kind": "ssh_ca", "hosts": ["web-1", "web-3"], "user": WHO, "role": "responder", "file": FILE}
    (home / "secrets.yaml").write_text(json.dumps({"secrets": {"users": {"target": target}}}))
    wrong = run(home, "check")
    assert wrong.code == 6
    assert "no host 'web-3' in the inventory" in wrong.err
    target["hosts"] = list(HOSTS)
    (home / "secrets.yaml").write_text(json.dumps({"secrets": {"users": {"target": target}}}))
    assert "ask Vault for another" in run(home, "secrets", "plan").out.replace("\n", " ")
    done = run(home, "secrets", "rotate", "users", "--json")
    assert done.code == 0, done.err
    assert [one["result"] for one in done.json] == ["rotated"]
    assert run(home, "secrets", "verify").code == 0
    site.ended()
    on(site.lab, site.lab.hosts[1], f": >{FILE}")
    broken = run(home, "secrets", "verify")
    assert broken.code == 1
