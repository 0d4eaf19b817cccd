"""Passwords and keys of accounts on hosts: a rotation may be killed anywhere, and in the end exactly one works."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell
from irflow.adapters.targets import unix_password
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.core.inventory import Inventory
from irflow.core.rotation import Overtaken
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue
from irflow.lab import inventory
from irflow.lab.attack_brute_force import TAKE_PASSWORDS
from irflow.lab.lab import Lab
from irflow.lab.model import Level
from tests.services.on_host import on
from tests.services.rotation_hands import FAILING, WORKING, Hands, agreed, rotating

pytestmark = pytest.mark.timeout(300)

PAIRS = [*itertools.combinations_with_replacement(WORKING, 2), *((one, WORKING[0]) for one in WORKING[1:])]
"""Of two kills, the second can only be where the first was not yet past, or before anything is done at all."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(1, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as one:
        yield one


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> Inventory:
    return Inventory(hosts={one.name: one for one in inventory.entries(lab)})


@pytest.fixture(scope="module")
def shell(hosts: Inventory) -> Iterator[SshShell]:
    one = SshShell(FileSecrets(), hosts)
    yield one
    one.close()


@pytest.fixture
def key(
    lab: Lab, vault: EmbeddedVault, process: subprocess.Popen[str], hosts: Inventory, shell: SshShell
) -> Callable[[], Hands]:
    """The key of the account deploy, with options on its line and another key beside it."""

    def make() -> Hands:
        host = hosts.hosts["web-1"]
        first = lab.deploy_key.read_text()
        public = Path(f"{lab.deploy_key}.pub").read_text().split()
        other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBeside0000000000000000000000000000000000000 beside"
        on(lab, lab.hosts[0], "cat >/home/deploy/.ssh/authorized_keys",
           f'no-pty,command="cat" {public[0]} {public[1]} old\n{other}\n'.encode())  # fmt: skip

        def gets_in(value: str) -> bool:
            return shell.admits(host, "deploy", SecretValue(value.encode()), "key", timeout_s=10)

        params = {"host": "web-1", "account": "deploy"}
        means = {"hosts": [host.model_dump(mode="json")]}
        return Hands(vault, process, "authorized_key", params, gets_in, first, means)

    return make


@pytest.fixture
def password(lab: Lab, vault: EmbeddedVault, process: subprocess.Popen[str], hosts: Inventory) -> Callable[[], Hands]:
    """The password of the account alice."""

    def make() -> Hands:
        on(lab, lab.hosts[0], "chpasswd", b"alice:old0\n")

        def gets_in(value: str) -> bool:
            asked = "getent shadow alice | perl -ne 'chomp; $h = (split /:/)[1]; exit(crypt($ENV{V}, $h) ne $h)'"
            return lab.exec(lab.hosts[0], ["env", f"V={value}", "sh", "-c", asked]).returncode == 0

        means = {"hosts": [hosts.hosts["web-1"].model_dump(mode="json")]}
        return Hands(vault, process, "unix_password", {"host": "web-1", "account": "alice"}, gets_in, "old0", means)

    return make


@pytest.fixture(params=["key", "password"])
def made(request: pytest.FixtureRequest) -> Hands:
    make: Callable[[], Hands] = request.getfixturevalue(request.param)
    return make()


def test_a_new_key_opens_the_account_with_the_options_of_the_old_one_which_is_dead(
    lab: Lab, key: Callable[[], Hands]
) -> None:
    hands = key()
    assert hands.gets_in(hands.first)
    assert hands.rotate("run-1")["said"] == "rotated"
    live = hands.ended()
    assert live != hands.first
    lines = on(lab, lab.hosts[0], "cat /home/deploy/.ssh/authorized_keys").splitlines()
    assert [line for line in lines if line.startswith('no-pty,command="cat" ssh-ed25519 ')]
    assert any(line.endswith(" beside") for line in lines)
    assert len(lines) == 2
    assert on(lab, lab.hosts[0], "stat -c '%U %a' /home/deploy/.ssh/authorized_keys") == "deploy 644\n"


@pytest.mark.parametrize("points", PAIRS, ids="-".join)
def test_killed_twice_it_goes_on_where_it_was(made: Hands, points: tuple[str, str]) -> None:
    for point in points:
        made.rotate("run-1", fault=point)
        assert made.one_works(), f"after {point} no value in Vault works"
    assert made.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert made.ended() != made.first


@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(made: Hands, point: str) -> None:
    assert made.rotate("run-1", fault=point, broken=True)["killed"]
    made.rotate("", broken=True)
    assert made.ended() == made.first


@pytest.mark.parametrize("point", FAILING)
def test_an_account_that_is_to_be_disabled_lets_nobody_in_until_a_rotation_succeeds(made: Hands, point: str) -> None:
    made.rotate("run-1", fault=point, broken=True, on_failure="disable_account")
    made.rotate("", broken=True, on_failure="disable_account")
    assert not any(map(made.gets_in, made.seen))
    assert made.document.read().disabled
    assert made.rotate("run-2")["said"] == "rotated"
    assert made.ended() != made.first


def test_of_many_who_rotate_at_once_all_that_end_well_agree(lab: Lab, made: Hands) -> None:
    said = made.all_at_once()
    assert agreed(said), "\n".join(said)
    made.rotate("")
    assert made.ended() != made.first
    if made.kind == "authorized_key":
        lines = on(lab, lab.hosts[0], "cat /home/deploy/.ssh/authorized_keys").splitlines()
        assert len(lines) == 2, "none of theirs is left beside the live one and that of somebody else"


def test_whoever_was_overtaken_changes_the_host_no_more(
    password: Callable[[], Hands], shell: SshShell, hosts: Inventory
) -> None:
    hands = password()
    late = hands.document.read()
    assert hands.rotate("run-1")["said"] == "rotated"
    target = unix_password.open_target(unix_password.Params(**hands.params), Means(FileSecrets(), hosts, shell, shell))
    with pytest.raises(Overtaken, match="has taken over"), target.fence() as writer:
        writer.apply(SecretValue(b"late"), late)
    assert not hands.gets_in("late")
    hands.ended()


def test_where_the_host_takes_passwords_they_are_tried_by_logging_in(lab: Lab, password: Callable[[], Hands]) -> None:
    hands = password()
    on(lab, lab.hosts[0], TAKE_PASSWORDS, args=["", "yes"])
    try:
        assert hands.rotate("run-1")["said"] == "rotated"
    finally:
        on(lab, lab.hosts[0], TAKE_PASSWORDS, args=["", "no"])
    hands.ended()
    log = on(lab, lab.hosts[0], "cat /var/log/auth.log")
    assert "Accepted password for alice" in log
    assert "Failed password for alice" in log
