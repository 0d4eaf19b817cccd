"""The staged attack `compromised-host`: a stolen account, a live session, a beacon without a file, changed files."""

from __future__ import annotations

from irflow.lab import loopback
from irflow.lab.beacon import Beacon
from irflow.lab.intruder import Intruder, works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.vantage import ssh_argv

_TAMPER = """\
umask 022
printf '#!/bin/sh\\n# left by the intruder: starts the implant again\\nexec %s\\n' "$3" >"$2"
chmod 755 "$2"
printf '* * * * *\\troot\\t%s\\n' "$2" >>"$1"
"""


class StagedAttack(Intruder):
    """An attack under way on one host. Made by `stage`; `stop` ends the attacker's side of it."""

    beacon: Beacon

    def __init__(self, lab: Lab, host: LabHost) -> None:
        """Break in. Raises LabError when the session or the beacon does not come up."""
        self.host = host
        self._loopback = lab.level is Level.LOOPBACK
        root = str(loopback.folder(lab.layout, host.name)) if self._loopback else ""
        self._crontab, self._added = f"{root}/etc/crontab", f"{root}/usr/local/bin/syshealth"
        self._original: bytes | None = None
        self.beacon_pid = 0
        super().__init__(lab)

    def _break_in(self) -> None:
        self.session = self._session(self.host)
        self.beacon = self._beacon(self.host, self.session)
        self.beacon_pid = self.beacon.pid
        self._tamper()

    @property
    def implant(self) -> str:
        """Where the beacon's program was before it was deleted."""
        return self.beacon.path

    @property
    def tampered_paths(self) -> tuple[str, ...]:
        """Files on the host that the attacker changed or added."""
        return (self._crontab, self._added)

    def session_alive(self, timeout_s: float = 2.0) -> bool:
        """Whether what the attacker types into the open session is answered within timeout_s seconds."""
        return self.session.echoes(timeout_s)

    def last_beacon_at(self) -> float | None:
        """When the last beacon arrived (time.monotonic, seconds), or None."""
        return self.beacon.last()

    def beacon_seen_since(self, moment: float, timeout_s: float = 0.0) -> bool:
        """Whether a beacon arrived after `moment` (time.monotonic); waits up to timeout_s seconds for one."""
        return self.beacon.seen_since(moment, timeout_s)

    def can_connect(self, timeout_s: float = 3.0) -> bool:
        """Whether the attacker can log in anew within timeout_s seconds."""
        login = ssh_argv(self.lab, self.host, "attacker", connect_s=max(1, int(timeout_s)))
        return works(self.lab, login, timeout_s)

    def clean(self) -> None:
        """Take everything of the attacker off the host: processes, files, the stolen key. The operator's fix.

        Twice is fine. Raises LabError.
        """
        if self._loopback:
            self._end_beacon()
            keys = loopback.folder(self.lab.layout, self.host.name) / "authorized_keys"
            keys.write_text((self.lab.layout.keys / "responder.pub").read_text())
        else:
            self._end_processes(self.host, "mallory")
            self._on_host(self.host, "rm -f /home/mallory/.ssh/authorized_keys")
        self._on_host(self.host, 'rm -f "$1"', self._added)
        if self._original is not None:
            self._on_host(self.host, 'cat >"$1"', self._crontab, stdin=self._original)

    def stop(self) -> None:
        """End the attacker's side: the session's client and the listener. Twice is fine."""
        super().stop()
        if self._loopback and self.beacon_pid:
            self._end_beacon()

    def _end_beacon(self) -> None:
        self._on_host(self.host, "kill -KILL $1 2>/dev/null || :", str(self.beacon_pid))

    def _tamper(self) -> None:
        """Change files as root would: the privilege that the intruder gained before the alert came."""
        if self._loopback:
            self._on_host(self.host, 'mkdir -p "${1%/*}" "${2%/*}"; : >"$1"', self._crontab, self._added)
        self._original = self._on_host(self.host, 'cat "$1"', self._crontab)
        self._on_host(self.host, _TAMPER, self._crontab, self._added, self.implant)


def stage(lab: Lab, host: LabHost) -> StagedAttack:
    """Break into a host as mallory: session open, beacon calling, files changed. Raises LabError."""
    return StagedAttack(lab, host)
