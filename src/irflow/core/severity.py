"""Severity of an incident: the risk matrix, and how fast each level must be answered."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class Severity(StrEnum):
    """How bad an incident is, most urgent first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Level(StrEnum):
    """One axis of the risk matrix."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


# Response times of the guide (DESIGN section 1): critical < 1 h, high < 4 h, medium < 24 h; low has none.
RESPONSE_TIME: dict[Severity, timedelta | None] = {
    Severity.CRITICAL: timedelta(hours=1),
    Severity.HIGH: timedelta(hours=4),
    Severity.MEDIUM: timedelta(hours=24),
    Severity.LOW: None,
}

# Channels by severity, from the guide.
CHANNELS: dict[Severity, tuple[str, ...]] = {
    Severity.CRITICAL: ("email", "sms", "dashboard"),
    Severity.HIGH: ("email", "dashboard"),
    Severity.MEDIUM: ("dashboard",),
    Severity.LOW: ("log",),
}

_RANK = {Level.LOW: 0, Level.MEDIUM: 1, Level.HIGH: 2}
_BY_SUM = (Severity.LOW, Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)


def risk(likelihood: Level, impact: Level) -> Severity:
    """Place a likelihood and an impact in the 3 x 3 risk matrix (NIST SP 800-30 r1, appendix I).

    Returns the severity: high x high is critical, the opposite corner low.
    """
    return _BY_SUM[_RANK[likelihood] + _RANK[impact]]


def worse(one: Severity, other: Severity) -> Severity:
    """The more urgent of two severities."""
    order = list(Severity)
    return one if order.index(one) <= order.index(other) else other
