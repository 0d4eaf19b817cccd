"""Operators of a real installation, with the codes that their phones would show."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyotp

from irflow.core.incident import SYSTEM
from irflow.core.journal import Event
from irflow.core.secret import SecretRef
from irflow.wiring import load, open_store
from irflow.wiring.secrets import secret_store
from tests.cli.conftest import Done, run


@dataclass(frozen=True)
class People:
    """environment: what their processes have besides, such as the journal's place."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def irflow(self, *arguments: str) -> Done:
        """A command as people type it, within the test's process."""
        return run(self.home, *arguments)

    def start(self, *arguments: str, fault: str = "") -> subprocess.Popen[str]:
        """The same in a process of its own."""
        environment = {**os.environ, **self.environment, "IRFLOW_FAULT": fault}
        return subprocess.Popen(
            [sys.executable, "-m", "irflow", "--home", str(self.home), *arguments],
            env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def processed(self, *arguments: str, fault: str = "") -> Done:
        """Started, and waited for."""
        with self.start(*arguments, fault=fault) as process:
            out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)

    def add(self, name: str, *arguments: str) -> Done:
        """Added by whoever may."""
        done = self.irflow("operators", "add", name, *arguments)
        assert done.code == 0, done.err
        return done

    def key(self, name: str) -> str:
        """The key on somebody's phone."""
        config = load(self.home)
        (reference,) = [one.totp for one in config.operators if one.name == name]
        return secret_store(config.settings).resolve(SecretRef.parse(reference)).reveal().decode()

    def code(self, name: str, later: int = 0) -> str:
        """What the phone shows. later: so many time steps from now."""
        return str(pyotp.TOTP(self.key(name)).at(int(time.time()), counter_offset=later))

    def wrong(self, name: str) -> str:
        """A code that is good at no moment near now."""
        totp, now = pyotp.TOTP(self.key(name)), int(time.time())
        near = {totp.at(now, counter_offset=offset) for offset in range(-5, 6)}
        return next(code for code in (f"{number:06}" for number in range(20)) if code not in near)

    def system(self, *kinds: str) -> list[Event]:
        """The journal of `system`, events of some kinds."""
        with open_store(load(self.home).settings) as store:
            return [one for one in store.events(SYSTEM) if not kinds or one.kind in kinds]
