"""A real Vault that is sealed, dead, slow, strange or tired of us: each is named, and what can be mended is."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.certificates import make_certificates
from irflow.adapters.vault.documents import KvDocument, VaultSecrets
from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault, running, running_pid
from irflow.adapters.vault.failures import (
    VaultDenied,
    VaultLoginFailed,
    VaultPathMissing,
    VaultSealed,
    VaultSlow,
    VaultUnreachable,
    VaultUntrusted,
)
from irflow.adapters.vault.session import Session
from irflow.core.errors import ConfigurationError, IrflowError
from irflow.core.secret import SecretRef, SecretValue

REF = SecretRef.parse(f"vault:{MOUNT}/shop/db#password")
VALUE = "the-stolen-value"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        KvDocument(Session(one.login, FileSecrets()), REF).begin(SecretValue(VALUE.encode()), {"username": "app"})
        yield one


@pytest.fixture
def session(vault: EmbeddedVault) -> Session:
    return Session(vault.login, FileSecrets())


def read(session: Session) -> bytes:
    return VaultSecrets(session).resolve(REF).reveal()


def test_what_a_reference_names_is_read_and_shows_in_no_text_of_it(session: Session) -> None:
    document = KvDocument(session, REF).read()
    assert document.live.reveal() == VALUE.encode()
    assert document.rest == {"username": "app"}
    assert VALUE not in repr(document) + str(document)


def test_threads_share_one_login_and_one_that_died_is_made_anew_once(vault: EmbeddedVault, session: Session) -> None:
    logins: list[None] = []
    real: Callable[[], str] = session._log_in
    session._log_in = lambda: (logins.append(None), real())[1]  # type: ignore[method-assign, func-returns-value]

    def many() -> None:
        found = [b""] * 8

        def one(number: int) -> None:
            found[number] = read(session)

        threads = [threading.Thread(target=one, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [VALUE.encode()] * 8

    many()
    assert len(logins) == 1
    vault.root().auth.token.revoke(session._token)
    many()
    assert len(logins) == 2


def test_what_the_policy_denies_is_not_tried_with_a_new_login(session: Session) -> None:
    with pytest.raises(VaultDenied, match=r"responder\.hcl"):
        session.call("sys/policy", lambda client: client.read("sys/policy"))
    token = session._token
    with pytest.raises(VaultDenied):
        session.call("sys/policy", lambda client: client.read("sys/policy"))
    assert session._token == token


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("read", "sys/auth"),
        ("write", "sys/seal"),
        ("write", "sys/policies/acl/irflow"),
        ("write", "auth/token/create"),
        ("write", "transit/decrypt/evidence"),
    ],
)
def test_the_responder_cannot_give_itself_more(session: Session, verb: str, path: str) -> None:
    with pytest.raises(VaultDenied):
        session.call(path, lambda client: client.read(path) if verb == "read" else client.write_data(path, data={}))


def test_a_sealed_vault_is_named_and_works_again_once_unsealed(vault: EmbeddedVault, session: Session) -> None:
    read(session)
    vault.root().sys.seal()
    try:
        with pytest.raises(VaultSealed, match="Unseal it"):
            read(session)
        with pytest.raises(VaultSealed):
            read(Session(vault.login, FileSecrets()))
    finally:
        vault.unseal()
    assert read(session) == VALUE.encode()


def test_after_a_kill_everything_is_there_again(vault: EmbeddedVault, session: Session) -> None:
    read(session)
    vault.kill()
    with pytest.raises(VaultUnreachable, match="irflow vault up"):
        read(session)
    vault.start()
    assert read(session) == VALUE.encode()


def test_a_server_with_another_certificate_gets_nothing(vault: EmbeddedVault, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with pytest.raises(VaultUntrusted, match=r"vault\.ca"):
        read(Session(replace(vault.login, ca=tmp_path / "ca.pem"), FileSecrets()))


def test_an_authority_whose_certificate_is_not_there_is_named(vault: EmbeddedVault, tmp_path: Path) -> None:
    session = Session(replace(vault.login, ca=tmp_path / "none.pem"), FileSecrets())
    with pytest.raises(ConfigurationError, match=r"none\.pem: .* cannot be read\. See vault\.ca"):
        read(session)


@pytest.mark.parametrize(
    ("kind", "body"), [("text/html", "<html>Welcome</html>"), ("application/json", '{"auth": null}')]
)
def test_a_web_server_that_is_no_vault_is_named(vault: EmbeddedVault, kind: str, body: str) -> None:
    with answering(kind, body) as url, pytest.raises(VaultUnreachable, match=r"no Vault\. See vault\.url"):
        read(Session(replace(vault.login, url=url, ca=None), FileSecrets()))


@contextmanager
def answering(kind: str, body: str) -> Iterator[str]:
    """The URL of a server that answers everything alike."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_hangs_is_given_up_in_time(vault: EmbeddedVault) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(VaultSlow, match="in time"):
            read(Session(replace(vault.login, url=url, ca=None, timeout_s=1), FileSecrets()))
    assert time.monotonic() - started < 10


def test_http_where_https_is_spoken_says_what_to_write(vault: EmbeddedVault) -> None:
    url = vault.url.replace("https", "http")
    with pytest.raises(IrflowError, match="https://"):
        read(Session(replace(vault.login, url=url, ca=None), FileSecrets()))


def test_a_secret_id_that_is_not_accepted_is_not_repeated(vault: EmbeddedVault, tmp_path: Path) -> None:
    wrong = tmp_path / "secret.id"
    wrong.write_text("0f0f0f0f-wrong")
    wrong.chmod(0o600)
    with pytest.raises(VaultLoginFailed) as caught:
        read(Session(replace(vault.login, secret=SecretRef("file", str(wrong))), FileSecrets()))
    assert "0f0f0f0f" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        (f"vault:{MOUNT}/shop/none#password", VaultPathMissing),
        ("vault:nowhere/shop/db#password", VaultDenied),
        (f"vault:{MOUNT}/shop/db#passwort", ConfigurationError),
    ],
)
def test_what_is_not_there_is_named(session: Session, reference: str, error: type[IrflowError]) -> None:
    with pytest.raises(error) as caught:
        VaultSecrets(session).resolve(SecretRef.parse(reference))
    assert reference in str(caught.value)
    assert VALUE not in str(caught.value)


def test_nothing_of_it_can_be_read_by_others_or_in_the_list_of_processes(vault: EmbeddedVault) -> None:
    assert vault.home.stat().st_mode & 0o77 == 0
    for secret in (*vault.home.glob("keys/*"), vault.home / "tls" / "server.key"):
        assert secret.stat().st_mode & 0o77 == 0
    keys = [one.read_text() for one in vault.home.glob("keys/*")]
    shown = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout
    assert running_pid(vault.home)
    assert not any(one in shown for one in keys)
    assert not any(one in (vault.home / "audit.log").read_text() for one in (*keys, VALUE))
