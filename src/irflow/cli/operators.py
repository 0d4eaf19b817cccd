"""`irflow operators`: who may decide what, their one-time codes, their tokens for irflow's page."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, progress, say, table, utc
from irflow.cli.person import As, Code, Json, account, identify
from irflow.core.identity import Access

if TYPE_CHECKING:
    from irflow.core.ports import Store
    from irflow.operators import Author, Key
    from irflow.wiring import Configuration

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in operators.yaml.")]
TRIES = 3
"""So often a code is asked for after a key was given; a failure more and the phone is not right."""


@app.command("list")
def list_(json: Json = False) -> None:
    """List who may decide what, and how each is proved. Example: irflow operators list"""
    from irflow.wiring import open_store
    from irflow.wiring.identity import standings

    config = configuration()
    with open_store(config.settings) as store:
        known, now = standings(store), datetime.now(UTC)
    until = {one.name: known.of(one.name).locked_until for one in config.operators if known.of(one.name).locked(now)}
    if json:
        dump([{**one.model_dump(mode="json"), "locked_until": until.get(one.name)} for one in config.operators])
        return
    if not config.operators:
        say("No operators: irflow operators add NAME")
        return
    table(
        "", ("operator", "login", "access", "roles", "codes", "locked out until"),
        [
            (
                one.name, one.login, one.access.value, ", ".join(one.roles) or "-", one.totp or "-",
                utc(moment) if (moment := until.get(one.name)) else "",
            )
            for one in config.operators
        ],
    )  # fmt: skip


@app.command()
def add(
    name: Name,
    login: Annotated[str | None, typer.Option(help="Account on this machine; NAME by default.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="What steps ask of them; repeat for each.")] = None,
    access: Annotated[Access | None, typer.Option(help="How much they may do; developer by default.")] = None,
    email: Annotated[str | None, typer.Option(help="For people to know.")] = None,
    totp: Annotated[str | None, typer.Option(metavar="REF", help="Where the key of their codes is to be kept.")] = None,
    no_totp: Annotated[bool, typer.Option("--no-totp", help="No one-time codes.")] = False,
    new_key: Annotated[bool, typer.Option("--new-key", help="A new key for an operator who is there already.")] = False,
    show_key: Annotated[bool, typer.Option("--show-key", help="The key in letters too, for who cannot scan.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not ask for a code to try it.")] = False,
    who: As = None,
    code: Code = None,
) -> None:
    """Add an operator, and show the QR code for their phone once. Example: irflow operators add eve --role legal"""
    from irflow import operators
    from irflow.core.errors import UsageError
    from irflow.wiring import open_store

    if no_totp and (totp or new_key):
        raise UsageError("--no-totp goes with neither --totp nor --new-key")
    config = configuration()
    for one in operators.check_roles(config.catalog, role or ()):
        progress(f"note: no playbook or runbook asks the role {one}")
    wanted: dict[str, Any] = {
        "name": name, "login": login, "roles": role, "access": access and access.value, "email": email, "totp": totp,
    }  # fmt: skip
    wanted = {field: value for field, value in wanted.items() if value is not None}
    with open_store(config.settings) as store:
        by = _author(config, store, who, code, f"operators add {name}")
        key = operators.add(config, store, by, wanted, key=not no_totp, anew=new_key)
        say(f"{'a new key for' if new_key else 'added'} {name}")
        if key is None:
            return
        _show(key, letters=show_key)
        if sys.stdin.isatty() and not no_check:
            _try(store, name)


@app.command()
def remove(name: Name, who: As = None, code: Code = None) -> None:
    """Take an operator away, with key and token; what they decided stays. Example: irflow operators remove eve"""
    from irflow import operators
    from irflow.wiring import open_store

    config = configuration()
    with open_store(config.settings) as store:
        by = _author(config, store, who, code, f"operators remove {name}")
        left = operators.remove(config, store, by, name)
    say(f"removed {name}")
    if left:
        progress(f"note: the key stays at {left}, where irflow may not delete; nobody is proved by it any more")


@app.command("code")
def code_(name: Name, code: Code = None) -> None:
    """Try a one-time code, to see that the phone is right; it is used up then. Example: irflow operators code eve"""
    from irflow.core.errors import UsageError
    from irflow.operators import named
    from irflow.wiring import open_store

    config = configuration()
    named(config, name)
    if code is None:
        if not sys.stdin.isatty():
            raise UsageError("there is no terminal to ask for the code", hint="Give it with --code CODE")
        code = typer.prompt(f"One-time code of {name}", hide_input=True, err=True)
    with open_store(config.settings) as store:
        identify(config, store, name, code, "operators code")
    say(f"this is {name}; the code is used up now")


@app.command()
def token(
    name: Name,
    revoke: Annotated[bool, typer.Option("--revoke", help="Kill it instead.")] = False,
    who: As = None,
    code: Code = None,
) -> None:
    """Print a token for irflow's page, once; the one before is dead. Example: irflow operators token eve"""
    from irflow import operators
    from irflow.core.errors import UsageError
    from irflow.wiring import open_store

    config = configuration()
    with open_store(config.settings) as store:
        by = _author(config, store, who, code, f"operators token {name}", own=name)
        if not revoke:
            made = operators.issue_token(config, store, by, name)
            progress(f"the token of {name}; it is not shown again, and whoever has it is {name} on irflow's page")
            print(made)
            return
        if not operators.revoke_token(config, store, by, name):
            raise UsageError(f"{name} has no token", hint="Nothing was done")
    say(f"the token of {name} is dead")


# ---------------------------------------------------------------- what they share


def _author(
    config: Configuration, store: Store, who: str | None, code: str | None, for_: str, *, own: str = ""
) -> Author:
    """Who may change operators. own: whom an operator may change without being admin, themselves. Raises Refused."""
    from irflow.core.identity import Deed, require
    from irflow.operators import Author, owner_of_home

    if not any(one.access is Access.ADMIN for one in config.operators):
        author = owner_of_home(config, os.getuid(), account())
        progress(f"note: no operator is admin, so you act as {author.name}")
        return author
    operator = identify(config, store, who, code, for_).operator
    if operator.name != own:
        require(operator, Deed.ADMINISTER)
    return Author(operator.name, f"operator:{operator.name}")


def _show(key: Key, *, letters: bool) -> None:
    """The QR code. It goes past what takes secrets out of all other output: to be seen here once is its purpose."""
    import segno

    say(f"the key of the one-time codes is kept at {key.reference}; scan it, it is not shown again:")
    segno.make(key.uri, micro=False).terminal(out=sys.stdout, compact=True)
    if letters:
        print(key.value.reveal().decode())


def _try(store: Store, name: str) -> None:
    """Ask for a code until one is good. Raises Refused after some that are not."""
    from irflow.core.errors import Refused

    config = configuration()
    for left in reversed(range(TRIES)):
        given = typer.prompt(f"The code that the phone shows for {name}", hide_input=True, err=True)
        try:
            identify(config, store, name, given, "operators add")
        except Refused as error:
            if not left:
                hint = f"Look at the phone's clock; once more: irflow operators code {name}"
                raise Refused(f"the phone does not show the codes of {name}", hint=hint) from error
            progress(error.message)
        else:
            say(f"this is {name}: the phone is right")
            return
