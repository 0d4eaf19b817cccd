"""Who the operators are: adding and removing people in operators.yaml, with the key of their one-time codes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from irflow.adapters.catalog import LoadedCatalog, load_operators
from irflow.adapters.catalog.edit import remove_entry, set_entry
from irflow.adapters.one_time import AuthenticatorCodes
from irflow.core.approvals import Operator, indistinct
from irflow.core.errors import Refused, UsageError
from irflow.core.identity import ROLES, Access
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.ports import Store
from irflow.core.secret import SecretRef, SecretValue
from irflow.wiring import Configuration
from irflow.wiring.identity import operator_tokens
from irflow.wiring.operator_keys import forget, keep, same_place, usual_reference

NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""They stand in paths, references and pages."""


IMPOSTORS_MEND = "give each of them codes: irflow operators add NAME --new-key"


@dataclass(frozen=True)
class Author:
    """Who changes operators. name: as the journal tells it; an account where there is no admin yet."""

    name: str
    actor: str


@dataclass(frozen=True)
class Key:
    """A new key of one-time codes, told once. uri: what the QR code says; it holds the key, too."""

    reference: str
    value: SecretValue
    uri: str


def asked_roles(catalog: LoadedCatalog) -> frozenset[str]:
    """Every role that a playbook or a runbook asks."""
    steps = [step for runbook in catalog.runbooks.values() for step in runbook.steps]
    rules = [rule for playbook in catalog.playbooks.values() for rule in playbook.approvals.values()]
    asked = {step.approval for step in steps} | {step.role for step in steps} | {rule.role for rule in rules}
    return frozenset(role for role in asked if role)


def impostors(operators: Iterable[Operator]) -> list[str]:
    """What to warn of: accounts whose operators cannot be told apart, so that one person could be the two needed."""
    return [
        f"the account {login} stands for several, and who sits there can be {' or '.join(names)} by --as alone"
        for login, names in indistinct(operators).items()
    ]


def check_roles(catalog: LoadedCatalog, roles: Iterable[str]) -> list[str]:
    """Those that nothing asks. Raises UsageError for one that is probably misspelt."""
    known = {*ROLES, *asked_roles(catalog)}
    unknown = [role for role in roles if role not in known]
    for role in unknown:
        near = difflib.get_close_matches(role, sorted(known), n=1)
        if near:
            raise UsageError(f"no playbook or runbook asks a {role!r}", hint=f"Did you mean {near[0]!r}?")
    return unknown


def add(
    config: Configuration, store: Store, by: Author, wanted: dict[str, Json], *, key: bool, anew: bool
) -> Key | None:
    """Write an operator into operators.yaml; comments and the other entries stay. The key and the journal go first.

    wanted: fields of Operator, only those that somebody named. key: they get a new one. anew: they are there already.
    Returns the key. Raises UsageError, Refused, ConfigurationErrors; then operators.yaml is as it was.
    """
    name = str(wanted["name"])
    before = next((one for one in config.operators if one.name == name), None)
    _check(name, before, anew=anew)
    fields = {field: value for field, value in wanted.items() if field != "name"}
    if before is None:
        fields = {"login": name, "roles": [], "access": Access.DEVELOPER.value, **fields}
    made = None
    if key:
        kept = str(fields.get("totp") or (before and before.totp) or usual_reference(config.settings, name))
        same = before is not None and same_place(config.settings, kept, before.totp)
        made = _new_key(config, name, kept, anew=same or (anew and "totp" not in wanted))
        fields = {field: value for field, value in fields.items() if field != "totp"}
        fields |= {} if same else {"totp": kept}
    told = "; ".join(f"{field} {value}" for field, value in fields.items())
    _note(store, by, name, f"{'a new key' if before else 'added'}{f', {told}' if told else ''}")
    path = config.settings.home / "operators.yaml"
    if fields:
        set_entry(path, "operators", name, fields, load_operators)
    return made


def _check(name: str, before: Operator | None, *, anew: bool) -> None:
    if not NAMES.fullmatch(name):
        raise UsageError(f"{name[:80]!r} is no name of an operator", hint="Letters, digits, dot, dash, underscore")
    if before is not None and not anew:
        raise UsageError(
            f"{name} is an operator already",
            hint="--new-key gives a new key for codes; change the rest in operators.yaml",
        )


def _new_key(config: Configuration, name: str, reference: str, *, anew: bool) -> Key:
    codes = AuthenticatorCodes()
    value = codes.new_key()
    keep(config.settings, SecretRef.parse(reference), value, anew=anew)
    return Key(reference, value, codes.uri(value, name))


def remove(config: Configuration, store: Store, by: Author, name: str) -> str:
    """Take an operator away, with token and key. Returns the reference of a key that stays; empty where none does.

    Raises UsageError when there is none of this name.
    """
    operator = named(config, name)
    _note(store, by, name, "removed")
    remove_entry(config.settings.home / "operators.yaml", "operators", name, load_operators)
    operator_tokens(config.settings).revoke(name)
    if operator.totp and not forget(config.settings, SecretRef.parse(operator.totp)):
        return operator.totp
    return ""


def issue_token(config: Configuration, store: Store, by: Author, name: str) -> str:
    """A new token of irflow's page, told once; the one before is dead. Raises UsageError for an unknown name."""
    named(config, name)
    _note(store, by, name, "a token issued")
    return operator_tokens(config.settings).issue(name)


def revoke_token(config: Configuration, store: Store, by: Author, name: str) -> bool:
    """Kill the token, also of somebody who is no operator any more; False when there was none."""
    gone = operator_tokens(config.settings).revoke(name)
    if gone:
        _note(store, by, name, "the token revoked")
    return gone


def named(config: Configuration, name: str) -> Operator:
    """The operator of a name. Raises UsageError."""
    for one in config.operators:
        if one.name == name:
            return one
    near = difflib.get_close_matches(name, [one.name for one in config.operators], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "List them: irflow operators list"
    raise UsageError(f"no operator {name[:80]!r}", hint=hint)


def owner_of_home(config: Configuration, uid: int, login: str) -> Author:
    """Whoever owns IRFLOW_HOME, as long as no operator is admin. Raises Refused."""
    home = config.settings.home
    if uid != home.stat().st_uid:
        raise Refused(
            f"no operator is admin, and {home} belongs to another account than {login}",
            hint=f"Whoever owns {home} gives somebody `access: admin` in operators.yaml",
        )
    return Author(f"the owner of IRFLOW_HOME, {login}", "irflow:cli")


def _note(store: Store, by: Author, name: str, change: str) -> None:
    data: dict[str, Json] = {"operator": name, "change": change, "by": by.name}
    store.transact(lambda tx: tx.append(SYSTEM, Draft(Kind.OPERATOR_CHANGED, by.actor, data)))
