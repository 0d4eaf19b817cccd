"""`irflow secrets`: what irflow looks after in Vault; replace it, finish what a crash left, prove what is live."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irflow.cli.output import configuration, dump, progress, say, table
from irflow.cli.person import Json
from irflow.cli.secret_work import work

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from irflow.core.errors import IrflowError
    from irflow.core.rotation import Rotation
    from irflow.core.rotations import Rotates
    from irflow.core.secret_inventory import ManagedSecret
    from irflow.wiring import Configuration

app = typer.Typer(no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="As in secrets.yaml; all without any.")]
Parallel = Annotated[int, typer.Option(min=1, max=64, help="So many at once.")]
Since = Annotated[
    str,
    typer.Option(
        "--exposed-since", metavar="TIME", help="Those whose live value was there at TIME (RFC 3339, or 8h for ago)."
    ),
]
On = Annotated[
    list[str] | None,
    typer.Option("--exposed-on", metavar="HOST", help="Those that HOST asks for or uses; repeat for each."),
]
Run = Annotated[str, typer.Option("--run", metavar="ID", help="Go on with a rotation that was cut off.")]
_NONE = "no secret was exposed"
_RUN = re.compile(r"[!-~]{1,200}")


@app.command("list")
def list_(json: Json = False) -> None:
    """List the secrets that irflow looks after, no values. Example: irflow secrets list --json"""
    config = _configured()
    changed, troubles = _changed(config, list(config.secrets.secrets))
    rows = [_row(one, changed[one.name]) for one in config.secrets.secrets.values()]
    if json:
        dump([{**row, "error": str(troubles[row["name"]]) if row["name"] in troubles else None} for row in rows])
        return
    table(
        "", ("name", "kind", "last replaced", "reference", "owner", "after", "read by", "if it fails"),
        [
            (one["name"], one["kind"], "?" if one["name"] in troubles else one["changed"] or "unknown",
             one["reference"] or "-", one["owner"] or "-", ", ".join(one["after"]) or "-",
             ", ".join(one["dependants"]) or "-", one["on_failure"])
            for one in rows
        ],
    )  # fmt: skip
    for trouble in dict.fromkeys(str(one) for one in troubles.values()):
        progress(f"?: {trouble}")


@app.command()
def put(name: Annotated[str, typer.Argument(metavar="NAME", help="As in secrets.yaml.")]) -> None:
    """Give Vault the first value of a secret, from standard input; what is there already is never replaced.

    Example: irflow secrets put shop-db < password.txt
    """
    from irflow.cli.value import given_value
    from irflow.core.secret import SecretValue
    from irflow.wiring.secrets import secret_document

    config = _configured()
    one = config.secrets.get(name)
    value = given_value(f"irflow secrets put {name}")
    written = secret_document(config.settings, one).begin(SecretValue(value.encode()), {})
    say(f"{one.reference} is version {written.version}")


@app.command()
def plan(names: Names = None, since: Since = "", on: On = None, json: Json = False) -> None:
    """Show in which order they would be replaced, and who is refused meanwhile.

    Example: irflow secrets plan --exposed-since 2026-01-31T12:00:00Z --exposed-on web-1
    """
    config = _configured()
    chosen = _exposed(config, _chosen(config, names), since, on)
    groups = config.secrets.order(chosen)
    with _rotators(config) as rotator:
        meant = {name: rotator(config.secrets.get(name)) for name in chosen}
    if not chosen and not json:
        say(_NONE)
        return
    if json:
        dump([
            [{"name": name, "overlap": meant[name].overlap, "meanwhile": meant[name].meanwhile} for name in group]
            for group in groups
        ])  # fmt: skip
        return
    table(
        "", ("name", "step", "kind", "who uses it is meanwhile"),
        [
            (name, number, config.secrets.get(name).kind, meant[name].meanwhile)
            for number, group in enumerate(groups, 1) for name in group
        ],
    )  # fmt: skip


@app.command()
def rotate(
    names: Names = None, since: Since = "", on: On = None, run: Run = "", parallel: Parallel = 8, json: Json = False
) -> None:
    """Replace the named secrets, and prove that the new values work and the old ones are dead.

    Example: irflow secrets rotate shop-db shop-cache, or: irflow secrets rotate --exposed-since 8h
    """
    from irflow.core.errors import UsageError

    if not (names or since or on):
        raise UsageError("no secret is named", hint="Name some, or use: irflow secrets rotate-all")
    config = _configured()
    chosen = _exposed(config, _chosen(config, names), since, on)
    if not chosen:
        say(_NONE)
        return
    _rotate(config, chosen, run, parallel, json=json)


@app.command("rotate-all")
def rotate_all(run: Run = "", parallel: Parallel = 8, json: Json = False) -> None:
    """Replace every secret, irflow's own last. Example: irflow secrets rotate-all"""
    config = _configured()
    _rotate(config, _chosen(config, None), run, parallel, json=json)


@app.command()
def sweep(names: Names = None, parallel: Parallel = 8, json: Json = False) -> None:
    """Finish what a crash left half done; begins nothing. Example: irflow secrets sweep"""
    config = _configured()
    chosen = _chosen(config, names)
    work(config, chosen, lambda rotator: rotator.sweep(), parallel, json=json, again="irflow secrets sweep")


@app.command()
def verify(names: Names = None, parallel: Parallel = 8, json: Json = False) -> None:
    """Log in with every live value, and see that no rotation is under way. Exit 1 when one does not work.

    Example: irflow secrets verify
    """
    from irflow.core.rotation import Result

    def check(rotator: Rotates) -> Rotation:
        return rotator.verify()

    config = _configured()
    work(config, _chosen(config, names), check, parallel, json=json, words={str(Result.UNCHANGED): "works"})


# ---------------------------------------------------------------- what they share


def _rotate(config: Configuration, chosen: Sequence[str], run: str, parallel: int, *, json: bool) -> None:
    from ulid import ULID

    from irflow.core.errors import UsageError

    if run and not _RUN.fullmatch(run):
        raise UsageError("not the id of a run", hint="It is what irflow printed: letters and digits, no blanks")
    run = run or str(ULID())
    progress(f"run {run}; if this is cut off: --run {run} goes on with it")
    work(config, chosen, lambda rotator: rotator.rotate(run), parallel, json=json, again=f"--run {run}")


def _configured() -> Configuration:
    from irflow.core.errors import ConfigurationError

    config = configuration()
    if not config.secrets.secrets:
        raise ConfigurationError(
            "no secrets are named", where="secrets.yaml", hint="See secrets/README.md for its form"
        )
    return config


def _chosen(config: Configuration, names: Sequence[str] | None) -> list[str]:
    return [config.secrets.get(name).name for name in dict.fromkeys(names or config.secrets.secrets)]


def _exposed(config: Configuration, names: list[str], since: str, on: Sequence[str] | None) -> list[str]:
    """Those of the named that somebody else may know. Raises UsageError for a time or a host that is none."""
    from datetime import UTC, datetime

    from irflow.core.errors import UsageError
    from irflow.core.exposure import exposed, moment_of

    if not (since or on):
        return names
    inventory = config.catalog.inventory
    hosts, unknown = inventory.resolve(tuple(on or ()))
    if unknown:
        hint = f"There are {', '.join(inventory.hosts)}" if inventory.hosts else "It is empty: inventory.yaml"
        raise UsageError(f"no host {unknown[0]!r} in the inventory", hint=hint)
    moment = moment_of(since, datetime.now(UTC)) if since else None
    changed, troubles = _changed(config, names) if since else ({}, {})
    for name, trouble in troubles.items():
        progress(f"{name} counts as exposed: {trouble}")
    secrets = [config.secrets.get(name) for name in names]
    return list(exposed(secrets, changed, since=moment, hosts=hosts, inventory=inventory))


def _changed(config: Configuration, names: Sequence[str]) -> tuple[dict[str, datetime | None], dict[str, IrflowError]]:
    """When each live value was made, and of which that cannot be read."""
    from irflow.core.errors import IrflowError
    from irflow.wiring.rotators import open_rotations

    with open_rotations(config) as rotations:
        found = rotations.changed(names)
    troubles = {name: one for name, one in found.items() if isinstance(one, IrflowError)}
    return {name: None if isinstance(one, IrflowError) else one for name, one in found.items()}, troubles


@contextmanager
def _rotators(config: Configuration) -> Iterator[Callable[[ManagedSecret], Rotates]]:
    from irflow.wiring.rotators import open_rotations

    with open_rotations(config) as rotations:
        yield rotations.rotator


def _row(one: ManagedSecret, changed: datetime | None) -> dict[str, Any]:
    return {
        "name": one.name, "kind": one.kind, "changed": changed and f"{changed:%Y-%m-%dT%H:%M:%SZ}",
        "reference": one.reference, "owner": one.owner, "after": one.after,
        "dependants": one.dependants, "own": one.own, "on_failure": str(one.on_failure),
    }  # fmt: skip
