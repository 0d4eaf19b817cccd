"""`irflow init`, `check`, `doctor`: from nothing to a first real use."""

from __future__ import annotations

from typing import Annotated

import typer

from irflow.cli.output import HOME, configuration, dump, progress, say, table
from irflow.cli.person import Json


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (init, check, doctor):
        app.command()(command)


def init(
    force: Annotated[bool, typer.Option("--force", help="Write files that are missing beside existing ones.")] = False,
) -> None:
    """Write a commented configuration, inventory and copies of the shipped playbooks. Example: irflow init"""
    from irflow.config import default_home
    from irflow.init import write_installation

    home = HOME["path"] or default_home()
    for path in write_installation(home, force=force):
        say(f"wrote {path}")
    say("next: edit inventory.yaml, then irflow doctor && irflow up")


def check(json: Json = False) -> None:
    """Validate every YAML file and plan each playbook once; all errors at once. Example: irflow check"""
    from irflow.operators import IMPOSTORS_MEND, impostors
    from irflow.wiring import dry_plans

    config = configuration()
    rows = dry_plans(config)
    for told in impostors(config.operators):
        progress(f"note: {told}; {IMPOSTORS_MEND}")
    if json:
        dump([{"playbook": name, "phase": phase, "steps": steps} for name, phase, steps in rows])
        return
    table("", ("playbook", "phase", "steps"), rows)
    say(
        f"{len(config.catalog.runbooks)} runbooks, {len(config.catalog.playbooks)} playbooks, "
        f"{len(config.catalog.inventory.hosts)} hosts: no mistakes"
    )


def doctor(json: Json = False) -> None:
    """Check everything a run needs and say how to mend it. Example: irflow doctor"""
    from irflow.doctor import examine

    findings = examine(HOME["path"])
    if json:
        dump([vars(one) for one in findings])
    else:
        for one in findings:
            mark = "ok   " if one.passed else ("MEND " if one.needed else "note ")
            say(f"{mark} {one.what}: {one.found}" + (f"\n       -> {one.mend}" if one.mend and not one.passed else ""))
    if any(one.needed and not one.passed for one in findings):
        raise typer.Exit(7)
