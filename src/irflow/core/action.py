"""The contract of an action, and the registry. A new action is one file in actions/ or an entry point."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from irflow.core.errors import ConfigurationError
from irflow.core.model import Json

if TYPE_CHECKING:
    from irflow.core.incident import Incident
    from irflow.core.inventory import Host
    from irflow.core.plan import PlanStep
    from irflow.core.ports import Ports
    from irflow.core.status import IncidentStatus


class Params(BaseModel):
    """Base of every action's parameters: frozen, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Change:
    """One thing that apply will do. summary: for people. data: for apply and undo; JSON, never a secret."""

    summary: str
    data: dict[str, Json]

    def to_data(self) -> dict[str, Json]:
        """As it stands in the intent event."""
        return {"summary": self.summary, "data": self.data}

    @classmethod
    def from_data(cls, data: dict[str, Json]) -> Change:
        """Back from the intent event."""
        return cls(data["summary"], data["data"])


@dataclass(frozen=True)
class Check:
    """One observation from outside that proves or disproves an effect."""

    name: str
    passed: bool
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Proof:
    """What verify found. facts: JSON for the journal, the documents and later phases' expressions (`results`).

    leases: `{kind, until, seconds}` now in force on the target. ended_leases: kinds that ended. note: what a person
    should know although every check passed, in a few words.
    """

    checks: tuple[Check, ...]
    facts: dict[str, Json]
    leases: tuple[dict[str, Json], ...] = ()
    ended_leases: tuple[str, ...] = ()
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that did not pass."""
        return tuple(check.name for check in self.checks if not check.passed)


@dataclass(frozen=True)
class Context:
    """All that an action may use. host: the target, None when the action has none. epoch: goes into every `--epoch`."""

    incident: Incident
    status: IncidentStatus
    step: PlanStep
    host: Host | None
    epoch: int
    actor: str
    deadline: float
    ports: Ports

    def left(self) -> float:
        """Seconds until the step's wall-clock deadline (monotonic), at least 0.05."""
        return max(0.05, self.deadline - self.ports.clock.monotonic())

    def the_host(self) -> Host:
        """The target; planning guarantees that actions with a target have one."""
        if self.host is None:
            raise ConfigurationError(f"step {self.step.key} has no host", hint="Give the step `with: {host: ...}`")
        return self.host


class Action(Generic[P]):
    """One capability. observe reads only, plan is pure, apply is the only writer, verify proves from outside.

    name: `noun.verb`; the file is the name with `_` for `.`. touches_host: takes `host`, an inventory name.
    mutates: changes something outside irflow, so trust, caps and approvals apply.
    needs_person: always needs a person's yes. lease: kind of lease it grants, if any.
    reversible: False with `irreversible_because` where undo cannot exist.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[Any]]
    touches_host: ClassVar[bool] = True
    mutates: ClassVar[bool] = True
    needs_person: ClassVar[bool] = False
    lease: ClassVar[str | None] = None
    reversible: ClassVar[bool] = True
    irreversible_because: ClassVar[str] = ""

    def observe(self, params: P, context: Context) -> dict[str, Json]:
        """Read the target. Returns JSON facts, kept in the intent event as `seen`."""
        raise NotImplementedError

    def plan(self, params: P, seen: dict[str, Json]) -> tuple[Change, ...]:
        """Decide what to change; nothing when the target already is as wanted. Pure."""
        raise NotImplementedError

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Make one change. Never retried blindly: after an error the engine observes again."""
        raise NotImplementedError

    def verify(self, params: P, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context) -> Proof:
        """Prove the effect from outside. Also called when nothing had to change (`applied` is empty)."""
        raise NotImplementedError

    def undo(self, change: Change, context: Context) -> Proof:
        """Take one change back and prove it; safe even if apply never happened."""
        raise NotImplementedError

    def renew(self, params: P, context: Context) -> Proof:
        """Prolong the lease; cut again where the target drifted (facts say `drift`). Only for actions with a lease."""
        raise NotImplementedError


class Registry:
    """All actions by name."""

    def __init__(self, actions: Iterable[Action[Any]]) -> None:
        self._by_name: dict[str, Action[Any]] = {}
        for action in actions:
            if action.name in self._by_name:
                raise ConfigurationError(
                    f"two actions are called {action.name}",
                    where=f"{type(self._by_name[action.name]).__module__} and {type(action).__module__}",
                    hint="Remove one of the packages",
                )
            self._by_name[action.name] = action

    def get(self, name: str) -> Action[Any]:
        """The action of this name. Raises ConfigurationError naming those that exist."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ConfigurationError(
                f"no action {name!r}", hint=f"There are {', '.join(sorted(self._by_name))}"
            ) from None

    def all(self) -> tuple[Action[Any], ...]:
        """All actions."""
        return tuple(self._by_name.values())

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._by_name))
