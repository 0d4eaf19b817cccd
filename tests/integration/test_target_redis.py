"""The Redis target on real servers: what is refused, what is unknown, what leaks nothing, and what a restart keeps."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.targets.redis_acl import AclUser, Params, open_target
from irflow.adapters.vault.certificates import make_certificates
from irflow.core.errors import ConfigurationError, OutcomeUnknown, ServiceMissing
from irflow.core.rotation import Document, StillAccepted, TargetRefused
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue
from tests.services.redis import ADMIN, PASSWORD, RedisServer, running_redis

OLD, NEW = SecretValue(b"old0"), SecretValue(b"a-new-value-of-the-test")
STAGED = Document(live=OLD, version=2, name="vault:irflow/shop#password")
PROMOTED = Document(live=NEW, version=3, old=OLD, name=STAGED.name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path / "redis") as one:
        yield one


@pytest.fixture
def admin(tmp_path: Path) -> str:
    file = tmp_path / "admin"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    return f"file:{file}"


def target(server: RedisServer, admin: str, **more: object) -> AclUser:
    params = {"host": "127.0.0.1", "port": server.port, "user": "shop", "admin": ADMIN, "admin_secret": admin, **more}
    return open_target(Params.model_validate(params), Means(FileSecrets()))


@contextlib.contextmanager
def relay(first: RedisServer, others: RedisServer | None = None) -> Iterator[tuple[int, list[bytes]]]:
    """A port and what clients sent to it. The first connection goes to `first`, all later ones to `others`."""
    sent, threads, ends = list[bytes](), list[threading.Thread](), list[socket.socket]()

    def pump(source: socket.socket, sink: socket.socket, kept: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                kept.append(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", (first if not ends else others or first).port))
                ends.extend((near, far))
                for ways in ((near, far, sent), (far, near, [])):
                    threads.append(threading.Thread(target=pump, args=ways))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1], sent
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for one in ends:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for one in ends:
                one.close()


def restart(server: RedisServer) -> None:
    server.stop()
    server.start()


def test_a_server_killed_before_it_saved_the_new_password_takes_it_again_when_the_old_one_goes(
    server: RedisServer, admin: str
) -> None:
    with server.client() as client:  # applied by a rotation that was killed before it saved: the next one skips apply
        client.execute_command("ACL", "SETUSER", "shop", f">{NEW.reveal().decode()}")
    assert target(server, admin).admits(NEW)
    restart(server)
    assert not target(server, admin).admits(NEW)
    with target(server, admin).fence() as writer:
        writer.revoke(OLD, PROMOTED)
    restart(server)
    assert target(server, admin).admits(NEW)
    assert not target(server, admin).admits(OLD)


def test_each_verb_done_twice_is_done_once(server: RedisServer, admin: str) -> None:
    one = target(server, admin)
    with one.fence() as writer:
        for _ in range(2):
            writer.apply(NEW, STAGED)
        assert one.admits(OLD)
        assert one.admits(NEW)
        for _ in range(2):
            writer.revoke(OLD, PROMOTED)
        assert (one.admits(OLD), one.admits(NEW)) == (False, True)
        for _ in range(2):
            writer.disable(PROMOTED)
        assert not one.admits(NEW)
        for _ in range(2):
            writer.enable(PROMOTED)
        assert (one.admits(OLD), one.admits(NEW)) == (False, True)


def test_what_changes_the_user_never_sends_a_password(server: RedisServer, admin: str) -> None:
    with relay(server) as (port, sent):
        one = open_target(target(server, admin).params.model_copy(update={"port": port}), Means(FileSecrets()))
        with one.fence() as writer:
            writer.apply(NEW, STAGED)
            writer.revoke(OLD, PROMOTED)
    assert b"SETUSER" in b"".join(sent)
    assert not [value for value in (OLD, NEW) if value.reveal() in b"".join(sent)]
    assert (target(server, admin).admits(OLD), target(server, admin).admits(NEW)) == (False, True)


def test_what_could_not_be_saved_is_not_taken_for_refused(server: RedisServer, admin: str) -> None:
    users = server.root / "users.acl"
    kept = users.read_text()
    users.unlink()
    users.mkdir()
    with target(server, admin).fence() as writer, pytest.raises(OutcomeUnknown, match="changed, but not saved"):
        writer.apply(NEW, STAGED)
    users.rmdir()
    users.write_text(kept)
    with target(server, admin).fence() as writer:
        writer.revoke(OLD, PROMOTED)
    restart(server)
    assert (target(server, admin).admits(OLD), target(server, admin).admits(NEW)) == (False, True)


def test_a_refusal_names_no_hash_of_a_password(server: RedisServer, admin: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", ADMIN, "-acl")
    with target(server, admin).fence() as writer, pytest.raises(TargetRefused, match="no permissions") as refused:
        writer.revoke(OLD, PROMOTED)
    assert not [one for one in (OLD, NEW) if hashlib.sha256(one.reveal()).hexdigest()[:8] in str(refused.value)]


def test_a_server_that_is_gone_says_neither_yes_nor_no(server: RedisServer, admin: str) -> None:
    one = target(server, admin)
    with one.fence() as writer:
        server.stop()
        with pytest.raises(OutcomeUnknown):
            writer.apply(NEW, STAGED)
    with pytest.raises(OutcomeUnknown):
        one.admits(OLD)
    with pytest.raises(ServiceMissing), one.fence():
        pass


def test_an_admin_with_a_wrong_password_is_named(server: RedisServer, admin: str) -> None:
    Path(admin.removeprefix("file:")).write_text("wrong")
    with pytest.raises(ServiceMissing, match=f"no connection as {ADMIN}"), target(server, admin).fence():
        pass


def test_a_user_with_hardly_any_rights_gets_in_all_the_same(server: RedisServer, admin: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "shop", "-@all")
    assert target(server, admin).admits(OLD)
    assert not target(server, admin).admits(NEW)


def test_over_tls_the_servers_authority_is_asked_for(tmp_path: Path, admin: str) -> None:
    for name in ("ours", "another"):
        (tmp_path / name).mkdir()
        make_certificates(tmp_path / name)
    with running_redis(tmp_path / "redis", tls=tmp_path / "ours") as server:
        one = target(server, admin, tls=True, ca=str(tmp_path / "ours" / "ca.pem"))
        with one.fence() as writer:
            writer.apply(NEW, STAGED)
        assert one.admits(NEW)
        stranger = target(server, admin, tls=True, ca=str(tmp_path / "another" / "ca.pem"))
        with pytest.raises(OutcomeUnknown, match=r"(?i)certificate"):
            stranger.admits(NEW)
        with pytest.raises(ServiceMissing, match=r"(?i)certificate"), stranger.fence():
            pass
        with pytest.raises(OutcomeUnknown):  # no way back to a connection that anybody can read
            target(server, admin).admits(NEW)


@pytest.fixture
def replica(server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    more = f"replicaof 127.0.0.1 {server.port}\nmasteruser {ADMIN}\nmasterauth {PASSWORD}\nrepl-diskless-sync-delay 0\n"
    with server.client() as client:
        client.config_set("repl-diskless-sync-delay", 0)
    with running_redis(tmp_path / "replica", more=more) as one:
        deadline = time.monotonic() + 20
        with one.client() as client:
            while client.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < deadline, (one.root / "log").read_text()
                time.sleep(0.02)
        yield one


def test_a_replica_has_its_own_users_and_each_is_changed(server: RedisServer, replica: RedisServer, admin: str) -> None:
    one = target(server, admin, replicas=[f"127.0.0.1:{replica.port}"])
    there = target(replica, admin)
    with one.fence() as writer:
        writer.apply(NEW, STAGED)
        assert there.admits(NEW)
        assert there.admits(OLD)
        writer.revoke(OLD, PROMOTED)
    restart(replica)
    assert (there.admits(OLD), there.admits(NEW)) == (False, True)
    assert (one.admits(OLD), one.admits(NEW)) == (False, True)


def test_an_address_behind_which_another_server_still_takes_the_old_password_is_named(
    server: RedisServer, replica: RedisServer, admin: str, tmp_path: Path
) -> None:
    with running_redis(tmp_path / "another") as another, relay(replica, another) as (port, _):
        with target(server, admin, replicas=[f"127.0.0.1:{port}"]).fence() as writer:
            with pytest.raises(StillAccepted, match="a replica still accepts it"):
                writer.revoke(OLD, PROMOTED)


def test_replicas_that_nobody_named_stop_it_before_anything_changes(
    server: RedisServer, replica: RedisServer, admin: str
) -> None:
    with pytest.raises(ConfigurationError, match="1 replicas, and 0 are named"), target(server, admin).fence():
        pass
    with pytest.raises(ConfigurationError, match="this is a replica"), target(replica, admin).fence():
        pass
    assert server.gets_in("shop", "old0")
