"""`session.revoke`: end the sessions of accounts and from addresses, SSH and web; logging in anew stays possible."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, ClassVar, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from irflow.actions import _web_sessions as web
from irflow.actions._accounts import MOST, account_names
from irflow.actions._remote import call, fields
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import Refused
from irflow.core.guards import refuse_address
from irflow.core.model import Json

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SCRIPT = "session.sh"
_MOST_ADDRESSES = 1000
_ROUNDS = 5
"""So often it looks for sessions that began while others were ended."""
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAMED = 3


@dataclass(frozen=True)
class Session:
    """An SSH session as session.sh found it.

    pid, started: of the process that leads it. account: `-` before it has logged in. own: irflow's own. processes:
    how many would end with it.
    """

    pid: int
    started: int
    uid: int
    account: str
    address: str
    own: bool
    processes: int

    @classmethod
    def read(cls, text: str) -> Session:
        """From a line of session.sh status."""
        pid, started, uid, account, address, own, processes = text.split(" ")
        return cls(int(pid), int(started), int(uid), account, address, own == "yes", int(processes))

    @property
    def shown(self) -> str:
        """For people: `deploy from 192.0.2.7`."""
        return f"{'login' if self.account == '-' else self.account} from {self.address}"


@dataclass(frozen=True)
class Look:
    """The sessions of a host that are meant. kept: irflow's own among them. missing: accounts that it does not have."""

    sessions: tuple[Session, ...]
    kept: tuple[Session, ...]
    missing: tuple[str, ...]


class RevokeParams(Params):
    """host: inventory name. accounts: whose sessions end. addresses: from where sessions end; addresses or networks.

    One of both must be given; a session is meant when either is true of it. web: also end those of the application, by
    the hook that irflow.yaml names for the host.
    """

    host: str
    accounts: tuple[str, ...] = Field(default=(), max_length=MOST)
    addresses: tuple[str, ...] = Field(default=(), max_length=_MOST_ADDRESSES)
    web: bool = False

    @field_validator("accounts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return account_names(value)

    @field_validator("addresses")
    @classmethod
    def _canonical(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_text(_network(one)) for one in value))

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.accounts and not self.addresses:
            raise ValueError("name accounts or addresses whose sessions should end")
        return self


class SessionRevoke(Action[RevokeParams]):
    """End SSH sessions with all that runs in them and was left in the background; web sessions by a hook.

    irflow's own sessions live on: this one, and those of the same account from the same address.
    """

    name: ClassVar[str] = "session.revoke"
    summary: ClassVar[str] = "End live sessions of accounts or from addresses, SSH and web"
    Params: ClassVar[type[Any]] = RevokeParams
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "an ended session cannot come back; who may log in can do so again"

    def observe(self, params: RevokeParams, context: Context) -> dict[str, Json]:
        """The sessions that are meant. Raises Refused for addresses that the responder needs."""
        host = context.the_host()
        reasons = [why for one in params.addresses if (why := refuse_address(context.ports.inventory, one))]
        if reasons:
            raise Refused("; ".join(reasons), where=host.name, hint="Leave it out, or name it more narrowly")
        look = _look(params, context)
        mark = f"{context.incident.id} {context.step.key}"
        return {
            "sessions": [asdict(one) for one in look.sessions],
            "kept": [one.shown for one in look.kept],
            "missing": list(look.missing),
            "id": sha256(mark.encode()).hexdigest()[:12],
            **({"web": web.observe(context, *_asked(params))} if params.web else {}),
        }

    def plan(self, params: RevokeParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for the SSH sessions and one for those of the application; none where there are no sessions."""
        changes: list[Change] = []
        sessions = [Session(**one) for one in seen["sessions"]]
        asked: dict[str, Json] = {"accounts": list(params.accounts), "addresses": list(params.addresses)}
        if sessions:
            count, ends = len(sessions), sum(one.processes for one in sessions)
            what = f"end {count} SSH session{'s' * (count > 1)} on {params.host}: {_named(sessions)}"
            what += f" ({ends} process{'es' * (ends != 1)})"
            changes.append(Change(what, {**asked, "id": seen["id"], "sessions": seen["sessions"]}))
        return (*changes, *(web.plan(params.host, seen["web"], asked) if params.web else ()))

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """End the sessions, and those that began meanwhile."""
        data = change.data
        if "hook" in data:
            return web.apply(change, context)
        params = RevokeParams(host=context.the_host().name, accounts=data["accounts"], addresses=data["addresses"])
        ended, sessions = 0, tuple(Session(**one) for one in data["sessions"])
        for _ in range(_ROUNDS):
            ended += _end(context, data["id"], sessions)
            sessions = _look(params, context).sessions
            if not sessions:
                break
        return {"processes": ended}

    def verify(
        self, params: RevokeParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Look over a new connection; ask the hook once more."""
        look = _look(params, context, fresh=True)
        before = _named([Session(**one) for one in seen["sessions"]])
        name = f"no SSH session {_meant(params)} is left"
        checks = [Check(name, not look.sessions, before or "none", _named(look.sessions) or "none")]
        facts: dict[str, Json] = {
            "ended": [Session(**one).shown for one in seen["sessions"]] if applied else [],
            "processes": sum(one.get("processes", 0) for one in applied),
            "kept": [one.shown for one in look.kept], "missing": seen["missing"],
        }  # fmt: skip
        if params.web:
            proof = web.verify(context, seen["web"], applied, *_asked(params))
            checks, facts = [*checks, *proof.checks], {**facts, **proof.facts}
        return Proof(tuple(checks), facts)


# ---------------------------------------------------------------- which sessions


def _network(text: str) -> Network:
    """A network; IPv4 inside IPv6 becomes IPv4. Raises ValueError for what is none, or is everything."""
    try:
        network: Network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{text[:100]!r} is no address or network") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        network = ipaddress.IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))
    if network.prefixlen == 0:
        raise ValueError(f"{network} is everybody: name accounts, or smaller networks")
    return network


def _text(network: Network) -> str:
    return str(network.network_address if network.num_addresses == 1 else network)


def _from(address: str, networks: Iterable[Network]) -> bool:
    """Whether a session's address is in one of the networks; one that cannot be read is in none."""
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(one.version == network.version and one in network for network in networks)


def _asked(params: RevokeParams) -> tuple[list[str], list[str]]:
    return list(params.accounts), list(params.addresses)


def _meant(params: RevokeParams) -> str:
    """`of deploy or from 192.0.2.7`."""
    whose = f"of {', '.join(params.accounts)}" if params.accounts else ""
    more = len(params.addresses) - _NAMED
    origin = ", ".join(params.addresses[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return " or ".join(filter(None, [whose, f"from {origin}" if origin else ""]))


def _named(sessions: Iterable[Session]) -> str:
    """`deploy from 192.0.2.7 (2), bob from 192.0.2.7`; empty for none."""
    found = Counter(one.shown for one in sessions)
    texts = [f"{text} ({count})" if count > 1 else text for text, count in found.items()]
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")


# ---------------------------------------------------------------- the host


def _look(params: RevokeParams, context: Context, *, fresh: bool = False) -> Look:
    """Read all sessions and choose. Accounts are told apart by their number: a name may have a second one."""
    asked = ("--accounts", ",".join(params.accounts)) if params.accounts else ()
    lines = [line.partition("=") for line in call(context, SCRIPT, ["status", *asked], fresh=fresh).text.splitlines()]
    numbers = dict(value.rsplit(" ", 1) for key, _, value in lines if key == "account")
    numbers = {name: number for name, number in numbers.items() if name in params.accounts}
    networks, uids = [_network(one) for one in params.addresses], {int(one) for one in numbers.values()}
    every = sorted(
        (Session.read(value) for key, _, value in lines if key == "session"), key=lambda one: (one.started, one.pid)
    )
    meant = [one for one in every if _from(one.address, networks) or (one.account != "-" and one.uid in uids)]
    return Look(
        tuple(one for one in meant if not one.own),
        tuple(one for one in meant if one.own),
        tuple(one for one in params.accounts if one not in numbers),
    )


def _end(context: Context, own: str, sessions: Iterable[Session]) -> int:
    """End sessions; how many processes that were."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    listed = ",".join(f"{one.pid}:{one.started}:{one.uid}" for one in sessions)
    args = ["end", "--epoch", str(context.epoch), "--step", step, "--id", own, "--sessions", listed]
    return int(fields(call(context, SCRIPT, args).text).get("ended", 0))
