"""Restarting a lab host: its disk stays, everything that ran or was only in its kernel is gone."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

from irflow.lab import real, state
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.sweep import alive


def reboot(lab: Lab, host: LabHost) -> Lab:
    """Restart the lab's first host, as its power button would. Returns the lab as it is then."""
    assert host.index == 0, "only the first host can be started again by itself"
    os.kill(host.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while alive(host.pid, host.started):
        assert time.monotonic() < deadline, "the host does not end"
        time.sleep(0.01)
    (again,) = real._spawn(lab.layout, [host.name], [host.host_key])
    for vantage in ("responder", "attacker"):  # the card is a new one, with another hardware address
        for family in ("-4", "-6"):
            lab.run_from(vantage, ["ip", family, "neigh", "flush", "all"])
    real._wait_ready(lab.layout, [again])
    done = replace(lab.state, hosts=tuple(again if one.name == host.name else one for one in lab.hosts))
    state.write(lab.layout, done)
    return Lab(lab.layout, done)
