"""Certificates of Vault's authority: killed anywhere, the old one stands on the published list and the new one not."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from cryptography import x509

from irflow.adapters.vault.embedded import EmbeddedVault, running
from tests.services.rotation_hands import FAILING, WORKING, Hands, rotating

pytestmark = pytest.mark.timeout(120)

NAME = "shop.example.org"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedVault]:
    """A Vault whose owner has made an authority."""
    with running(tmp_path_factory.mktemp("vault") / "home") as one:
        root = one.root()
        root.sys.enable_secrets_engine("pki", config={"max_lease_ttl": "8760h"})
        root.write_data("pki/root/generate/internal", data={"common_name": "shop authority", "key_type": "ec"})
        root.write_data("pki/roles/shop", data={
            "allow_any_name": True, "key_type": "ec", "key_bits": 256, "ttl": "24h", "server_flag": True,
        })  # fmt: skip
        yield one


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    with rotating() as one:
        yield one


def issue(vault: EmbeddedVault, name: str = NAME, **more: Any) -> str:
    """Key, certificate and chain, as irflow keeps them."""
    data = {"common_name": name, **more}
    made = vault.root().write_data("pki/issue/shop", data=data)["data"]
    return "\n".join([made["private_key"], made["certificate"], made["issuing_ca"], ""])


def serial(value: str) -> int:
    return x509.load_pem_x509_certificates(value.encode())[0].serial_number


def published(vault: EmbeddedVault) -> set[int]:
    """Serials on the list, as anybody without a token fetches it."""
    got = requests.get(f"{vault.url}/v1/pki/crl", verify=str(vault.ca), timeout=8)
    return {one.serial_number for one in x509.load_der_x509_crl(got.content)}


@pytest.fixture
def make(vault: EmbeddedVault, process: subprocess.Popen[str]) -> Callable[[str], Hands]:
    def hands(first: str) -> Hands:
        def gets_in(value: str) -> bool:
            return serial(value) not in published(vault)

        return Hands(vault, process, "pki_certificate", {"role": "shop", "common_name": NAME}, gets_in, first)

    return hands


@pytest.fixture
def hands(make: Callable[[str], Hands], vault: EmbeddedVault) -> Hands:
    return make(issue(vault))


@pytest.mark.parametrize("points", list(itertools.pairwise((*WORKING, WORKING[0]))), ids="-".join)
def test_killed_twice_it_goes_on_where_it_was(hands: Hands, vault: EmbeddedVault, points: tuple[str, str]) -> None:
    for point in points:
        hands.rotate("run-1", fault=point)
        assert hands.one_works(), f"after {point} no certificate in Vault is valid"
    assert hands.rotate("run-1")["said"] in ("rotated", "unchanged")
    live = hands.ended()
    assert serial(hands.first) in published(vault)
    assert serial(live) not in published(vault)


@pytest.mark.parametrize("point", FAILING)
def test_killed_while_giving_up_it_goes_on_giving_up(hands: Hands, point: str) -> None:
    assert hands.rotate("run-1", fault=point, broken=True)["killed"]
    hands.rotate("", broken=True)
    assert hands.ended() == hands.first


@pytest.mark.parametrize("point", FAILING)
def test_where_nobody_may_get_in_the_live_one_is_revoked_until_a_rotation_succeeds(hands: Hands, point: str) -> None:
    hands.rotate("run-1", fault=point, broken=True, on_failure="disable_account")
    hands.rotate("", broken=True, on_failure="disable_account")
    assert not any(map(hands.gets_in, hands.seen))
    assert hands.rotate("run-2")["said"] == "rotated"
    assert hands.ended() != hands.first


def test_every_other_certificate_of_the_name_is_revoked_and_none_of_another(hands: Hands, vault: EmbeddedVault) -> None:
    stolen, foreign = issue(vault), issue(vault, "report.example.org")
    assert hands.rotate("run-1")["said"] == "rotated"
    live = hands.ended()
    assert {serial(stolen), serial(hands.first)} <= published(vault)
    assert not {serial(foreign), serial(live)} & published(vault)


def test_what_has_run_out_is_no_obstacle(make: Callable[[str], Hands], vault: EmbeddedVault) -> None:
    hands = make(issue(vault, ttl="1s"))
    expired = x509.load_pem_x509_certificates(hands.first.encode())[0].not_valid_after_utc
    while datetime.now(UTC) <= expired:
        time.sleep(0.05)
    assert hands.rotate("run-1")["said"] == "rotated"
    assert hands.document.read().old is None
    assert hands.in_vault() == [hands.document.read().live.reveal().decode()]


def test_what_somebody_else_signed_is_never_taken_for_valid(make: Callable[[str], Hands], vault: EmbeddedVault) -> None:
    root = vault.root()
    root.sys.enable_secrets_engine("pki", path="foreign")
    root.write_data("foreign/root/generate/internal", data={"common_name": "shop authority", "key_type": "ec"})
    root.write_data("foreign/roles/shop", data={"allow_any_name": True, "key_type": "ec", "key_bits": 256})
    made = root.write_data("foreign/issue/shop", data={"common_name": NAME, "ttl": "1h"})["data"]
    hands = make("\n".join([made["private_key"], made["certificate"]]))
    assert hands.rotate("run-1")["said"] == "rotated"
    assert serial(hands.document.read().live.reveal().decode()) not in published(vault)
