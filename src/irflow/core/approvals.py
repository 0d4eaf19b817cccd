"""Who may say yes, and whether enough people have."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import field_validator

from irflow.core.errors import ConfigurationError, Refused
from irflow.core.identity import Access
from irflow.core.model import Noun
from irflow.core.plan import Approval, Plan, PlanStep
from irflow.core.secret import SecretRef


class Operator(Noun):
    """A person who may decide.

    login: the operating-system account that proves the name on this machine. access: how much the person may do at all.
    totp: reference to the key of their one-time codes; empty where there is none.
    """

    name: str
    login: str
    roles: tuple[str, ...]
    email: str = ""
    access: Access = Access.DEVELOPER
    totp: str = ""

    @field_validator("totp")
    @classmethod
    def _reference(cls, value: str) -> str:
        try:
            if value:
                SecretRef.parse(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value


def approved(step: PlanStep, plan: Plan, approvals: Iterable[Approval]) -> bool:
    """Whether enough different people with the step's role said yes to exactly this plan."""
    if step.people == 0:
        return True
    yes = {one.operator for one in approvals if one.digest == plan.digest and one.role == step.role}
    return len(yes) >= step.people


def authenticate(operators: Iterable[Operator], login: str, name: str | None) -> Operator:
    """The operator that an operating-system account stands for.

    name: needed when several operators share the account. Raises Refused when none fits.
    """
    mine = [one for one in operators if one.login == login and name in (None, one.name)]
    if len(mine) == 1:
        return mine[0]
    if not mine:
        who = f"operator {name}" if name else "an operator"
        raise Refused(
            f"the account {login} is not {who}", hint="Add the person to operators.yaml, with login and roles"
        )
    raise Refused(
        f"the account {login} stands for {', '.join(sorted(one.name for one in mine))}", hint="Say which with --as NAME"
    )


def proved_by_account(operators: Iterable[Operator], operator: Operator) -> bool:
    """Whether the account is proof enough: it stands for nobody else, or the operator has no other proof."""
    alone = all(one.name == operator.name for one in operators if one.login == operator.login)
    return alone or not operator.totp


def indistinct(operators: Iterable[Operator]) -> dict[str, tuple[str, ...]]:
    """Operators that anybody at their account can pretend to be: by login, those of several that have no codes."""
    by_login: dict[str, list[Operator]] = {}
    for one in operators:
        by_login.setdefault(one.login, []).append(one)
    return {
        login: tuple(one.name for one in several if not one.totp)
        for login, several in by_login.items()
        if len(several) > 1 and not all(one.totp for one in several)
    }


def role_for(operator: Operator, plan: Plan) -> str:
    """The role in which an operator approves a plan. Raises Refused when the operator holds none that it needs."""
    needed = {step.role for step in plan.steps if step.people and step.role and step.manual is None}
    for role in operator.roles:
        if role in needed:
            return role
    if not needed:
        raise Refused(f"the {plan.phase} plan needs no approval", hint="See it with irflow plan")
    raise Refused(f"{operator.name} holds none of the roles {', '.join(sorted(needed))}", hint="Ask one who does")
