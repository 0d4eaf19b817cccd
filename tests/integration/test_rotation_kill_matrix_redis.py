"""The password of a Redis user: killed anywhere, exactly one works in the end, also after a restart of the server."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.targets import redis_acl
from irflow.adapters.vault.embedded import EmbeddedVault, running
from irflow.core.errors import OutcomeUnknown
from irflow.core.rotation import Overtaken, SecretBusy
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue
from tests.services.redis import ADMIN, PASSWORD, RedisServer, running_redis
from tests.services.rotation_hands import FAILING, WORKING, Hands, agreed, rotating

pytestmark = pytest.mark.timeout(300)

ROUNDS = 4
"""Who comes first is another one each time."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as one:
        yield one


def hands_on(server: RedisServer, vault: EmbeddedVault, process: subprocess.Popen[str], folder: Path) -> Hands:
    admin = folder / "admin"
    admin.write_text(PASSWORD)
    admin.chmod(0o600)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "shop", "reset", "on", ">old0", "~*", "+get", "+set")
    params = {"host": "127.0.0.1", "port": server.port, "user": "shop", "admin": ADMIN, "admin_secret": f"file:{admin}"}
    return Hands(vault, process, "redis", params, lambda value: server.gets_in("shop", value), "old0")


@pytest.fixture
def hands(server: RedisServer, vault: EmbeddedVault, process: subprocess.Popen[str], tmp_path: Path) -> Hands:
    return hands_on(server, vault, process, tmp_path)


def target(hands: Hands) -> redis_acl.AclUser:
    return redis_acl.open_target(redis_acl.Params(**hands.params), Means(FileSecrets()))


@pytest.mark.parametrize("points", list(itertools.product(WORKING, WORKING)), ids="-".join)
def test_killed_twice_it_goes_on_where_it_was(hands: Hands, points: tuple[str, str]) -> None:
    for point in points:
        hands.rotate("run-1", fault=point)
        assert hands.one_works(), f"after {point} no value in Vault works"
    assert hands.rotate("run-1")["said"] in ("rotated", "unchanged")
    assert hands.ended() != "old0"


@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(hands: Hands, point: str) -> None:
    assert hands.rotate("run-1", fault=point, broken=True)["killed"]
    hands.rotate("", broken=True)
    assert hands.ended() == "old0"


@pytest.mark.parametrize("point", FAILING)
def test_an_account_that_is_to_be_disabled_lets_nobody_in_until_a_rotation_succeeds(hands: Hands, point: str) -> None:
    hands.rotate("run-1", fault=point, broken=True, on_failure="disable_account")
    hands.rotate("", broken=True, on_failure="disable_account")
    assert not any(map(hands.gets_in, hands.seen))
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != "old0"


@pytest.mark.parametrize("acl_file", [True, False], ids=["in an ACL file", "in the configuration file"])
def test_after_a_restart_the_old_password_is_still_dead(
    vault: EmbeddedVault, process: subprocess.Popen[str], tmp_path: Path, acl_file: bool
) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis", acl_file=acl_file) as server:
        hands = hands_on(server, vault, process, tmp_path)
        assert hands.rotate("run-1")["said"] == "rotated"
        server.stop()
        server.start()
        assert hands.ended() != "old0"


def test_who_reads_the_document_is_never_refused_with_what_it_says_and_old_connections_end(
    server: RedisServer, hands: Hands
) -> None:
    stop, tries, refused = threading.Event(), [0], list[str]()

    def live() -> str:
        return hands.document.read().live.reveal().decode()

    def consume() -> None:
        while not stop.is_set():
            value = live()
            tries[0] += 1
            with suppress(redis.exceptions.ConnectionError):  # ended with all of the user: it connects again
                if not hands.gets_in(value) and live() == value:  # else it was replaced since it was read
                    refused.append(value)

    consumer = threading.Thread(target=consume)
    with server.client("shop", "old0") as attacker, server.client() as admin:
        attacker.get("x")
        (before,) = [one["id"] for one in admin.client_list() if one["user"] == "shop"]
        consumer.start()
        try:
            for number in range(5):
                assert hands.rotate(f"run-{number}")["said"] == "rotated"
        finally:
            stop.set()
            consumer.join()
        assert before not in [one["id"] for one in admin.client_list()]
        with pytest.raises(redis.exceptions.AuthenticationError):
            attacker.get("x")
    assert tries[0] > 5
    assert not refused
    hands.ended()


def test_of_many_who_rotate_at_once_all_that_end_well_agree(server: RedisServer, hands: Hands) -> None:
    for _ in range(ROUNDS):
        said = hands.all_at_once()
        assert agreed(said), "\n".join(said)
        hands.rotate("")
        assert hands.ended() != "old0"
        with server.client() as client:
            assert len(client.acl_getuser("shop")["passwords"]) == 1, "none of theirs is left beside the live one"


def test_whoever_was_overtaken_changes_the_server_no_more(hands: Hands) -> None:
    late = hands.document.read()
    assert hands.rotate("run-1")["said"] == "rotated"
    with target(hands).fence() as writer, pytest.raises((Overtaken, SecretBusy)):
        writer.apply(SecretValue(b"late"), late)
    assert not hands.gets_in("late")


def test_a_user_who_gets_in_with_anything_proves_nothing(server: RedisServer, hands: Hands) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "shop", "nopass")
    with pytest.raises(OutcomeUnknown, match="gets in with any password"):
        target(hands).admits(SecretValue(b"old0"))
    assert "gets in with any password" in hands.rotate("run-1")["said"]
