"""`network.block_ip`: block addresses on a host, in and out, open connections included, for as long as a lease."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BeforeValidator, Field, field_validator

from irflow.actions._isolation import Report, drifted
from irflow.actions._remote import call
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import HostError, OutcomeUnknown, Refused
from irflow.core.guards import refuse_address
from irflow.core.inventory import Host
from irflow.core.journal import digest
from irflow.core.model import Json, parse_duration, to_text

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

SCRIPT = "block.sh"
MOST = 1000
"""Most addresses of one step: as many as an alert may name."""
_DEADMAN_S = 60
_WAY_IN = "responder gets in over a new connection"
_NAMED = 3
"""So many addresses stand in a summary; all are in the change's data."""
_WEAKER = "iptables, as there is no nft: ends by the host's wall clock, IPv4 and IPv6 are changed one after the other"
_NEVER: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "the host itself (loopback)"),
    ("169.254.0.0/16", "link-local addresses"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved addresses and broadcast"),
    ("::/128", "no address"),
    ("::1/128", "the host itself (loopback)"),
    ("fe80::/10", "link-local addresses"),
    ("ff00::/8", "multicast"),
)
"""Nobody attacks from these, and a host needs them (IANA special-purpose address registries, RFC 6890)."""
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def _whole_seconds(value: object) -> float:
    return float(round(parse_duration(value).total_seconds()))


def _network(text: str) -> Network:
    """A network that may be blocked; IPv4 inside IPv6 becomes IPv4. Raises ValueError saying why it may not."""
    try:
        network: Network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(f"{text[:100]!r} is no address or network") from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        network = ipaddress.IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.scope_id:
        raise ValueError(f"{text[:100]!r} is an address of one link only")
    if network.prefixlen == 0:
        raise ValueError(f"{network} is everything: to cut a host off there is host.isolate")
    for never, what in _NEVER:
        other = ipaddress.ip_network(never)
        if network.version == other.version and network.overlaps(other):
            raise ValueError(f"{_text(network)} must not be blocked: {never} is {what}")
    return network


def _text(network: Network) -> str:
    """As nft writes it: a single address without its prefix length."""
    return str(network.network_address if network.num_addresses == 1 else network)


class BlockParams(Params):
    """host: inventory name. addresses: IPv4 or IPv6 addresses or networks, at most 1000; kept without overlaps.

    lease: seconds the block holds if nobody renews it, or `8h`.
    """

    host: str
    addresses: tuple[str, ...] = Field(min_length=1, max_length=MOST)
    lease: Annotated[float, BeforeValidator(_whole_seconds)] = Field(default=28800.0, ge=60)

    @field_validator("addresses")
    @classmethod
    def _canonical(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        every = [_network(text) for text in value]
        v4 = ipaddress.collapse_addresses(one for one in every if isinstance(one, ipaddress.IPv4Network))
        v6 = ipaddress.collapse_addresses(one for one in every if isinstance(one, ipaddress.IPv6Network))
        return (*map(_text, v4), *map(_text, v6))


class NetworkBlockIp(Action[BlockParams]):
    """Block addresses, IPv4 and IPv6: nothing from them comes in, nothing to them goes out or through the host.

    What a step blocks is its own on the host: two steps, also of two incidents, may block overlapping addresses, and
    taking one back leaves the other's in force. Proved over a new SSH connection that holds the block for its lease
    (else the kernel lifts it after a minute), by a datagram to each family's first address that the kernel drops.
    """

    name: ClassVar[str] = "network.block_ip"
    summary: ClassVar[str] = "Block addresses on a host, in and out, open connections included"
    Params: ClassVar[type[Any]] = BlockParams
    lease: ClassVar[str | None] = "block"

    def observe(self, params: BlockParams, context: Context) -> dict[str, Json]:
        """What this step has in force, and what is wanted. Raises Refused for addresses that the responder needs."""
        data = _wanted(params, context)
        report = _look(context, data["id"])
        known = _known(context)
        return {
            **report.to_facts(), "wanted": data, "rules_known": known.get("rules", ""),
            "boot_known": known.get("boot", ""),
        }  # fmt: skip

    def plan(self, params: BlockParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Nothing while what is wanted is in force, unchanged, and for at least half the lease."""
        data = seen["wanted"]
        untouched = seen["rules_known"] in ("", seen["rules"]) and seen["boot_known"] in ("", seen["boot"])
        as_wanted = seen["state"] == "confirmed" and seen["spec"] == data["spec"]
        if as_wanted and untouched and seen["left_s"] >= params.lease / 2:
            return ()
        what = f"block {_named(params.addresses)} in and out on {params.host} for {_duration(params.lease)}"
        return (Change(what, data),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Load the rules, armed for a minute; one kernel transaction."""
        report = _mutate(context, "apply", change.data, *_rules(change.data))
        return {"state": report.state, "backend": report.backend, "was": report.raw.get("was", "")}

    def verify(
        self, params: BlockParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Hold the block over a new connection, and try to send through it."""
        data = seen["wanted"]
        try:
            report = self._hold(params, data, context) if applied else _look(context, data["id"], fresh=True)
        except OutcomeUnknown:
            raise
        except HostError as error:
            return self._no_way_in(params, error)
        return self._proof(params, data, report, context, str(seen["state"]), {})

    def _hold(self, params: BlockParams, data: dict[str, Json], context: Context) -> Report:
        lease = ("--spec", data["spec"], "--ttl", str(int(params.lease)))
        return _mutate(context, "hold", data, *lease, "--probe", ",".join(_probes(params.addresses)), fresh=True)

    def _no_way_in(self, params: BlockParams, error: HostError) -> Proof:
        back = f"not held, so the kernel lifts the block on {params.host} within {_DEADMAN_S} s of the change"
        return Proof((Check(_WAY_IN, False, "", str(error)),), {"state": "unconfirmed", "reverts": back})

    def _proof(
        self, params: BlockParams, data: dict[str, Json], report: Report, context: Context, before: str,
        more: dict[str, Json],
    ) -> Proof:  # fmt: skip
        """A proof, with the lease that the kernel holds; the lease of other addresses that the step had, ends."""
        held = report.state == "confirmed"
        as_wanted = held and report.spec == data["spec"]
        checks = [
            Check(_WAY_IN, True, "", "logged in"),
            Check("the kernel holds the block", as_wanted, before, f"{report.state}, {report.left} s left"),
            *_sent(report),
        ]
        facts: dict[str, Json] = {**report.to_facts(), **more, "lease": data["kind"], "addresses": data["addresses"]}
        if report.backend == "iptables":
            facts["weaker"] = _WEAKER
        until = context.ports.clock.now() + timedelta(seconds=report.left)
        lease: dict[str, Json] = {"kind": data["kind"], "until": to_text(until), "seconds": params.lease}
        old = str(_known(context).get("lease", ""))
        ended = (old,) if held and old not in ("", data["kind"]) else ()
        # Also when a check failed: what is in force must be watched and released.
        return Proof(tuple(checks), facts, (lease,) if held else (), ended)

    def undo(self, change: Change, context: Context) -> Proof:
        """Take this step's own objects away and show that nothing else moved; harmless when nothing was applied."""
        report = _mutate(context, "undo", change.data)
        again = _look(context, change.data["id"], fresh=True)
        restored = report.raw.get("restored", "")
        return Proof(
            (
                Check("block is gone", again.state == "absent", report.raw.get("was", ""), again.state),
                Check("the rest of the rules was left alone", restored != "", "", restored),
            ),
            {**again.to_facts(), "restored": restored},
            ended_leases=(change.data["kind"],),
        )

    def renew(self, params: BlockParams, context: Context) -> Proof:
        """Prolong the lease; where the rules are gone or were changed, block again, hold, and say `drift`."""
        data = _wanted(params, context)
        known = _known(context)
        rules = ("--rules", known["rules"]) if known.get("rules") else ()
        report = _mutate(context, "renew", data, *_rules(data), "--ttl", str(int(params.lease)), *rules)
        facts = drifted(report, str(known.get("boot", "")))
        if report.raw.get("renewed") == "armed":
            try:
                report = self._hold(params, data, context)
            except OutcomeUnknown:
                raise
            except HostError as error:
                failed = self._no_way_in(params, error)
                return Proof(failed.checks, {**failed.facts, **facts})
        return self._proof(params, data, report, context, str(facts.get("drift", "")), facts)


# ---------------------------------------------------------------- what is wanted


def _wanted(params: BlockParams, context: Context) -> dict[str, Json]:
    """The data of the Change: what this step should have in force. Raises Refused."""
    host = context.the_host()
    reasons = [why for text in params.addresses if (why := _needed(host, text, context))]
    if reasons:
        raise Refused("; ".join(reasons), where=host.name, hint="Leave it out, or name it more narrowly")
    rules: dict[str, Json] = {"addresses": list(params.addresses), "lease": int(params.lease)}
    own = _own(context)
    # The mark keeps leases apart: two steps that block the same address each hold, and end, their own.
    kind = f"block {_named(params.addresses)} ({own[:6]})"
    return {**rules, "id": own, "kind": kind, "spec": digest(rules)[:16], "deadman": _DEADMAN_S}


def _own(context: Context) -> str:
    """The name of what the step has on the host; it stays when the step's record joins another incident."""
    earlier = context.status.step(context.step.key).intended
    if earlier:
        return str(Change.from_data(earlier[-1]).data["id"])
    return sha256(f"{context.incident.id} {context.step.key}".encode()).hexdigest()[:12]


def _needed(host: Host, text: str, context: Context) -> str | None:
    """Why an address must not be blocked on the host, by the inventory."""
    refused = refuse_address(context.ports.inventory, text)
    if refused:
        return refused
    network = ipaddress.ip_network(text)
    if text == host.address:
        return f"{text} is {host.name} itself"
    for flow in host.allow:
        address = re.sub(r"^(?:tcp|udp):\[?|\]?:\d+$", "", flow)
        kept = ipaddress.ip_network(address, strict=False)
        if kept.version == network.version and kept.overlaps(network):
            return f"{text} would cut {flow}, which the inventory keeps open for {host.name} even in an isolation"
    return None


def _probes(addresses: tuple[str, ...]) -> list[str]:
    """One address of each family to try, the first of the network."""
    first = {":" in one: one.partition("/")[0] for one in reversed(addresses)}
    return [first[six] for six in sorted(first)]


def _named(addresses: tuple[str, ...]) -> str:
    more = len(addresses) - _NAMED
    return ", ".join(addresses[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _duration(seconds: float) -> str:
    """8 h, 90 min, 45 s: whole numbers of the largest unit that fits."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


# ---------------------------------------------------------------- the host


def _rules(data: dict[str, Json]) -> tuple[str, ...]:
    return "--spec", data["spec"], "--addresses", ",".join(data["addresses"]), "--deadman", str(data["deadman"])


def _mutate(context: Context, verb: str, data: dict[str, Json], *args: str, fresh: bool = False) -> Report:
    """Call a verb that changes the host, with the epoch that makes late callers harmless."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    everything = [verb, "--epoch", str(context.epoch), "--step", step, "--id", data["id"], *args]
    return Report.read(call(context, SCRIPT, everything, fresh=fresh).text)


def _look(context: Context, own: str, *, fresh: bool = False) -> Report:
    return Report.read(call(context, SCRIPT, ["status", "--id", own], fresh=fresh).text)


def _known(context: Context) -> dict[str, Json]:
    """The facts of the step's last proof."""
    facts: dict[str, Json] = context.status.step(context.step.key).outcome.get("facts", {})
    return facts


def _sent(report: Report) -> list[Check]:
    """What became of the datagrams that the host tried to send. No route, or no program to send, proves nothing."""
    tried = {key.removeprefix("probe_"): said for key, said in report.raw.items() if key.startswith("probe_")}
    return [
        Check(f"the kernel drops what is sent to {address}", said == "dropped", "", said)
        for address, said in tried.items()
        if said in ("dropped", "sent")
    ]
