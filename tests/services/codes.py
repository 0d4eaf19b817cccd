"""The phones of operators in tests: one-time codes that irflow has not taken yet."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyotp

STEP_S = 30


@dataclass
class Phones:
    """Keys by operator. used: the last time step whose code was given away; codes are good one step early or late."""

    keys: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def enrol(self, name: str, folder: Path) -> str:
        """Make a key for an operator, as irflow would. Returns its reference."""
        key = self.keys[name] = pyotp.random_base32()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{name}.totp"
        path.touch(mode=0o600)
        path.write_text(key + "\n")
        return f"file:{path}"

    def for_all(self, home: Path) -> None:
        """A phone for every operator of an installation."""
        people = json.loads((home / "operators.yaml").read_text())
        for name, one in people["operators"].items():
            one["totp"] = self.enrol(name, home / "keys")
        (home / "operators.yaml").write_text(json.dumps(people))

    def code(self, name: str) -> str:
        """A code that was not given away before and is good for half a minute more; waits where there is none yet."""
        while True:
            now = int(time.time()) // STEP_S
            step = max(self.used.get(name, 0) + 1, now)
            if step <= now + 1:
                self.used[name] = step
                return pyotp.TOTP(self.keys[name]).at(step * STEP_S)
            time.sleep(0.2)  # for the clock there is no event

    def wrong(self, name: str) -> str:
        """Six digits that are no code of this operator around now."""
        now = int(time.time())
        good = {pyotp.TOTP(self.keys[name]).at(now + STEP_S * step) for step in range(-4, 8)}
        return next(code for code in (f"{number:06}" for number in range(100)) if code not in good)


def two_must_agree(home: Path, host: str) -> None:
    """Mark a host of an installation as one that irflow itself runs on."""
    inventory = json.loads((home / "inventory.yaml").read_text())
    inventory["hosts"][host]["own"] = True
    (home / "inventory.yaml").write_text(json.dumps(inventory))
