"""What commands about incidents share: naming one, proving who one is, deciding something about it."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from irflow.cli.output import configuration, nobody_works

if TYPE_CHECKING:
    from irflow.core.approvals import Operator
    from irflow.core.incident import Incident
    from irflow.core.ports import Store, Transaction
    from irflow.wiring import Configuration

T = TypeVar("T")
OS_ACCOUNT = "os-account"
"""The method where the account on this machine proved who somebody is."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="INCIDENT", help="Number (IR-2026-0001) or ULID.")]
As = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Operator, where the account has several.")]
Code = Annotated[
    str | None, typer.Option("--code", metavar="CODE", help="One-time code of that operator; from any account.")
]


@dataclass(frozen=True)
class Person:
    """Who decides. method: how that was proved, `os-account` or `totp`."""

    operator: Operator
    method: str


def find(store: Store, text: str) -> Incident:
    """The incident of this number or ULID. Raises UsageError."""
    from irflow.core.errors import UsageError

    found = store.find_incident(text)
    if found is None:
        raise UsageError(f"no incident {text}", hint="List them: irflow incidents list")
    return found


def account() -> str:
    """The operating system's account at the keyboard."""
    return pwd.getpwuid(os.getuid()).pw_name


def operator_of(operators: tuple[Operator, ...], name: str | None) -> Operator:
    """Whom the account stands for; enough to look at something, not to decide. Raises Refused."""
    from irflow.core.approvals import authenticate

    return authenticate(operators, account(), name)


def identify(config: Configuration, store: Store, name: str | None, code: str | None, for_: str) -> Person:
    """Who is at the keyboard, proved: by the account where it stands for nobody else, else by a one-time code.

    A terminal is asked for a code that is needed and was not given. for_: what it is for, as the journal tells it.
    Raises Refused.
    """
    from irflow.core.approvals import proved_by_account

    if code is None:
        operator = operator_of(config.operators, name)
        if proved_by_account(config.operators, operator):
            return Person(operator, OS_ACCOUNT)
        code = _asked(operator)
        name = operator.name
    return _proved(config, store, name or operator_of(config.operators, None).name, code, for_)


def _asked(operator: Operator) -> str:
    from irflow.core.errors import Refused

    if not sys.stdin.isatty():
        raise Refused(
            f"the account {operator.login} stands for several, so {operator.name} is proved by a one-time code",
            hint="Give it with --code CODE",
        )
    code: str = typer.prompt(f"One-time code of {operator.name}", hide_input=True, err=True)
    return code


def _proved(config: Configuration, store: Store, name: str, code: str, for_: str) -> Person:
    from irflow.core.errors import Refused
    from irflow.core.proving import METHOD
    from irflow.wiring.identity import identities

    if any(one.name == name and not one.totp for one in config.operators):  # whoever types here can read that anyhow
        raise Refused(f"{name} has no key for one-time codes", hint=f"irflow operators add {name} --new-key")
    return Person(identities(config, store).prove(name, code, for_=for_), METHOD)


def act(
    incident: str,
    who: tuple[str | None, str | None],
    deed: str,
    work: Callable[[Transaction, Incident, Person], T],
    *,
    works: bool = True,
) -> T:
    """One decision on an incident in one transaction, then wake the responder.

    who: --as and --code. deed: the command, as the journal tells what a code was for. works: the responder has
    something to do now.
    """
    from irflow.adapters.wake import wake
    from irflow.wiring import open_store

    config = configuration()
    with open_store(config.settings) as store:
        found = find(store, incident)
        person = identify(config, store, *who, f"{deed} {found.number}")
        result = store.transact(lambda tx: work(tx, found, person))
        wake(config.settings.responder_socket)
        if works:
            nobody_works(config, store)
    return result
