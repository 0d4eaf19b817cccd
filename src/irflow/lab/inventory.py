"""The lab as inventory entries and as a status report: what the CLI and the drill ask of it."""

from __future__ import annotations

from pathlib import Path

from irflow.core.inventory import Host
from irflow.lab import state, sweep
from irflow.lab.lab import Lab
from irflow.lab.layout import Layout


def entries(lab: Lab, *, user: str | None = None) -> tuple[Host, ...]:
    """One inventory host per lab host, reached from the responder's network with the responder's key.

    user: None takes root (or the loopback account); `ir` logs in without root and uses sudo.
    """
    account = user or lab.responder_user
    namespace = lab.netns("responder")
    return tuple(
        Host(
            name=host.name,
            address=host.address,
            port=host.port,
            user=account,
            sudo=account == "ir",
            key=f"file:{lab.responder_key}",
            host_keys=(host.host_key,),
            groups=("web",),
            aliases=tuple(one for one in (host.address, host.address6) if one),
            netns=None if namespace is None else str(namespace),
            management=lab.management_addresses,
            owner=lab.state.name,
        )
        for host in lab.hosts
    )


def status(run_dir: Path) -> dict[str, object]:
    """What runs in run_dir, as plain JSON values: id, name, level, ready, and each host with `alive`.

    Raises LabError when there is no lab.
    """
    found = state.read(Layout(run_dir.absolute()))
    hosts = [
        {"name": host.name, "address": host.address, "port": host.port, "alive": sweep.alive(host.pid, host.started)}
        for host in found.hosts
    ]
    return {"id": found.id, "name": found.name, "level": found.level.value, "ready": found.ready, "hosts": hosts}
