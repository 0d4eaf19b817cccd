"""Runs inside a stand-in account: makes a lab of the best level there, attacks it, and prints what held as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from irflow.lab import attack, ladder, sweep, vantage
from irflow.lab.lab import Lab

_CUT = b"table inet cut { chain i { type filter hook input priority -310; policy drop; }; }"


def main(run_dir: Path) -> None:
    """Print the facts that the test asserts."""
    found = ladder.rungs()
    facts: dict[str, object] = {"explained": ladder.explain(found)}
    with Lab.up(2, run_dir) as lab:
        host = lab.hosts[0]
        facts["level"] = lab.level.value
        facts["login"] = _login(lab, lab.responder_user, "id -un; hostname")
        if lab.level.proves_packets:
            facts["sudo"] = _login(lab, "ir", "sudo -n id -u")
            facts["diff"] = lab.diff(host)
        with attack.stage(lab, host) as intruder:
            facts["before"] = [intruder.session_alive(), intruder.can_connect(), vantage.look(lab, host).v4]
            if lab.level.proves_packets:
                lab.exec(host, ["nft", "-f", "-"], stdin=_CUT)
                facts["cut"] = [intruder.session_alive(0.5), intruder.can_connect(1.0), vantage.look(lab, host).v4]
                lab.exec(host, ["nft", "delete", "table", "inet", "cut"])
            intruder.clean()
            cleaned = time.monotonic()
            facts["after"] = [intruder.can_connect(), intruder.beacon_seen_since(cleaned + 0.1, 0.6)]
    facts["left"] = [*sweep.processes(lab.layout), *map(str, sweep.mounts(lab.layout)), run_dir.exists()]
    sys.stdout.write(json.dumps(facts))


def _login(lab: Lab, user: str, remote: str) -> str:
    argv = [*vantage.ssh_argv(lab, lab.hosts[0], "responder", user=user), remote]
    return lab.run_from("responder", argv).stdout.decode().strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
