"""Keys of a web service: it takes ours or makes its own; killed anywhere, exactly one works in the end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from irflow.adapters.targets.http_api import Params
from irflow.adapters.vault.embedded import EmbeddedVault, running
from tests.services.api_keys import ADMIN, Service, running_service
from tests.services.rotation_hands import FAILING, WORKING, Hands, rotating

AS_ADMIN, AS_HOLDER = {"Authorization": "Bearer {admin}"}, {"Authorization": "Bearer {key}"}
PROBE = {"path": "/me", "headers": AS_HOLDER}
REVOKE = {"path": "/keys/revoke", "headers": AS_ADMIN, "body": {"key": "{key}"}, "gone": [404]}
TAKES = {"put": {"path": "/keys", "headers": AS_ADMIN, "body": {"key": "{key}"}}, "revoke": REVOKE}
MAKES = {"create": {"path": "/keys", "headers": AS_ADMIN, "body": {}, "key": "data.key"}, "revoke": REVOKE}
HAS_ONE = {"put": {"method": "PUT", "path": "/key", "headers": AS_ADMIN, "body": {"key": "{key}"}}}


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as one:
        yield one


@pytest.fixture
def make(
    vault: EmbeddedVault, process: subprocess.Popen[str], service: Service, tmp_path: Path
) -> Callable[..., Hands]:
    admin = tmp_path / "admin"
    admin.write_text(ADMIN)
    admin.chmod(0o600)
    service.keys = {"old0"}
    service.log.clear()

    def build(requests: dict[str, Any]) -> Hands:
        params = {"url": service.url, "admin_secret": f"file:{admin}", "probe": PROBE, **requests}
        return Hands(vault, process, "http_api", params, lambda value: value in service.keys, "old0")

    return build


@pytest.mark.parametrize(
    ("requests", "point"),
    [
        pytest.param(requests, point, id=f"{name}-{point}")
        for name, requests in (("takes ours", TAKES), ("makes its own", MAKES), ("has one", HAS_ONE))
        for point in WORKING
        if (name, point) != ("makes its own", "applied")  # such a key works before anything is applied
    ],
)
def test_killed_it_goes_on_where_it_was(
    make: Callable[..., Hands], service: Service, requests: dict[str, Any], point: str
) -> None:
    hands = make(requests)
    assert hands.rotate("run-1", fault=point)["killed"]
    assert hands.one_works()
    assert hands.rotate("run-1")["said"] in ("rotated", "unchanged")
    live = hands.ended()
    assert live != "old0"
    assert service.keys == {live}
    assert not any(value in line for value in hands.seen for line in service.log), "a key in an access log"


@pytest.mark.parametrize("requests", [TAKES, HAS_ONE], ids=["takes ours", "has one"])
@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(
    make: Callable[..., Hands], requests: dict[str, Any], point: str
) -> None:
    hands = make(requests)
    assert hands.rotate("run-1", fault=point, broken=True)["killed"]
    hands.rotate("", broken=True)
    assert hands.ended() == "old0"


def test_a_disabled_account_has_no_key_until_a_rotation_succeeds(make: Callable[..., Hands], service: Service) -> None:
    hands = make(TAKES)
    hands.rotate("run-1", broken=True, on_failure="disable_account")
    assert not service.keys
    assert hands.rotate("run-2")["said"] == "rotated"
    assert service.keys == {hands.ended()}


def test_while_the_service_is_broken_nothing_is_decided(make: Callable[..., Hands], service: Service) -> None:
    hands = make(TAKES)
    service.broken = 503
    try:
        assert "was answered with 503" in hands.rotate("run-1")["said"]
    finally:
        service.broken = 0
    assert service.keys == {"old0"}
    assert hands.rotate("run-1")["said"] == "rotated"
    assert service.keys == {hands.ended()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "http://api.example.org"}, "HTTPS"),
        ({"url": "https://user:pw@api.example.org"}, "no password"),
        ({"put": {"path": "/keys/{key}"}}, "path"),
        ({"create": {"path": "/keys", "key": "data.key"}}, "either put or create"),
        ({"put": None}, "either put or create"),
    ],
)
def test_requests_that_would_leak_a_key_or_do_nothing_are_refused(change: dict[str, Any], said: str) -> None:
    good = {"url": "https://api.example.org", "admin_secret": "file:x", "probe": PROBE, **TAKES}
    assert Params(**good).revoke
    with pytest.raises(ValidationError, match=said):
        Params(**{**good, **change})
