"""The inventory takes hosts from an Ansible inventory and an OpenSSH configuration, with all of their rules."""

from __future__ import annotations

import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from irflow.adapters.catalog import load_inventory
from irflow.adapters.catalog.edit import set_value
from irflow.adapters.catalog.imports import ansible, ssh_config
from irflow.core.errors import ConfigurationErrors
from irflow.core.inventory import Inventory

HOSTS_INI = """\
    [web]
    web[1:2].example.org ansible_user=ops ansible_become=true
    [db]
    db1 ansible_host=192.0.2.7 ansible_port=2222 ansible_ssh_private_key_file=keys/db
    [prod:children]
    web
    db
    [prod:vars]
    ansible_ssh_common_args='-o ControlMaster=no -J door'
    [other]
    door ansible_host=192.0.2.1
    windows ansible_connection=winrm
    """
HOSTS_YAML = """\
    all:
      children:
        web: {hosts: {web-9: {ansible_host: 192.0.2.9}}}
    """
SSH_CONFIG = """\
    Host web-*
      User ops
    Host web-1 web-2
      ProxyJump door
    Host web-1
      HostName 192.0.2.11
    Host door !nothing
      HostName 192.0.2.1
      Port 2200
    Host=late
      HostName 192.0.2.12
    """


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


def load(home: Path, text: str) -> Inventory:
    return load_inventory(write(home / "inventory.yaml", text))


@pytest.fixture
def with_ansible(home: Path) -> Inventory:
    write(home / "hosts.ini", HOSTS_INI)
    (home / "group_vars").mkdir()
    write(home / "group_vars" / "web.yml", "ansible_port: 2022\n")
    return load(home, "defaults: {key: 'file:keys/ops'}\nimport:\n  ansible: {path: hosts.ini}\nhosts: {}\n")


def test_an_ansible_inventory_gives_its_ssh_hosts_with_ranges_groups_and_variables(
    home: Path, with_ansible: Inventory
) -> None:
    hosts = with_ansible.hosts
    assert set(hosts) == {"web1.example.org", "web2.example.org", "db1", "door"}, "windows is not reached over SSH"
    web, db = hosts["web1.example.org"], hosts["db1"]
    assert (web.address, web.port, web.user, web.sudo, web.jump) == ("web1.example.org", 2022, "ops", True, "door")
    assert web.key == f"file:{home}/keys/ops"
    assert (db.address, db.port, db.user, db.sudo) == ("192.0.2.7", 2222, "root", False)
    assert db.key == f"file:{home}/keys/db"
    assert with_ansible.groups == {
        "prod": ("db1", "web1.example.org", "web2.example.org"), "db": ("db1",), "other": ("door",),
        "web": ("web1.example.org", "web2.example.org"),
    }  # fmt: skip
    assert with_ansible.own == {"door"}


def test_an_entry_of_one_s_own_comes_before_what_was_imported(home: Path) -> None:
    write(home / "hosts.yaml", HOSTS_YAML)
    found = load(
        home,
        """\
        defaults: {key: 'file:keys/ops', user: nobody}
        caps: {hosts: 3}
        groups: {tier-1: [web-9]}
        import: {ansible: {path: hosts.yaml}}
        hosts:
          web-9: {protected: true, port: 2022}
          db-1: {address: 192.0.2.20}
        """,
    ).hosts
    assert set(found) == {"web-9", "db-1"}
    web = found["web-9"]
    assert (web.address, web.port, web.protected, web.user) == ("192.0.2.9", 2022, True, "nobody")
    assert web.groups == ("web", "tier-1")


def test_only_the_hosts_asked_for_are_taken(home: Path) -> None:
    write(home / "hosts.ini", HOSTS_INI)
    text = "defaults: {key: 'file:k'}\nimport: {ansible: {path: hosts.ini, hosts: ['web*', door]}}\n"
    assert set(load(home, text).hosts) == {"web1.example.org", "web2.example.org", "door"}


def test_what_was_read_is_kept_until_a_file_changes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(home / "hosts.ini", HOSTS_INI)
    text = "defaults: {key: 'file:k'}\nimport: {ansible: {path: hosts.ini}}\n"
    before = load(home, text)
    with monkeypatch.context() as patch:
        patch.setattr(ansible, "read", lambda path: pytest.fail("it was read again"))
        assert load(home, text) == before
    path.write_text(path.read_text() + "extra ansible_host=192.0.2.99\n")
    assert "extra" in load(home, text).hosts
    (home / "host_vars").mkdir()
    write(home / "host_vars" / "extra.yml", "ansible_port: 99\n")
    assert load(home, text).hosts["extra"].port == 99


def test_a_program_as_inventory_is_refused_and_never_run(home: Path) -> None:
    path = write(home / "hosts", f"#!/bin/sh\ntouch {home}/ran\n")
    path.chmod(0o755)
    with pytest.raises(ConfigurationErrors, match=r"inventory\.yaml:1: .*is a program.*ansible-inventory"):
        load(home, "import: {ansible: {path: hosts}}\n")
    assert not (home / "ran").exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hosts.yaml", "all: {hosts: [", "ansible-inventory: "),
        ("hosts.ini", 'a ansible_host=\'{{ lookup("pipe", "id") }}\'\n', "address of a is a template"),
        ("nothing.ini", None, "no file "),
    ],
)
def test_what_is_wrong_with_it_is_told_at_the_line_that_imports_it(
    home: Path, name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (home / name).write_text(text)
    with pytest.raises(ConfigurationErrors, match=rf"inventory\.yaml:2: .*{says}"):
        load(home, f"defaults: {{key: 'file:k'}}\nimport: {{ansible: {{path: {name}}}}}\n")


# ---------------------------------------------------------------- OpenSSH


def test_an_ssh_configuration_gives_the_hosts_it_names_in_full(home: Path) -> None:
    write(home / "config", SSH_CONFIG)
    found = load(home, "defaults: {key: 'file:keys/ops'}\nimport: {ssh_config: {path: config, hosts: [web-1, door]}}\n")
    web, door = found.hosts["web-1"], found.hosts["door"]
    assert set(found.hosts) == {"web-1", "door"}
    assert (web.address, web.port, web.user, web.sudo, web.jump) == ("192.0.2.11", 22, "ops", True, "door")
    assert (door.address, door.port) == ("192.0.2.1", 2200)
    assert found.own == {"door"}


def test_included_files_count_and_changes_in_them_are_seen(home: Path) -> None:
    more = write(home / "more.conf", "Host extra\n  HostName 192.0.2.30\n")
    path = write(home / "config", f"Include {home}/*.conf\n" + textwrap.dedent(SSH_CONFIG))
    assert ssh_config.files(path) == [path, more]
    assert ssh_config.read(path, None)["extra"]["address"] == "192.0.2.30"
    assert "late" in ssh_config.read(path, None)


@pytest.mark.parametrize("hashed", [False, True])
def test_keys_that_were_accepted_before_come_along_and_host_authorities_do_not(home: Path, hashed: bool) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "k")], check=True, timeout=10)
    key = " ".join((home / "k.pub").read_text().split()[:2])
    known = write(home / "known_hosts", f"[192.0.2.1]:2200 {key}\n@cert-authority *.example.org {key}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, timeout=10, capture_output=True)
    write(home / "config", SSH_CONFIG)
    text = "defaults: {key: 'file:k'}\nimport: {ssh_config: {path: config, known_hosts: known_hosts}}\n"
    found = load(home, text).hosts
    assert found["door"].host_keys == (key,)
    assert found["web-1"].host_keys == ()


def test_a_jump_over_a_host_that_is_not_there_is_told(home: Path) -> None:
    write(home / "config", "Host a\n  ProxyJump elsewhere\n")
    with pytest.raises(ConfigurationErrors, match=r"ProxyJump of a leads over 'elsewhere', which is no host here"):
        load(home, "defaults: {key: 'file:k'}\nimport: {ssh_config: {path: config}}\n")


def test_a_key_recorded_for_an_imported_host_gets_an_entry_of_its_own(home: Path) -> None:
    write(home / "config", SSH_CONFIG)
    text = "defaults: {key: 'file:k'}\nimport: {ssh_config: {path: config}}  # mine\n"
    path = write(home / "inventory.yaml", text)
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlZm9yZSB0aGUgY3V0LCBhZnRlciB0aGUgY3V0"
    set_value(path, ("hosts", "web-1", "host_keys"), [key])
    assert load_inventory(path).hosts["web-1"].host_keys == (key,)
    assert "# mine" in path.read_text()


def test_both_imports_together_tell_of_one_host(home: Path) -> None:
    write(home / "config", "Host db1\n  User ops\n")
    write(home / "hosts.ini", HOSTS_INI)
    imports = "import:\n  ansible: {path: hosts.ini, hosts: [db1, door]}\n  ssh_config: {path: config}\n"
    host = load(home, "defaults: {key: 'file:k'}\n" + imports).hosts["db1"]
    assert (host.user, "prod" in host.groups) == ("ops", True)


def test_without_ansible_it_says_how_to_get_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from irflow.core.errors import ServiceMissing

    write(home / "hosts.ini", HOSTS_INI)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ServiceMissing, match=r"pip install 'irflow\[ansible\]'"):
        load(home, "import: {ansible: {path: hosts.ini}}\n")
