"""secrets.yaml: mistakes at their lines, and what the files that it names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.adapters.catalog.secrets import load_secrets
from irflow.adapters.engines import kinds as engines
from irflow.adapters.targets import kinds as targets
from irflow.core.errors import ConfigurationErrors
from irflow.core.inventory import Inventory
from irflow.core.secret_inventory import SecretInventory

REDIS = "{kind: redis, host: 10.0.0.7, user: shop, admin_secret: %s, ca: keys/ca.pem}"
API = """{kind: http_api, url: 'https://api.example.org', admin_secret: 'file:keys/api.admin', ca: ca.pem,
             put: {path: /keys, body: {key: '{key}'}}, probe: {path: /me, headers: {Authorization: 'Bearer {key}'}}}"""


def load(folder: Path, *lines: str) -> SecretInventory:
    (folder / "secrets.yaml").write_text("\n".join(("secrets:", *lines)) + "\n")
    return load_secrets(folder / "secrets.yaml", targets(), engines(), Inventory())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("vault:irflow/shop/two#password", "vault:irflow/shop/two#apikey"),
        ("vault:irflow/shop/two#password", "vault:irflow/shop/two#password"),
        ("vault:irflow/shop/two#password", "vault:irflow/shop//two#apikey"),
        ("keyring:irflow/shop", "keyring:irflow/shop"),
    ],
)
def test_two_secrets_in_one_document_are_refused_at_the_line_of_the_second(
    tmp_path: Path, first: str, second: str
) -> None:
    with pytest.raises(ConfigurationErrors) as told:
        load(
            tmp_path, f"  a: {{reference: '{first}', target: {{kind: document}}}}", "  b:",
            f"    reference: '{second}'", "    target: {kind: document}", "    after: [a]",
        )  # fmt: skip
    assert str(told.value) == (
        f"{tmp_path}/secrets.yaml:4: 'a' is in the same document. Give each secret a document of its own"
    )


def test_a_secret_in_the_document_of_an_engines_notes_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationErrors, match="is in the same document"):
        load(
            tmp_path, "  signing: {target: {kind: transit_key, key: signing}}",
            "  b: {reference: 'vault:irflow/rotations/signing#x', target: {kind: document}}",
        )  # fmt: skip


def test_secrets_in_documents_of_their_own_are_taken(tmp_path: Path) -> None:
    found = load(
        tmp_path, "  a: {reference: 'vault:irflow/shop/a#password', target: {kind: document}}",
        "  b: {reference: 'vault:irflow/shop/b#password', target: {kind: document}}",
        "  c: {reference: 'keyring:irflow/shop', target: {kind: document}}",
    )  # fmt: skip
    assert list(found.secrets) == ["a", "b", "c"]


@pytest.mark.parametrize("written", ["hunter2", "vault:irflow/admin", "env:IRFLOW_SECRET_ADMIN"])
def test_an_admin_secret_that_is_no_reference_is_told_at_its_line_and_not_repeated(
    tmp_path: Path, written: str
) -> None:
    with pytest.raises(ConfigurationErrors, match=r"secrets\.yaml:3: admin_secret: ") as told:
        load(tmp_path, "  cache:", f"    target: {REDIS % written}", "    reference: 'vault:irflow/cache#password'")
    assert written not in str(told.value)


def test_the_files_that_a_target_is_reached_with_are_meant_from_the_folder_of_the_file(tmp_path: Path) -> None:
    found = load(
        tmp_path, f"  cache: {{reference: 'vault:irflow/cache#x', target: {REDIS % 'file:keys/admin'}}}",
        f"  api: {{reference: 'vault:irflow/api#x', copies: ['file:keys/api'], target: {API}}}",
        f"  other: {{reference: 'vault:irflow/other#x', target: {REDIS % 'vault:irflow/admin#x'}}}",
    ).secrets  # fmt: skip
    assert found["cache"].target["admin_secret"] == f"file:{tmp_path}/keys/admin"
    assert found["cache"].target["ca"] == f"{tmp_path}/keys/ca.pem"
    assert found["api"].target["admin_secret"] == f"file:{tmp_path}/keys/api.admin"
    assert found["api"].target["ca"] == f"{tmp_path}/ca.pem"
    assert found["api"].copies == (f"file:{tmp_path}/keys/api",)
    assert found["other"].target["admin_secret"] == "vault:irflow/admin#x"
