"""The HTTP target on a real service: what decides nothing, what is refused before it harms, and what a crash left."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.targets.http_api import ApiKey, Params, open_target
from irflow.adapters.vault.certificates import make_certificates
from irflow.core.errors import ConfigurationError, IrflowError, OutcomeUnknown, ServiceMissing
from irflow.core.rotation import Document, TargetRefused
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue
from tests.services.api_keys import ADMIN, Service, running_service

AS_ADMIN, AS_HOLDER = {"Authorization": "Bearer {admin}"}, {"Authorization": "Bearer {key}"}
PROBE = {"path": "/me", "headers": AS_HOLDER}
REVOKE = {"path": "/keys/revoke", "headers": AS_ADMIN, "body": {"key": "{key}"}}
TAKES = {"put": {"path": "/keys", "headers": AS_ADMIN, "body": {"key": "{key}"}}, "revoke": REVOKE}
MAKES = {
    "create": {"path": "/keys", "headers": AS_ADMIN, "body": {"name": "irflow-shop"}, "key": "data.key"},
    "revoke": REVOKE,
    "list": {
        "path": "/keys", "headers": AS_ADMIN, "items": "keys", "key": "key", "match": {"name": "irflow-shop"},
    },
}  # fmt: skip
OLD, NEW = SecretValue(b"old0"), SecretValue(b"a-new-key-of-the-test")
STAGED, PROMOTED = Document(live=OLD, version=2), Document(live=NEW, version=3, old=OLD)


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as one:
        one.keys = {"old0"}
        yield one


@pytest.fixture
def admin(tmp_path: Path) -> Path:
    file = tmp_path / "admin"
    file.write_text(ADMIN)
    file.chmod(0o600)
    return file


def target(service: Service, admin: Path, requests: dict[str, Any], **more: Any) -> ApiKey:
    params = {"url": service.url, "admin_secret": f"file:{admin}", "probe": PROBE, **requests, **more}
    return open_target(Params.model_validate(params), Means(FileSecrets()))


def test_a_probe_that_lets_anybody_in_proves_nothing(service: Service, admin: Path) -> None:
    one = target(service, admin, TAKES, probe={"path": "/open", "headers": AS_HOLDER})
    with pytest.raises(OutcomeUnknown, match="/open lets anybody in"):
        one.admits(OLD)


def test_each_verb_done_twice_is_done_once(service: Service, admin: Path) -> None:
    one = target(service, admin, TAKES)
    for _ in range(2):
        one.apply(NEW, STAGED)
    assert (one.admits(OLD), one.admits(NEW)) == (True, True)
    for _ in range(2):
        one.revoke(OLD, PROMOTED)
    assert (one.admits(OLD), one.admits(NEW)) == (False, True)
    for _ in range(2):
        one.disable(PROMOTED)
    assert not service.keys


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_service_that_asks_to_come_back_later_has_not_refused(service: Service, admin: Path, status: int) -> None:
    service.broken = status
    with pytest.raises(OutcomeUnknown, match=f"answered with {status}"):
        target(service, admin, TAKES).apply(NEW, STAGED)


def test_an_admin_who_may_not_is_refused(service: Service, admin: Path) -> None:
    admin.write_text("somebody-else")
    with pytest.raises(TargetRefused, match="answered with 403"):
        target(service, admin, TAKES).apply(NEW, STAGED)
    assert service.keys == {"old0"}


def test_keys_that_a_crash_left_end_with_the_next_rotation_and_no_others(service: Service, admin: Path) -> None:
    one = target(service, admin, MAKES)
    service.keys.add("of-somebody-else")
    left = one.new_value()  # killed before it stood in the document
    new = one.new_value()
    one.revoke(OLD, Document(live=new, version=3, old=OLD))
    assert not one.admits(left)
    assert service.keys == {"of-somebody-else", new.reveal().decode()}


def test_without_a_list_what_a_crash_left_stays(service: Service, admin: Path) -> None:
    one = target(service, admin, {name: MAKES[name] for name in ("create", "revoke")})
    left, new = one.new_value(), one.new_value()
    one.revoke(OLD, Document(live=new, version=3, old=OLD))
    assert one.admits(left)


@pytest.mark.parametrize("part", ["create", "list"])
def test_an_answer_that_cannot_be_read_is_refused_and_not_repeated(service: Service, admin: Path, part: str) -> None:
    one = target(service, admin, MAKES)
    service.garbled = True
    with pytest.raises(TargetRefused, match="the answer has no") as refused:
        if part == "create":
            one.new_value()
        else:
            one.revoke(OLD, PROMOTED)
    assert nothing_of(service.keys | {"old0"}, refused.value)


@pytest.mark.parametrize("value", ["clé-of-the-test", "line\nbreak-of-the-test"])
def test_a_key_that_no_header_takes_is_named_and_not_repeated(service: Service, admin: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\{key\} has a character that no header takes") as refused:
        target(service, admin, TAKES).admits(SecretValue(value.encode()))
    assert nothing_of({value}, refused.value)


def nothing_of(values: set[str], error: BaseException | None) -> bool:
    """Whether no error of the chain has one of the values, in its words or beside them."""
    while error is not None:
        if any(value in f"{error} {vars(error)} {error.args}" for value in values):
            return False
        error = error.__context__
    return True


def test_only_the_named_authority_is_trusted(admin: Path, tmp_path: Path) -> None:
    for name in ("ours", "another"):
        (tmp_path / name).mkdir()
        make_certificates(tmp_path / name)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "ours" / "server.pem", tmp_path / "ours" / "server.key")
    with running_service(tls) as service:
        service.keys = {"old0"}
        assert service.url.startswith("https://")
        assert target(service, admin, TAKES, ca=tmp_path / "ours" / "ca.pem").admits(OLD)
        for ca in (tmp_path / "another" / "ca.pem", None):
            with pytest.raises(ServiceMissing, match="CERTIFICATE_VERIFY_FAILED"):
                target(service, admin, TAKES, ca=ca).admits(OLD)
        with pytest.raises(ConfigurationError, match="No such file"):
            target(service, admin, TAKES, ca=tmp_path / "none.pem").admits(OLD)


def test_a_service_that_is_gone_says_neither_yes_nor_no(admin: Path) -> None:
    with running_service() as service:
        one = target(service, admin, TAKES)
    for call in (lambda: one.admits(OLD), lambda: one.apply(NEW, STAGED), lambda: one.revoke(OLD, PROMOTED)):
        with pytest.raises(IrflowError) as missing:
            call()
        assert isinstance(missing.value, ServiceMissing | OutcomeUnknown)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probe": {"path": "/me"}}, "probe: says {key} nowhere"),
        ({"probe": {"path": "/me", "headers": {"A": "{key} {admin}"}}}, "probe: is made with {key} alone"),
        ({"put": {"path": "/keys"}}, "put: says {key} nowhere"),
        ({"revoke": {"path": "/keys/revoke"}}, "revoke: says {key} nowhere"),
        ({"list": MAKES["list"]}, "goes with create and revoke"),
        ({**MAKES, "put": None, "list": {**MAKES["list"], "match": {}}}, "at least 1 item"),
    ],
)
def test_requests_that_prove_nothing_or_end_keys_of_others_are_refused(change: dict[str, Any], said: str) -> None:
    good = {"url": "https://api.example.org", "admin_secret": "file:x", "probe": PROBE, **TAKES}
    assert Params.model_validate(good).revoke
    with pytest.raises(ValidationError) as refused:
        Params.model_validate({**good, **change})
    assert said in str(refused.value)
