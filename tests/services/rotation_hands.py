"""Rotations as the tests order them, in processes that can be killed, and a look at what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.vault.documents import OURS, KvDocument
from irflow.adapters.vault.embedded import MOUNT, EmbeddedVault
from irflow.adapters.vault.session import Session
from irflow.core.secret import SecretRef, SecretValue

WORKING = ("read", "staged", "applied", "tested", "promoted", "revoked", "refused", "cleared", "destroyed")
FAILING = ("staged", "applied", "tested", "given_up", "withdrawn", "ended", "destroyed")
"""The points at which a rotation can be killed, of one that works and of one whose new value never does."""


@contextmanager
def rotating() -> Iterator[subprocess.Popen[str]]:
    """A process that rotates as ordered; see rotation_process."""
    command = [sys.executable, "-m", "tests.services.rotation_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        assert one.stdin is not None
        assert one.stdout.readline() == "ready\n"
        yield one
        one.stdin.close()


def tell(process: subprocess.Popen[str], vault: EmbeddedVault, **order: Any) -> dict[str, Any]:
    """Have a rotation done; see rotation_process for what stands in an order and in the answer."""
    return ask(process, **addressed(vault, order))


def addressed(vault: EmbeddedVault, order: dict[str, Any]) -> dict[str, Any]:
    """An order that says itself which Vault is meant."""
    login = vault.login
    return {**order, "url": login.url, "role": str(login.role), "secret": str(login.secret), "ca": str(login.ca)}


def ask(process: subprocess.Popen[str], **order: Any) -> dict[str, Any]:
    """As tell, for an order that says itself which Vault is meant."""
    answer: dict[str, Any] = _answer(process, order)
    return answer


def _answer(process: subprocess.Popen[str], order: dict[str, Any] | list[dict[str, Any]]) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def agreed(said: Collection[str]) -> bool:
    """Whether of many who rotated at once one succeeded, and each other did too, was kept out or decided nothing.

    OutcomeUnknown: a log-in to try a value was cut off by another, who ended the account's connections.
    """
    kept_out = ("SecretBusy", "Overtaken", "OutcomeUnknown")
    return "rotated" in said and all(one == "rotated" or one.startswith(kept_out) for one in said)


@dataclass
class Hands:
    """Orders rotations of one secret. first: its value at the beginning. gets_in: tries a value as an attacker would.

    kind, params: the target. means, copies: what it is opened with besides file references, and the files that get the
    value too, as rotation_process takes them.
    """

    vault: EmbeddedVault
    process: subprocess.Popen[str]
    kind: str
    params: dict[str, Any]
    gets_in: Callable[[str], bool]
    first: str
    means: dict[str, Any] = field(default_factory=dict)
    copies: tuple[str, ...] = ()
    seen: set[str] = field(default_factory=set)
    path: str = field(default_factory=lambda: f"test/{uuid.uuid4().hex}")

    def __post_init__(self) -> None:
        self.document = KvDocument(Session(self.vault.login, FileSecrets()), self.ref)
        if not self.seen:
            self.seen.add(self.first)
            self.document.begin(SecretValue(self.first.encode()), {"username": "app"})

    @property
    def ref(self) -> SecretRef:
        """Where the secret is."""
        return SecretRef("vault", f"{MOUNT}/{self.path}", "password")

    def rotate(
        self, run: str, *, fault: str = "", broken: bool = False, on_failure: str = "rollback"
    ) -> dict[str, Any]:
        """In a process of its own: `killed`, and what it `said`. Without a run it is a sweep."""
        answer = self.order(run, fault=fault, broken=broken, on_failure=on_failure)
        self.seen |= set(self.in_vault())
        return answer

    def rotate_where_the_old_stays_good(self, run: str) -> str:
        """What it said of a target that takes the new value and goes on letting the old one in."""
        said: str = ask(self.process, **self._order(run, "", broken=False, on_failure="rollback"), lax=True)["said"]
        self.seen |= set(self.in_vault())
        return said

    def order(self, run: str, *, fault: str = "", broken: bool = False, on_failure: str = "rollback") -> dict[str, Any]:
        """As rotate, but Vault is not looked at afterwards."""
        return ask(self.process, **self._order(run, fault, broken=broken, on_failure=on_failure))

    def all_at_once(self, number: int = 4) -> list[str]:
        """What each of so many processes said that began to rotate it at the same moment."""
        runs = [uuid.uuid4().hex for _ in range(number)]
        orders = [self._order(run, "", broken=False, on_failure="rollback") for run in runs]
        return [one["said"] for one in _answer(self.process, orders)]

    def _order(self, run: str, fault: str, *, broken: bool, on_failure: str) -> dict[str, Any]:
        order = {
            "ref": str(self.ref), "kind": self.kind, "params": self.params, "means": self.means, "run": run,
            "fault": fault and f"after:{fault}", "broken": broken, "on_failure": on_failure, "copies": self.copies,
        }  # fmt: skip
        return addressed(self.vault, order)

    def in_vault(self) -> list[str]:
        """Every value that Vault still has, in whatever version."""
        kv, found = self.vault.root().secrets.kv.v2, []
        about = kv.read_secret_metadata(self.path, mount_point=MOUNT)["data"]["versions"]
        for version, one in about.items():
            if not one["destroyed"]:
                data = kv.read_secret_version(
                    self.path, version=int(version), mount_point=MOUNT, raise_on_deleted_version=True
                )["data"]["data"]
                ours = data[OURS]
                found += [data["password"], ours.get("old"), (ours.get("staged") or {}).get("new")]
        return [one for one in found if one]

    def one_works(self) -> bool:
        """Whether any value that Vault has gets in."""
        return any(map(self.gets_in, self.in_vault()))

    def ended(self) -> str:
        """The one value that works, which is the live one of the only version left. Fails when it is otherwise."""
        document = self.document.read()
        live = document.live.reveal().decode()
        assert [one for one in self.seen if self.gets_in(one)] == [live]
        assert not document.staged
        assert not document.old
        assert self.in_vault() == [live]
        assert document.rest == {"username": "app"}
        return live
