"""What commands about incidents share: naming one, naming oneself, deciding something about it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from irflow.cli.output import configuration, nobody_works

if TYPE_CHECKING:
    from irflow.core.approvals import Operator
    from irflow.core.incident import Incident
    from irflow.core.ports import Store, Transaction

T = TypeVar("T")
METHOD = "os-account"
"""How people prove who they are here: by their account on this machine."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="INCIDENT", help="Number (IR-2026-0001) or ULID.")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Operator, where the account has several.")]


def find(store: Store, text: str) -> Incident:
    """The incident of this number or ULID. Raises UsageError."""
    from irflow.core.errors import UsageError

    found = store.find_incident(text)
    if found is None:
        raise UsageError(f"no incident {text}", hint="List them: irflow incidents list")
    return found


def operator_of(operators: tuple[Operator, ...], name: str | None) -> Operator:
    """Who is at the keyboard, by the operating system's account. Raises Refused."""
    from irflow.core.approvals import authenticate

    return authenticate(operators, pwd.getpwuid(os.getuid()).pw_name, name)


def act(
    incident: str, who: str | None, work: Callable[[Transaction, Incident, Operator], T], *, works: bool = True
) -> T:
    """One decision on an incident in one transaction, then wake the responder. works: it has something to do now."""
    from irflow.adapters.wake import wake
    from irflow.wiring import open_store

    config = configuration()
    operator = operator_of(config.operators, who)
    with open_store(config.settings) as store:
        found = find(store, incident)
        result = store.transact(lambda tx: work(tx, found, operator))
    wake(config.settings.responder_socket)
    if works:
        nobody_works(config)
    return result
