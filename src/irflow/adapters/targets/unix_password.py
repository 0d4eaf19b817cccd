"""The password of an account of a host. There is one, so between applying and promoting the old one is refused."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import Field

from irflow.adapters.targets._ssh import CALL_S, Account
from irflow.core.model import Noun
from irflow.core.rotation import Document, Writer
from irflow.core.rotation_means import Means, NotOffered
from irflow.core.secret import SecretValue

KIND = "unix_password"
_SCRIPT = "password.sh"
_ALPHABET = string.ascii_letters + string.digits


class Params(Noun):
    """host: inventory name. account: whose password it is, in that host's /etc/passwd."""

    host: str
    account: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,31}$")


def open_target(params: Params, means: Means) -> UnixPassword:
    """The target that the parameters name. Nothing is connected yet."""
    return UnixPassword(Account.find(params.host, params.account, means))


@dataclass(frozen=True)
class UnixPassword:
    """core.rotation.Target and its Writer: the lock is the script's own, and the document's version the fence."""

    account: Account
    overlap: bool = False
    asks: bool = True

    def new_value(self) -> SecretValue:
        """32 letters and digits, 190 bits: nothing that a terminal or a prompt could swallow."""
        return SecretValue("".join(secrets.choice(_ALPHABET) for _ in range(32)).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held: each call locks the host for itself, and refuses a version smaller than one it has seen."""
        yield self

    def admits(self, value: SecretValue) -> bool:
        """Log in over SSH; where the host takes no passwords there, compare with its /etc/shadow as a log-in would."""
        try:
            return self.account.admits(value, "password")
        except NotOffered:
            args = ["check", "--account", self.account.name]
            said = self.account.shell.run(self.account.host, _SCRIPT, args, timeout_s=CALL_S, secret=value)
            return said.text.strip() == "admitted=yes"

    def apply(self, new: SecretValue, document: Document) -> None:
        """Set it; it reaches the host on the script's standard input."""
        self.account.change(_SCRIPT, "set", document, secret=new)

    def revoke(self, value: SecretValue, document: Document) -> None:
        """The password is gone since apply; the sessions that somebody opened as the account end here."""
        self.account.change(_SCRIPT, "end", document)

    def disable(self, document: Document) -> None:
        """Lock the password and end the sessions."""
        self.account.change(_SCRIPT, "disable", document)

    def enable(self, document: Document) -> None:
        """A new password has unlocked it."""
