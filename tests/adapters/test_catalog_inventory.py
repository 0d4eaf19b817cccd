"""inventory.yaml, operators.yaml and irflow.yaml: defaults, groups, relative keys, and mistakes at their lines."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from irflow.adapters.catalog import load_inventory, load_operators, load_settings
from irflow.core.errors import ConfigurationErrors

HOST_KEY = "ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()

GOOD = f"""\
defaults:
  user: responder
  sudo: true
  key: file:keys/responder
  management: [10.0.0.0/28]
caps: {{hosts: 3, group_percent: 50}}
groups:
  web: [web-1, web-2]
hosts:
  web-1:
    address: 10.0.1.11
    aliases: [shop]
    groups: [front]
    host_keys: ["{HOST_KEY}"]
  web-2: {{address: web2.example.com, jump: bastion, user: root, certificate: keys/cert.pub}}
  bastion: {{address: "2001:db8::5", own: true, key: "vault:kv/ssh#bastion"}}
"""


def mistakes(text: str, tmp_path: Path) -> list[str]:
    path = tmp_path / "inventory.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationErrors) as caught:
        load_inventory(path)
    return [str(error).removeprefix(f"{path}:") for error in caught.value.errors]


def test_defaults_groups_and_caps_apply(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(GOOD)
    inventory = load_inventory(path)
    one, two, bastion = (inventory.hosts[name] for name in ("web-1", "web-2", "bastion"))
    assert (one.user, one.sudo, two.user) == ("responder", True, "root")
    assert one.groups == ("front", "web") and two.groups == ("web",) and bastion.groups == ()
    assert one.management == ("10.0.0.0/28",)
    assert (inventory.caps.hosts, inventory.caps.group_percent) == (3, 50)
    assert inventory.find("SHOP") is one


def test_relative_keys_count_from_the_inventorys_own_folder(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text(GOOD)
    inventory = load_inventory(path)
    assert inventory.hosts["web-1"].key == f"file:{tmp_path}/keys/responder"
    assert inventory.hosts["web-2"].certificate == f"{tmp_path}/keys/cert.pub"
    assert inventory.hosts["bastion"].key == "vault:kv/ssh#bastion"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    address: 10.0.1.11", "    adress: 10.0.1.11", "11: unknown key 'adress'. Did you mean 'address'?"),
        ("    address: 10.0.1.11\n", "", "10: 'address' is missing"),
        ("address: 10.0.1.11", "address: -oProxyCommand=id", "11: address: neither an IP address nor a DNS name"),
        ("key: file:keys/responder", "key: hunter2", "4: key: not a secret reference"),
        ("management: [10.0.0.0/28]", "management: [10.0.0.0/99]", "5: management"),
        ("hosts: 3", "host: 3", "6: unknown key 'host'. Did you mean 'hosts'?"),
        ("[web-1, web-2]", "[web-1, web-3]", "8: group 'web': no host 'web-3'"),
        ("[shop]", "[web-2]", "15: 'web-2' already means host 'web-1'"),
        ("jump: bastion", "jump: bastoin", "15: jump: no host 'bastoin'. Did you mean 'bastion'?"),
        ("own: true", "own: true, jump: web-2", "15: jump: leads back to where it began"),
        (HOST_KEY, "ssh-ed25519 AAAA", "14: host_keys: not a public host key"),
        ("web-1:\n", "-web-1:\n", "10: name: String should match pattern"),
        ("groups:\n", "group:\n", "7: unknown key 'group'. Did you mean 'groups'?"),
        ("    aliases", "    name: x\n    aliases", "12: unknown key 'name'"),
    ],
)
def test_a_mistake_is_found_at_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = mistakes(GOOD.replace(old, new, 1), tmp_path)
    assert any(one.startswith(expected) for one in found), found


def test_a_mistake_in_the_defaults_is_told_once_and_not_for_every_host(tmp_path: Path) -> None:
    found = mistakes(GOOD.replace("user: responder", "usr: responder"), tmp_path)
    assert found == ["2: unknown key 'usr'. Did you mean 'user'?"]


def test_a_text_that_may_be_a_secret_is_never_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in "\n".join(mistakes(GOOD.replace("file:keys/responder", "hunter2"), tmp_path))


def test_all_mistakes_of_an_inventory_come_together(tmp_path: Path) -> None:
    text = GOOD.replace("user: root", "usr: root").replace("own: true", "own: perhaps").replace("hosts: 3", "hosts: -1")
    assert len(mistakes(text, tmp_path)) == 3


def test_an_empty_inventory_is_one_without_hosts(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.write_text("defaults:\nhosts: {}\n")
    assert load_inventory(path).hosts == {}


def test_operators_have_the_account_of_their_name_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "operators.yaml"
    path.write_text("operators:\n  kim: {roles: [incident_commander]}\n  lee: {login: ops, roles: [communications]}\n")
    assert [(one.name, one.login) for one in load_operators(path)] == [("kim", "kim"), ("lee", "ops")]
    path.write_text("operators:\n  kim: {role: [incident_commander]}\n")
    with pytest.raises(ConfigurationErrors) as caught:
        load_operators(path)
    assert {error.message for error in caught.value.errors} == {"unknown key 'role'", "'roles' is missing"}


def test_settings_are_the_defaults_without_a_file(tmp_path: Path) -> None:
    assert load_settings(tmp_path).web_port == 8765


def test_settings_know_their_lines_and_channels_take_references_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "irflow.yaml"
    path.write_text(
        "web_prot: 1\nnotify:\n  channels:\n    email:\n      - log\n      - mailtos://u:hunter2@mail.example\n"
    )
    with pytest.raises(ConfigurationErrors) as caught:
        load_settings(tmp_path)
    assert str(caught.value) == f"{path}:1: unknown key 'web_prot'. Did you mean 'web_port'?"
    path.write_text(path.read_text().replace("web_prot: 1\n", ""))
    with pytest.raises(ConfigurationErrors) as caught:
        load_settings(tmp_path)
    assert str(caught.value).startswith(f"{path}:5: channel email: not a secret reference")
    assert "hunter2" not in str(caught.value)
    path.write_text("notify: {channels: {email: [log, file:keys/mail]}}\nweb_tls_key: keys/web.key\n")
    monkeypatch.setenv("IRFLOW_DATABASE_URL", "postgresql+psycopg:///x")
    settings = load_settings(tmp_path)
    assert settings.notify.channels == {"email": ("log", f"file:{tmp_path}/keys/mail")}
    assert settings.web_tls_key == tmp_path / "keys/web.key"
    assert settings.database_url == "postgresql+psycopg:///x"
