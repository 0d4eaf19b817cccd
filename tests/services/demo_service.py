"""A service as distributions ship them, for lab hosts: a daemon with a pid file, and an init script."""

from __future__ import annotations

import time

from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.vantage import tcp
from tests.services.on_host import on

PORT = 8642
# The script knows no `status`, and the daemon says what of the caller's session it has.
DAEMON = f"""#!/usr/bin/perl
use Socket qw(:DEFAULT IPPROTO_IPV6 IPV6_V6ONLY pack_sockaddr_in6);
$SIG{{TERM}} = 'IGNORE' if -e '/run/demo.stubborn';
$SIG{{PIPE}} = 'IGNORE';
socket(my $s, AF_INET6, SOCK_STREAM, 0) or die;
setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
setsockopt($s, IPPROTO_IPV6, IPV6_V6ONLY, 0);
bind($s, pack_sockaddr_in6({PORT}, Socket::inet_pton(AF_INET6, '::'))) or die $!;
listen($s, 5);
while (accept(my $c, $s)) {{ print $c 'umask ' . sprintf('%03o', umask) . ' ' . join(',', sort keys %ENV); close $c }}
""".encode()
INIT = b"""#!/bin/sh
### BEGIN INIT INFO
# Provides: demo
# Default-Start: 2 3 4 5
### END INIT INFO
case $1 in
start) /usr/local/sbin/demo & echo $! >/run/demo.pid ;;
stop) read -r pid </run/demo.pid && kill $pid ;;
*) echo "Usage: demo {start|stop}" >&2; exit 3 ;;
esac
"""


def answers(lab: Lab, host: LabHost) -> bool:
    """Whether the attacker gets through to the service, over IPv4 and IPv6; both or none."""
    seen = _seen(lab, host)
    assert len(seen) == 1
    return seen == {"open"}


def wait_for(lab: Lab, host: LabHost, *, up: bool) -> bool:
    """Whether it comes up, or goes down, within five seconds."""
    deadline = time.monotonic() + 5
    while (_seen(lab, host) == {"open"}) != up and time.monotonic() < deadline:
        time.sleep(0.02)
    return answers(lab, host) == up


def _seen(lab: Lab, host: LabHost) -> set[str]:
    return {tcp(lab.netns("attacker"), one, PORT, timeout_s=0.5) for one in (host.address, host.address6)}


def start(lab: Lab, host: LabHost) -> None:
    """Install the service `demo`, enable it, and wait until it answers."""
    on(lab, host, "cat >/usr/local/sbin/demo; chmod 755 /usr/local/sbin/demo", DAEMON)
    on(lab, host, "cat >/etc/init.d/demo; chmod 755 /etc/init.d/demo; mkdir -p /etc/rc2.d /etc/systemd/system; "
                  "ln -sf ../init.d/demo /etc/rc2.d/S03demo", INIT)  # fmt: skip
    on(lab, host, "umask 022; setsid service demo start </dev/null >/dev/null 2>&1")
    assert wait_for(lab, host, up=True)
