"""A process that backs up paths of a lab host, to be killed in the middle.

Run as `python -m tests.services.backup_process LAB HOME HOST PATH...`: LAB is the folder that the lab runs in.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from irflow.actions.backup_emergency import BackupEmergency
from irflow.adapters.catalog import load_settings
from irflow.lab.lab import Lab
from irflow.wiring import backup_repository
from tests.integration.lab_actions import Hands

ROOT = Path(__file__).resolve().parents[2]


def hands_with_backups(lab: Lab, home: Path) -> Hands:
    """Hands whose backups go where irflow.yaml under home says."""
    made = Hands(lab, home)
    made.ports = replace(made.ports, backups=backup_repository(load_settings(home)))
    return made


def start(lab: Lab, home: Path, host: str, *paths: str) -> subprocess.Popen[bytes]:
    """The process, at work."""
    argv = [sys.executable, "-m", "tests.services.backup_process", str(lab.layout.run_dir), str(home), host, *paths]
    return subprocess.Popen(argv, cwd=ROOT)


def main(lab: str, home: str, host: str, *paths: str) -> int:
    """Back up. 0 when it was proved."""
    hands = hands_with_backups(Lab.load(Path(lab)), Path(home))
    try:
        _, proof = hands.run(BackupEmergency(), host, paths=list(paths))
    finally:
        hands.close()
    return 0 if proof.passed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
