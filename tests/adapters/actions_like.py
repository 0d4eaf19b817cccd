"""Actions with the real ones' names and parameters that do nothing: enough to check a catalogue against."""

from __future__ import annotations

from typing import Any, ClassVar

from irflow.core.action import Action, Params, Registry


class OnHost(Params):
    host: str


class Isolate(OnHost):
    lease: float
    allow: tuple[str, ...] = ()


class Collect(OnHost):
    profile: str


class Notify(Params):
    title: str
    body: str
    roles: tuple[str, ...] = ()


class Document(Params):
    template: str


def _action(name_: str, params: type[Params], *, host: bool = True, person: bool = False) -> Action[Any]:
    class Like(Action[Any]):
        """A name and its parameters."""

        name: ClassVar[str] = name_
        summary: ClassVar[str] = name_
        Params: ClassVar[type[Any]] = params
        touches_host: ClassVar[bool] = host
        needs_person: ClassVar[bool] = person

    return Like()


def registry() -> Registry:
    """All names that the shipped runbooks use."""
    return Registry([
        _action("host.facts", OnHost), _action("host.isolate", Isolate), _action("host.release", OnHost, person=True),
        _action("evidence.collect", Collect), _action("integrity.baseline", OnHost),
        _action("integrity.check", OnHost), _action("notify.send", Notify, host=False),
        _action("document.write", Document, host=False),
    ])  # fmt: skip
