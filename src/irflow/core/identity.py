"""What people may do: four levels of access, one table of deeds, and the port that proves who somebody is."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from irflow.core.errors import Refused

if TYPE_CHECKING:
    from irflow.core.approvals import Operator

ROLES = ("incident_commander", "technical_lead", "communications", "legal")
"""The roles that the shipped playbooks and runbooks name. One's own may name others."""


class Access(StrEnum):
    """How much an operator may do, least first; each level includes those before it.

    monitor looks. agent also answers what its roles are asked, notes, and halts. developer also starts, approves,
    retries, undoes and closes. admin also says who the operators are.
    """

    MONITOR = "monitor"
    AGENT = "agent"
    DEVELOPER = "developer"
    ADMIN = "admin"


class Deed(StrEnum):
    """What people do; the value reads after `may not`."""

    LOOK = "look at incidents"
    ANSWER = "answer for a step"
    NOTE = "put notes on record"
    HALT = "halt the automation"
    RESUME = "lift a halt"
    APPROVE = "approve or refuse a plan"
    RUN = "start a runbook"
    OPEN = "open an incident"
    RETRY = "let failed steps run again"
    UNDO = "take steps back"
    RENEW = "prolong a lease"
    ADD_TARGETS = "add to an incident"
    CLOSE = "close an incident"
    JOIN = "join a local run"
    ENROL = "record the keys of a host"
    ADMINISTER = "say who the operators are"


# Halting is safe at any time and may be urgent, so it needs less than lifting the halt, which lets things happen.
_LEAST: dict[Deed, Access] = {
    Deed.LOOK: Access.MONITOR,
    Deed.ANSWER: Access.AGENT,
    Deed.NOTE: Access.AGENT,
    Deed.HALT: Access.AGENT,
    Deed.RESUME: Access.DEVELOPER,
    Deed.APPROVE: Access.DEVELOPER,
    Deed.RUN: Access.DEVELOPER,
    Deed.OPEN: Access.DEVELOPER,
    Deed.RETRY: Access.DEVELOPER,
    Deed.UNDO: Access.DEVELOPER,
    Deed.RENEW: Access.DEVELOPER,
    Deed.ADD_TARGETS: Access.DEVELOPER,
    Deed.CLOSE: Access.DEVELOPER,
    Deed.JOIN: Access.DEVELOPER,
    Deed.ENROL: Access.DEVELOPER,
    Deed.ADMINISTER: Access.ADMIN,
}


def allows(access: Access, deed: Deed) -> bool:
    """Whether somebody with this access may do it. Roles are asked for besides."""
    order = list(Access)
    return order.index(access) >= order.index(_LEAST[deed])


def require(operator: Operator, deed: Deed) -> None:
    """Raise Refused unless the operator's access allows the deed."""
    if not allows(operator.access, deed):
        raise Refused(
            f"{operator.name} has access {operator.access} and may not {deed}",
            hint=f"Ask an operator with access {_LEAST[deed]}; an admin changes `access` in operators.yaml",
        )


class Identities(Protocol):
    """Proves who somebody is by a one-time code. A code that was accepted is used up, everywhere."""

    def prove(self, name: str, code: str, *, for_: str = "") -> Operator:
        """The operator of this name, if the code is theirs now.

        for_: what it is proved for, as the journal tells it. Raises Refused when it is not; ConfigurationError or
        ServiceMissing when the operator's key cannot be read, which counts as no failure.
        """
        ...
