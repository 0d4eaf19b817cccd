"""`irflow lab`: real hosts on this machine, to practise on."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from irflow.cli.output import HOME, dump, progress, say, table
from irflow.cli.person import Json

if TYPE_CHECKING:
    from irflow.lab.lab import Lab

app = typer.Typer(no_args_is_help=True)

Command = Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run there.")]


def _folder() -> Path:
    from irflow.config import default_home

    return (HOME["path"] or default_home()) / "lab"


def _lab() -> Lab:
    from irflow.lab.lab import Lab

    lab = Lab.load(_folder())
    _go_to(lab)
    return lab


def within_user_namespace() -> None:
    """Where only a user namespace makes real hosts possible, start this command anew within one."""
    from irflow.lab import ladder
    from irflow.lab.model import Level

    if ladder.detect() is Level.USERNS and not ladder.inside_user_namespace():
        progress("not root: going on within a user namespace")
        ladder.enter(_this_command())


def _go_to(lab: Lab) -> None:
    """A lab of level userns is seen from within its user namespace only: start this command anew there."""
    from irflow.lab import ladder, sweep
    from irflow.lab.model import LabError, Level

    if lab.level is Level.USERNS and not ladder.inside_of(lab.state.keeper):
        if not sweep.alive(lab.state.keeper, lab.state.keeper_started):
            raise LabError("nobody holds its user namespace any more", hint="Remove it: irflow lab down")
        ladder.join(lab.state.keeper, _this_command())


def _this_command() -> list[str]:
    return [sys.executable, "-m", "irflow", *sys.argv[1:]]


@app.command()
def up(hosts: Annotated[int, typer.Argument(min=1, max=1000, help="How many.")] = 3, json: Json = False) -> None:
    """Bring hosts up, each with its own network, processes, users, logs and sshd. Example: irflow lab up 10"""
    import time

    from irflow.lab.lab import Lab

    within_user_namespace()
    started = time.monotonic()
    lab = Lab.up(hosts, _folder())
    seconds = time.monotonic() - started
    rows = [(one.name, one.address, one.address6, one.host_key.split()[0]) for one in lab.hosts]
    if json:
        dump(
            {
                "level": lab.level.value,
                "seconds": seconds,
                "hosts": [
                    {"name": one.name, "address": one.address, "address6": one.address6, "host_key": one.host_key}
                    for one in lab.hosts
                ],
            }
        )
        return
    table(f"{hosts} hosts in {seconds:.2f} s, level {lab.level.value}", ("host", "IPv4", "IPv6", "host key"), rows[:50])
    say(f"log in: irflow lab from responder -- ssh -i {lab.responder_key} root@{lab.hosts[0].address}")


@app.command()
def down(
    stack: Annotated[bool, typer.Option("--stack", help="Also stop a stack that `drill --keep` left up.")] = False,
) -> None:
    """Take the lab down; nothing is left behind, also after a crash. Example: irflow lab down"""
    from irflow.lab.lab import down as take_down
    from irflow.lab.model import LabError

    with suppress(LabError):  # none, or only parts of one: they are found from here too
        _lab()
    if stack:
        from irflow.cli.output import configuration
        from irflow.supervisor.stack import stop_stack

        stop_stack(configuration().settings)
        progress("stack stopped")
    take_down(_folder())
    say("down")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec(host: Annotated[str, typer.Argument(help="Name of a lab host.")], command: Command) -> None:
    """Run a command on a host, as root. Example: irflow lab exec web-1 -- nft list ruleset"""
    lab = _lab()
    _show(lab.exec(lab.host(host), _words(command), stdin=_stdin(), timeout_s=3600))


@app.command("from", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def from_(
    vantage: Annotated[str, typer.Argument(help="responder, attacker, visitor, machine.")], command: Command
) -> None:
    """Run a command from a vantage point. Example: irflow lab from attacker -- ping -c1 10.77.1.1"""
    _show(_lab().run_from(vantage, _words(command), stdin=_stdin(), timeout_s=3600))


def _words(command: list[str]) -> list[str]:
    """Without the `--` that parts it from our own arguments, which stays there as they are not interspersed."""
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise typer.BadParameter("say what to run after --")
    return words


def _stdin() -> bytes | None:
    return None if sys.stdin.isatty() else sys.stdin.buffer.read()


def _show(done: subprocess.CompletedProcess[bytes]) -> NoReturn:
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    raise typer.Exit(done.returncode)
