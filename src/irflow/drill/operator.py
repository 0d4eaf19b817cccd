"""The drill's scripted operators: they answer what waits with the real commands, as people would."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping

from irflow.core.errors import CheckFailed
from irflow.core.plan import PlanStep
from irflow.core.playbook import Phase
from irflow.core.ports import Store
from irflow.core.status import IncidentStatus, fold
from irflow.drill.installation import Installation
from irflow.supervisor.child import die_with_parent

COMMAND_TIMEOUT_S = 60.0
COMMAND_PER_HOST_S = 6.0
"""More patience for each host: each has something to say."""


class ScriptedOperators:
    """Two people with different roles. before_answer: what has to be done on the hosts before a manual step is
    answered, by step id (for instance removing what the attacker left). command_s: what one command may take."""

    def __init__(
        self,
        installation: Installation,
        store: Store,
        incident: str,
        number: str,
        before_answer: Mapping[str, Callable[[], None]],
        command_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self._installation, self._store = installation, store
        self._incident, self._number = incident, number
        self._before_answer, self._command_s = before_answer, command_s
        self._answered: set[tuple[str, int]] = set()
        self._released: set[tuple[str, str]] = set()
        self.commands: list[str] = []

    def serve(
        self,
        within_s: float,
        *,
        until: Callable[[IncidentStatus], bool] = lambda status: not status.open,
        phases: Collection[str] = tuple(Phase),
    ) -> IncidentStatus:
        """Answer what waits in these phases until something is so; by default until the incident is closed.

        Raises CheckFailed when that takes longer than within_s seconds, or cannot come.
        """
        deadline = time.monotonic() + within_s
        pause = threading.Event()
        while True:
            status = fold(self._store.events(self._incident))
            if until(status) or not status.open:
                return status
            stuck = [phase for phase in status.phases.values() if phase.blocked and phase.escalated]
            if stuck and not status.waiting():
                raise CheckFailed(f"{self._number} is stuck in {stuck[0].phase} and was escalated")
            if time.monotonic() > deadline:
                waiting = ", ".join(one.key for one in status.waiting()) or "nothing"
                raise CheckFailed(
                    f"{self._number} got no further within {within_s:.0f} s; waiting: {waiting}",
                    hint=f"Look: irflow --home {self._installation.home} incidents show {self._number}",
                )
            self._answer(status, phases)
            pause.wait(0.05)

    def _answer(self, status: IncidentStatus, phases: Collection[str]) -> None:
        for known in status.waiting():
            step = status.plan_step(known.key)
            phase = status.phases[step.key.partition("/")[0]]
            if phase.phase not in phases:
                continue
            again = (step.key if step.manual else phase.phase, phase.plan.revision if phase.plan else 0)
            if again in self._answered:
                continue
            self._answered.add(again)
            self._say(step, phase.phase)
        if {name for name, one in status.phases.items() if one.ended_at is not None} >= set(Phase):
            self._release(status)

    def _release(self, status: IncidentStatus) -> None:
        """What no runbook took back, people do when the work is over: an incident ends with nothing in force."""
        for kind, target in status.leases:
            if (kind, target) not in self._released:
                self._released.add((kind, target))
                name = self._installation.operators[0]
                self._run(
                    "leases", "release", self._number, target, kind, "--yes", "--reason", "drill", "--as", name
                )  # fmt: skip

    def _say(self, step: PlanStep, phase: str) -> None:
        name = self._installation.operators[1 if step.role == "communications" else 0]
        if step.manual is None:
            for who in self._installation.operators[: step.people]:
                self._run("approve", self._number, "--phase", phase, "--as", who, "--reason", "drill")
            return
        self._before_answer.get(step.step, lambda: None)()
        self._run("step", self._number, step.key, "--as", name, "--note", "drill")

    def _run(self, *arguments: str) -> None:
        self.commands.append(shlex.join(("irflow", *arguments)))
        run_command(self._installation, *arguments, within_s=self._command_s)


def run_command(installation: Installation, *arguments: str, within_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run one irflow command on the drill's installation. Raises CheckFailed with what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "irflow", "--home", str(installation.home), *arguments],
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
        preexec_fn=die_with_parent(os.getpid(), signal.SIGTERM),  # a killed drill's command writes nothing more
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise CheckFailed(f"irflow {' '.join(arguments)} ended with {done.returncode}: {said}")
    return done.stdout
