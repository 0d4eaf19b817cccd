"""Accounts of hosts: their names, as they may be sent there, and what account.sh finds out about them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from irflow.actions._remote import fields
from irflow.core.action import Context
from irflow.core.errors import Refused
from irflow.core.model import Json

MOST = 100
"""Most accounts of one step."""
_SHOWN = 5
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}")
_NEVER = {
    "root": "there is no way in, and none back, without it",
    **dict.fromkeys(("sshd", "messagebus", "systemd-network", "dhcpcd"), "the responder's own way in needs it"),
}
"""Accounts that are never disabled, and why; the host itself refuses whatever else has the number 0."""


def account_names(value: tuple[str, ...]) -> tuple[str, ...]:
    """The names, each once. Raises ValueError naming one that cannot be sent."""
    for name in value:
        if not _NAME.fullmatch(name) or ".." in name or name.isdigit():
            raise ValueError(f"{name[:100]!r} is not the name of an account that can be sent to a host")
    return tuple(dict.fromkeys(value))


def refuse_accounts(accounts: tuple[str, ...], context: Context) -> None:
    """Raises Refused for accounts that must never be disabled, whatever the host says."""
    host = context.the_host()
    for name in accounts:
        why = _NEVER.get(name, "it is the account that irflow logs in with" if name == host.user else "")
        if why:
            raise Refused(f"{name} is never disabled: {why}", where=host.name, hint="Leave it out")


@dataclass(frozen=True)
class Item:
    """A file or link that lets an account in, or back in. kind: keys, cron, at or linger. mtime: seconds since 1970."""

    kind: str
    sha256: str
    owner: str
    mode: str
    mtime: int
    size: int
    path: str

    @classmethod
    def read(cls, text: str) -> Item:
        """From a line of account.sh."""
        kind, digest, owner, mode, mtime, size, path = text.split(" ", 6)
        return cls(kind, digest, owner, mode, int(mtime), int(size), path)


@dataclass(frozen=True)
class Account:
    """An account as account.sh found it.

    kind: local, directory (not of this host), or none. carries: the responder's session is its own. shares: other
    accounts with its number. shadow, passwd: SHA-256 of its lines. processes: `PID NAME UNIT`, with what is below
    them. boxed: `PID:NAME` of containers that only have its number. holders: incidents that keep it disabled.
    was_...: what it was before irflow disabled it.
    """

    name: str
    kind: str
    uid: int = -1
    carries: bool = False
    system: bool = False
    shares: tuple[str, ...] = ()
    passwd: str = ""
    shadow: str = ""
    locked: bool = False
    expired: bool = False
    items: tuple[Item, ...] = ()
    processes: tuple[str, ...] = ()
    boxed: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    was_locked: bool = False
    was_expired: bool = False
    was_shadow: str = ""
    was_passwd: str = ""
    was_items: tuple[Item, ...] = ()

    @classmethod
    def read(cls, block: str) -> Account:
        """From a block of account.sh status, the name in its first line."""
        name, _, rest = block.partition("\n")
        raw = fields(rest)

        def names(key: str) -> tuple[str, ...]:
            return tuple(one for one in raw.get(key, "").split(",") if one)

        def all_of(key: str) -> tuple[str, ...]:
            return tuple(line.partition("=")[2] for line in rest.splitlines() if line.startswith(f"{key}="))

        return cls(
            name, raw.get("kind", "none"), int(raw.get("uid", -1)), raw.get("carries") == "yes",
            raw.get("system") == "yes", names("shares"), raw.get("passwd", ""), raw.get("shadow", ""),
            raw.get("locked") == "yes", raw.get("expired") == "yes", tuple(map(Item.read, all_of("item"))),
            all_of("process"), names("boxed"), names("holders"), raw.get("was_locked") == "yes",
            raw.get("was_expired") == "yes", raw.get("was_shadow", ""), raw.get("was_passwd", ""),
            tuple(map(Item.read, all_of("was_item"))),
        )  # fmt: skip

    def to_facts(self) -> dict[str, Json]:
        """As JSON for the journal."""
        facts: dict[str, Json] = {
            key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()
        }
        facts["processes"] = list(self.processes[:_SHOWN])
        return {**facts, "alive": len(self.processes)}

    @property
    def state(self) -> str:
        """For people: `locked, expired`."""
        return f"{'locked' if self.locked else 'not locked'}, {'expired' if self.expired else 'not expired'}"

    @property
    def running(self) -> str:
        """For people: what runs, `nothing` without any process."""
        more = len(self.processes) - _SHOWN
        return (
            ", ".join(map(str.strip, self.processes[:_SHOWN])) + (f" and {more} more" if more > 0 else "") or "nothing"
        )
