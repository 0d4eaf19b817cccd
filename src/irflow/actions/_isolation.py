"""An isolation as isolate.sh reports it, as it is wanted, and as it is seen from outside."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from irflow.actions._remote import call, fields
from irflow.core.action import Change, Check, Context
from irflow.core.errors import ConfigurationError, ConnectionLost, DeadlineExceeded, HostUnreachable, LoginFailed
from irflow.core.inventory import Host
from irflow.core.journal import digest
from irflow.core.model import Json

T = TypeVar("T")

SCRIPT = "isolate.sh"
KIND = "isolation"
SSH_IS_DEAD = (HostUnreachable, LoginFailed, DeadlineExceeded, ConnectionLost)
"""What a look over SSH says when nothing can be done over it; a key that changed is for a person to judge."""
FIRST_LOOK_S = 0.3
"""How long the probe before the cut waits; a healthy host in the same country answers in a tenth of that."""
_FLOW = re.compile(r"(?:tcp|udp):(?:[0-9.]+(?:/\d+)?|\[[0-9a-fA-F:.]+(?:/\d+)?\]):\d{1,5}")


@dataclass(frozen=True)
class Report:
    """What isolate.sh says is in force. state: absent, armed (dead-man runs), confirmed, or expired.

    left: seconds until the kernel opens the host. spec: our mark of what was asked for. rules: hash of the rules as
    the kernel has them. boot: which boot of the host this is. dropped: packets so far. remains: files that would cut
    the host off again after a boot.
    """

    backend: str
    state: str
    left: int
    spec: str
    rules: str
    boot: str
    dropped: int
    remains: bool
    raw: dict[str, str]

    @classmethod
    def read(cls, text: str) -> Report:
        """From the script's key=value lines."""
        raw = fields(text)
        return cls(
            raw.get("backend", ""), raw.get("state", ""), int(raw.get("left") or 0), raw.get("spec", ""),
            raw.get("rules", ""), raw.get("boot", ""), int(raw.get("dropped_packets") or 0),
            raw.get("remains") == "yes", raw,
        )  # fmt: skip

    def to_facts(self) -> dict[str, Json]:
        """As JSON for the journal."""
        return {
            "backend": self.backend, "state": self.state, "left_s": self.left, "spec": self.spec, "rules": self.rules,
            "boot": self.boot, "dropped_packets": self.dropped,
        }  # fmt: skip


@dataclass(frozen=True)
class Probed:
    """What the responder saw on a port that a cut must silence. answer: open, refused or silent."""

    answer: str
    seconds: float


def wanted(host: Host, lease_s: int, deadman_s: int, allow: tuple[str, ...]) -> dict[str, Json]:
    """The isolation that a host should have: the data of a Change.

    Raises ConfigurationError when the inventory names no management network for the host, or a flow is not one.
    """
    if not host.management:
        raise ConfigurationError(
            "no management network is known: nobody would get in any more", where=host.name,
            hint="Add `management: [ADDRESS or NETWORK]` to the host in inventory.yaml",
        )  # fmt: skip
    flows = list(dict.fromkeys((*host.allow, *allow)))
    for flow in flows:
        if not _FLOW.fullmatch(flow):
            raise ConfigurationError(
                f"not a flow: {flow[:80]!r}", where=host.name, hint="Write udp:10.0.0.53:53 or tcp:[2001:db8::1]:443"
            )
    rules: dict[str, Json] = {"management": _networks(host.management), "allow": flows, "lease": lease_s}
    return {**rules, "deadman": deadman_s, "spec": digest(rules)[:16]}


def _networks(texts: tuple[str, ...]) -> list[str]:
    """Networks without overlaps, IPv4 first; single addresses without their prefix length."""
    every = [ipaddress.ip_network(text, strict=False) for text in texts]
    v4 = list(ipaddress.collapse_addresses(one for one in every if isinstance(one, ipaddress.IPv4Network)))
    v6 = list(ipaddress.collapse_addresses(one for one in every if isinstance(one, ipaddress.IPv6Network)))
    merged: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = [*v4, *v6]
    return [str(one.network_address if one.num_addresses == 1 else one) for one in merged]


def arguments(data: dict[str, Json]) -> list[str]:
    """What isolate.sh apply and renew need, from a Change's data."""
    args = ["--spec", str(data["spec"]), "--deadman", str(data["deadman"])]
    for network in data["management"]:
        args += ["--management", network]
    for flow in data["allow"]:
        args += ["--allow", flow]
    return args


def mutate(context: Context, verb: str, *args: str, fresh: bool = False) -> Report:
    """Call a verb that changes the host, with the epoch that makes late callers harmless."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    everything = [verb, "--epoch", str(context.epoch), "--step", step, *args]
    return Report.read(call(context, SCRIPT, everything, fresh=fresh).text)


def look(context: Context, *, fresh: bool = False) -> Report:
    """What is in force now. Reads only."""
    return Report.read(call(context, SCRIPT, ["status"], fresh=fresh).text)


def drifted(report: Report, boot_known: str) -> dict[str, Json]:
    """`drift` as a fact, where isolate.sh renew found something else than irflow had left; empty where it did not."""
    drift = report.raw.get("drift") or ("not_confirmed" if report.raw.get("renewed") == "armed" else "")
    rebooted = boot_known not in ("", report.boot)
    if rebooted and drift in ("", "absent"):
        drift = "rebooted"
    return {"drift": drift} if drift else {}


def probe(context: Context, timeout_s: float) -> Probed:
    """Knock from the responder on a port that is not SSH: refused or open while connected, silent once cut off."""
    host = context.the_host()
    clock = context.ports.clock
    start = clock.monotonic()
    answer = context.ports.prober.tcp(host, 9 if host.port != 9 else 1, timeout_s=timeout_s)
    return Probed(answer, clock.monotonic() - start)


def patience(before: Probed) -> float:
    """How long silence must last to count: four round trips as measured before, at least 0.1 s."""
    return min(1.0, max(0.1, 4 * before.seconds)) if before.answer != "silent" else 0.15


def together(first: Callable[[], T], context: Context, timeout_s: float) -> tuple[T, Probed]:
    """Do something over SSH while a probe is out; their waits overlap. Errors of `first` come before the probe's."""
    with ThreadPoolExecutor(1, thread_name_prefix="probe") as pool:
        seen = pool.submit(probe, context, timeout_s)
        done = first()
        return done, seen.result()


def silence(before: str, after: str, dropped: int) -> tuple[Check, ...]:
    """The check that the responder's own forbidden probe is dropped.

    If the host did not answer it before either, silence proves nothing: then the kernel's counter must have moved.
    """
    checks = [Check("forbidden probe from the responder is silent", after == "silent", before, after)]
    if before == "silent":
        counted = f"{dropped} dropped"
        checks.append(Check("the kernel counted dropped packets", dropped > 0, "silent before too", counted))
    return tuple(checks)


def change(data: dict[str, Json], host: str) -> Change:
    """The one Change of an isolation."""
    ways = ", ".join(data["management"])
    return Change(f"cut {host} off the network for {data['lease']} s, leaving SSH from {ways}", data)
