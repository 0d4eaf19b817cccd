"""Telling people again of what waits for them: its role first, then the next one too. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from irflow.core.clocks import window_of
from irflow.core.planner import COMMANDER
from irflow.core.questions import TECHNICAL_LEAD, Question, questions
from irflow.core.status import IncidentStatus

SHARES = (("25", 0.25), ("50", 0.5))
"""Shares of the window after which people are told again; at the second, those of the next role too."""

NEXT_ROLE = {COMMANDER: TECHNICAL_LEAD}
"""To whom an unanswered question goes: the commander's deputy is the technical lead; everybody else's is the commander.

The next role is told, so that somebody finds the person; whose answer counts stays as the plan says.
"""


@dataclass(frozen=True)
class Reminder:
    """One question to tell people of again. share: percent of its window that is over. roles: who is told."""

    asked: Question
    share: str
    roles: tuple[str, ...]
    window: timedelta

    @property
    def escalates(self) -> bool:
        """Whether others than those who were asked hear of it now."""
        return self.share != SHARES[0][0]


def due_reminders(status: IncidentStatus, now: datetime) -> tuple[Reminder, ...]:
    """What people must be told of now. After a pause of irflow only the latest: nobody reads two at once."""
    found = []
    for asked in questions(status):
        window = window_of(asked.phase)
        passed = [share for share, part in SHARES if now >= asked.asked_at + window * part]
        if passed and not any((asked.id, share) in status.reminded for share in SHARES_FROM[passed[-1]]):
            found.append(Reminder(asked, passed[-1], _roles(asked, passed[-1]), window))
    return tuple(found)


SHARES_FROM = {name: tuple(one for one, _ in SHARES[number:]) for number, (name, _) in enumerate(SHARES)}
"""Each share with those after it: who was told of a later one need not hear of an earlier one."""


def _roles(asked: Question, share: str) -> tuple[str, ...]:
    if share == SHARES[0][0]:
        return asked.roles
    return tuple(dict.fromkeys((*asked.roles, *(NEXT_ROLE.get(role, COMMANDER) for role in asked.roles))))
