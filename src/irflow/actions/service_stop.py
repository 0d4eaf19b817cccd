"""`service.stop`: stop services on a host and keep them from starting; undo brings back exactly what was."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, ClassVar

from pydantic import Field, field_validator

from irflow.actions._remote import call, fields
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import HostError, Refused
from irflow.core.model import Json

SCRIPT = "service.sh"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,127}")
_CALL_S = 90.0
"""Several services, each with 15 s to stop by itself (service.sh) and some more to be killed."""
_KNOCK_S = 0.3
_PORTS = 4
"""So many ports of one service are knocked on."""
_BACK_S = 10.0
"""How long a started service may take until its ports answer."""
_WAY_IN = "the responder's own way in needs it"
_FIREWALL = "what is blocked or cut off on the host would be open again"
_NEVER = {
    **dict.fromkeys(("ssh", "sshd", "dropbear"), _WAY_IN),
    **dict.fromkeys(("network", "networking", "NetworkManager", "systemd-networkd", "dhcpcd", "ifup"), _WAY_IN),
    **dict.fromkeys(("dbus", "dbus-broker", "systemd-logind"), _WAY_IN),
    **dict.fromkeys(("nftables", "iptables", "ip6tables", "firewalld", "ufw", "netfilter-persistent"), _FIREWALL),
}
"""Names of services that are never stopped, and why; the host itself refuses whatever else carries the session."""


@dataclass(frozen=True)
class Service:
    """A service as service.sh found it. kind: systemd, init, or none when the host has no such service.

    unit: what it is really called. boot: as the service manager says (enabled, disabled, static, masked ...).
    off: nothing starts it. carries: the responder's session runs through it. triggers: sockets and timers that are
    active and would start it. mask: units of it that can still be started. falls: active units that stop with it.
    mode: of the init script. ports: TCP ports on which other hosts reach it.
    """

    name: str
    kind: str
    unit: str = ""
    running: bool = False
    boot: str = ""
    off: bool = False
    carries: bool = False
    triggers: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    falls: tuple[str, ...] = ()
    mode: str = ""
    ports: tuple[int, ...] = ()

    @classmethod
    def read(cls, block: str) -> Service:
        """From a block of service.sh status, the name in its first line."""
        name, _, rest = block.partition("\n")
        raw = fields(rest)

        def names(key: str) -> tuple[str, ...]:
            return tuple(one for one in raw.get(key, "").split(",") if one)

        return cls(
            name, raw.get("kind", "none"), raw.get("unit", ""), raw.get("running") == "yes", raw.get("boot", ""),
            raw.get("off") == "yes", raw.get("carries") == "yes", names("triggers"), names("mask"), names("falls"),
            raw.get("mode", ""), tuple(int(one) for one in names("ports"))[:_PORTS],
        )  # fmt: skip

    def to_facts(self) -> dict[str, Json]:
        """As JSON for the journal."""
        return {key: list(one) if isinstance(one, tuple) else one for key, one in asdict(self).items()}

    @property
    def state(self) -> str:
        """For people: `running, enabled`."""
        return f"{'running' if self.running else 'stopped'}, {'kept off' if self.off else self.boot or 'no boot state'}"


def _never(name: str) -> str:
    """Why a service is never stopped; empty for one that may be. Suffixes and instances do not hide it."""
    base = re.sub(r"\.(service|socket|timer|path)$", "", name).partition("@")[0]
    return _NEVER.get(base, "")


class StopParams(Params):
    """host: inventory name. services: as `systemctl` or `service` takes them, `nginx` or `nginx.service`.

    disable: also keep them from starting, at boot, by a socket, a timer or another service, until taken back.
    """

    host: str
    services: tuple[str, ...] = Field(min_length=1, max_length=50)
    disable: bool = True

    @field_validator("services")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _NAME.fullmatch(name) or ".." in name:
                raise ValueError(f"{name[:100]!r} is not the name of a service that can be sent to a host")
            if why := _never(name):
                raise ValueError(f"{name} is never stopped: {why}")
        return tuple(dict.fromkeys(value))


class ServiceStop(Action[StopParams]):
    """Stop services, with systemd or by their init scripts, and keep them from starting.

    Proved from the responder: ports that answered before do not any more. Undo starts what ran and takes away what
    kept it from starting; what was enabled stays enabled all the time, and what was stopped stays stopped.
    """

    name: ClassVar[str] = "service.stop"
    summary: ClassVar[str] = "Stop services on a host and keep them from starting"
    Params: ClassVar[type[Any]] = StopParams

    def observe(self, params: StopParams, context: Context) -> dict[str, Json]:
        """What each service is, and how its ports answer. Raises Refused, or HostError for one that is not there."""
        found = _look(context, params.services)
        missing = [one.name for one in found if one.kind == "none"]
        if missing:
            raise HostError(
                f"there is no service {', '.join(missing)}", where=context.the_host().name,
                hint="Look at systemctl list-units --all, or /etc/init.d, on the host",
            )  # fmt: skip
        for one in found:
            why = _never(one.unit) or next(filter(None, map(_never, one.falls)), "")
            if one.carries or why:
                raise Refused(
                    f"{one.name} ({one.unit}) is never stopped: {why or _WAY_IN}", where=context.the_host().name,
                    hint="Leave it out; to cut the host off there is host.isolate",
                )  # fmt: skip
        earlier = [Change.from_data(one).data for one in context.status.step(context.step.key).intended]
        return {
            "services": [{**one.to_facts(), "answers": _knock(context, one.ports)} for one in found],
            "before": {one["name"]: one["before"] for one in reversed(earlier)},
            "id": sha256(f"{context.incident.id} {context.step.key}".encode()).hexdigest()[:12],
        }

    def plan(self, params: StopParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for each service that runs or, with `disable`, could be started; none for the others."""
        changes = []
        for one in seen["services"]:
            mask = one["mask"] if params.disable else []
            stop = [*(one["triggers"] if params.disable else ()), *([one["unit"]] if one["running"] else ())]
            if not stop and not mask:
                continue
            falls = one["falls"] if one["running"] else []
            # What an earlier try of this step found counts: it may have ended halfway.
            before = {key: one[key] for key in ("running", "boot", "mode", "answers")}
            before |= {"mask": mask, "start": [*stop, *falls]}
            if earlier := seen["before"].get(one["name"]):
                both = {key: list(dict.fromkeys([*earlier[key], *before[key]])) for key in ("mask", "start")}
                before = {**earlier, **both}
            deeds = [*(["stop"] if stop else []), *(["keep from starting"] if mask else [])]
            with_it = f" (with it {', '.join(falls)})" if falls else ""
            data = {"name": one["name"], "kind": one["kind"], "id": seen["id"], "stop": stop, "mask": mask}
            changes.append(
                Change(f"{' and '.join(deeds)} {one['name']} on {params.host}{with_it}", {**data, "before": before})
            )
        return tuple(changes)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Stop one service, and what would start it."""
        data = change.data
        _mutate(context, "stop", data, _list("--mask", data["mask"]), _list("--stop", data["stop"]))
        return {"name": data["name"], "stop": data["stop"], "mask": data["mask"]}

    def verify(
        self, params: StopParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Look over a new connection, and knock on the ports that answered before."""
        found = {one.name: one for one in _look(context, params.services, fresh=True)}
        checks = []
        for one in seen["services"]:
            now, was = found[one["name"]], f"{'running' if one['running'] else 'stopped'}, {one['boot']}"
            checks.append(Check(f"{now.name} is stopped", not now.running, was, now.state))
            if params.disable:
                checks.append(Check(f"nothing starts {now.name}", now.off and not now.triggers, was, now.state))
            answered = {int(port): answer for port, answer in one["answers"].items() if answer == "open"}
            for port, answer in _knock(context, tuple(answered)).items():
                name = f"port {port} of {now.name} does not answer the responder"
                checks.append(Check(name, answer != "open", "open", answer))
        facts: dict[str, Json] = {"services": {one.name: one.state for one in found.values()}}
        return Proof(tuple(checks), facts)

    def undo(self, change: Change, context: Context) -> Proof:
        """Take away what keeps it from starting, start what ran, and wait until its ports answer as before."""
        data, before = change.data, change.data["before"]
        mode = ("--mode", before["mode"]) if before["mode"] else ()
        _mutate(context, "start", data, _list("--unmask", before["mask"]), mode, _list("--start", before["start"]))
        (now,) = _look(context, (data["name"],), fresh=True)
        checks = []
        if before["running"]:
            checks.append(Check(f"{now.name} runs again", now.running, "stopped", now.state))
            checks += _answer_again(now.name, before["answers"], context)
        if before["mask"]:
            as_before = not now.off and now.boot == before["boot"]
            name = f"{now.name} starts as before ({before['boot'] or 'never by itself'})"
            checks.append(Check(name, as_before, "kept off", now.state))
        return Proof(tuple(checks), {"services": {now.name: now.state}})


def _answer_again(name: str, before: dict[str, str], context: Context) -> list[Check]:
    """The ports that answered before it was stopped; a service may need a moment for them."""
    clock, pause = context.ports.clock, threading.Event()
    wanted = tuple(int(port) for port, answer in before.items() if answer == "open")
    deadline = clock.monotonic() + min(_BACK_S, context.left())
    answers = _knock(context, wanted)
    while "refused" in answers.values() and clock.monotonic() < deadline:
        pause.wait(0.1)
        answers = _knock(context, wanted)
    # Silence is a block or an isolation that is still in force: it says nothing about the service.
    return [
        Check(f"port {port} of {name} answers the responder again", answer == "open", "refused", answer)
        for port, answer in answers.items()
        if answer != "silent"
    ]


def _knock(context: Context, ports: tuple[int, ...]) -> dict[str, str]:
    """How ports answer the responder, by their number."""
    host, prober = context.the_host(), context.ports.prober
    return {str(port): prober.tcp(host, port, timeout_s=_KNOCK_S) for port in ports}


def _list(option: str, names: list[str]) -> tuple[str, ...]:
    return (option, ",".join(names)) if names else ()


def _look(context: Context, services: tuple[str, ...], *, fresh: bool = False) -> tuple[Service, ...]:
    """Read the services, in the order asked for."""
    said = call(context, SCRIPT, ["status", "--services", ",".join(services)], fresh=fresh).text
    return tuple(Service.read(block) for block in re.split(r"^service=", said, flags=re.MULTILINE)[1:])


def _mutate(context: Context, verb: str, data: dict[str, Json], *args: tuple[str, ...]) -> None:
    """Call a verb that changes the host, with the epoch that makes late callers harmless."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    everything = [verb, "--epoch", str(context.epoch), "--step", step, "--id", data["id"], "--kind", data["kind"]]
    call(context, SCRIPT, [*everything, *(one for part in args for one in part)], timeout_s=_CALL_S)
