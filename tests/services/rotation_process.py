"""Rotations in processes that can be killed: a warm parent, forked for each order, so that a case takes milliseconds.

An order on standard input is one JSON line: url, role, secret, ca, ref, kind, params, means (`hosts`: of the inventory,
for targets reached over SSH), run, on_failure, fault (`after:POINT` or empty), broken (the new value never gets in),
lax (the old one always does; may be left out), copies (`file:` references; may be left out), keyring (file, key, lock,
and after how many writes of entries it ends, 0 for never; where ref is in a keyring), changes (after how many of the
changes that an engine makes, to Vault and to hosts, it is killed; may be left out). The answer: whether the child was
killed, and what it returned or raised. A list of orders is carried out all at once, and answered by a list.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from irflow.adapters import engines
from irflow.adapters.faults import Fault
from irflow.adapters.keyring.document import KeyringDocument
from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.adapters.secret_files import FileSecrets, write_secret
from irflow.adapters.ssh import SshShell
from irflow.adapters.targets import kinds, open_target
from irflow.adapters.vault.documents import EnginePlace, KvDocument
from irflow.adapters.vault.session import Login, Session
from irflow.adapters.vault.ssh_certificates import VaultCertificates
from irflow.core.engine_rotation import EngineRotator
from irflow.core.errors import IrflowError
from irflow.core.inventory import Host, Inventory
from irflow.core.ports import Shell
from irflow.core.rotation import Authority, OnFailure, Rotator
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretRef, SecretValue


def rotate(order: dict[str, Any]) -> str:
    """What the order asks for. Returns the result."""
    fault = Fault(order["fault"]) if order["fault"] else lambda point: None
    login = Login(order["url"], SecretRef.parse(order["role"]), SecretRef.parse(order["secret"]), Path(order["ca"]))
    session = Session(login, FileSecrets())
    means, ref = replace(_means(order["means"], session), vault=session), SecretRef.parse(order["ref"])
    if order["kind"] in engines.kinds():
        if order.get("changes"):
            means = _mortal(means, order["changes"])
        place, engine = EnginePlace(session, ref), engines.open_engine(order["kind"], order["params"], means)
        one = EngineRotator(place, engine, time.monotonic, lambda step, _: fault(f"after:{step}"))
        return str((one.rotate(order["run"]) if order["run"] else one.sweep()).result)
    target: Any = open_target(order["kind"], order["params"], means)
    document: Authority = _in_keyring(order["keyring"], ref) if ref.scheme == "keyring" else KvDocument(session, ref)
    copies = [SecretRef.parse(one) for one in order.get("copies", ())]

    def deliver(value: SecretValue) -> None:
        for copy in copies:
            write_secret(copy, value)

    if order["broken"]:
        target = Broken(target, document.read().live)
    if order.get("lax"):
        target = Lax(target, document.read().live)
    rotator = Rotator(
        document, target, OnFailure(order["on_failure"]), time.monotonic, lambda step, _: fault(f"after:{step}"),
        deliver if copies else None,
    )  # fmt: skip
    return str((rotator.rotate(order["run"]) if order["run"] else rotator.sweep()).result)


def _means(given: dict[str, Any], session: Session) -> Means:
    if "hosts" not in given:
        return Means(FileSecrets())
    hosts = Inventory(hosts={one["name"]: Host(**one) for one in given["hosts"]})
    shell = SshShell(FileSecrets(), hosts, certifier=VaultCertificates(session))  # ends with the process
    return Means(FileSecrets(), hosts, shell, shell)


def _mortal(means: Means, changes: int) -> Means:
    """The same means; after so many changes made with them the process is killed."""
    left, turn = [changes], threading.Lock()

    def made() -> None:
        with turn:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    return replace(means, vault=CountedVault(means.vault, made), shell=cast("Shell", CountedShell(means.shell, made)))


@dataclass
class CountedVault:
    """Vault, with a word after each call that changes an SSH authority or signs with it."""

    real: Any
    made: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def call(self, where: str, do: Callable[[Any], Any]) -> Any:
        answer = self.real.call(where, do)
        if where.startswith("ssh/") and where != "ssh/issuers":
            self.made()
        return answer


@dataclass
class CountedShell:
    """Hosts, with a word after each script that changes one."""

    real: Any
    made: Callable[[], None]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def run(self, host: Host, script: str, args: Sequence[str] = (), **more: Any) -> Any:
        answer = self.real.run(host, script, args, **more)
        if args[0] != "show":
            self.made()
        return answer


def _in_keyring(given: dict[str, Any], ref: SecretRef) -> KeyringDocument:
    key = SecretRef("file", given["key"])
    backend = Mortal(Path(given["file"]), lambda: FileSecrets().resolve(key))
    backend.writes = given["writes"]
    return KeyringDocument(backend, ref, Path(given["lock"]))


class Mortal(EncryptedFileKeyring):
    """A keyring whose process is killed once it has written so many entries; 0: never."""

    writes = 0

    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password)
        self.writes -= 1
        if not self.writes:
            os.kill(os.getpid(), signal.SIGKILL)


class Broken:
    """A target that takes a new value and then lets nobody in with it, as behind a pooler with its own list."""

    def __init__(self, real: Any, live: SecretValue) -> None:
        self._real, self._live = real, live.reveal()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def admits(self, value: SecretValue) -> bool:
        return value.reveal() == self._live and bool(self._real.admits(value))


class Lax:
    """A target that takes a new value and goes on letting the old one in, as behind a replica that hears of nothing."""

    def __init__(self, real: Any, old: SecretValue) -> None:
        self._real, self._old = real, old.reveal()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def admits(self, value: SecretValue) -> bool:
        return value.reveal() == self._old or bool(self._real.admits(value))


def main() -> None:
    kinds(), engines.kinds()  # loaded here, once
    _say("ready")
    for line in sys.stdin:
        order = json.loads(line)
        if isinstance(order, list):
            _say(json.dumps(_all(order)))
        else:
            _say(json.dumps(_all([order])[0]))


def _all(orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every order in a child of its own; they begin when all are there."""
    waiting, go = os.pipe()
    children = []
    for order in orders:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(go)
            os.read(waiting, 1)  # ends when the parent, and nobody else, has closed the other end
            os.write(writing, _said(order).encode())
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    os.close(waiting)
    os.close(go)
    answers = []
    for child, reading in children:
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        answers.append({"killed": os.WIFSIGNALED(status), "said": said})
    return answers


def _said(order: dict[str, Any]) -> str:
    try:
        return rotate(order)
    except IrflowError as error:
        return f"{type(error).__name__}: {error}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
