"""`irflow lab`: real hosts on this machine, to practise on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from irflow.cli.incidents import Json
from irflow.cli.output import HOME, dump, progress, say, table

if TYPE_CHECKING:
    from irflow.lab.lab import Lab

app = typer.Typer(no_args_is_help=True)

Command = Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run there.")]


def _folder() -> Path:
    from irflow.config import default_home

    return (HOME["path"] or default_home()) / "lab"


def _lab() -> Lab:
    from irflow.lab.lab import Lab

    return Lab.load(_folder())


@app.command()
def up(hosts: Annotated[int, typer.Argument(min=1, max=1000, help="How many.")] = 3, json: Json = False) -> None:
    """Bring hosts up, each with its own network, processes, users, logs and sshd. Example: irflow lab up 10"""
    import time

    from irflow.lab.lab import Lab

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
    _show(lab.exec(lab.host(host), command, stdin=_stdin(), timeout_s=3600))


@app.command("from", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def from_(vantage: Annotated[str, typer.Argument(help="responder or attacker.")], command: Command) -> None:
    """Run a command from a vantage point. Example: irflow lab from attacker -- ping -c1 10.77.1.1"""
    _show(_lab().run_from(vantage, command, stdin=_stdin(), timeout_s=3600))


def _stdin() -> bytes | None:
    return None if sys.stdin.isatty() else sys.stdin.buffer.read()


def _show(done: subprocess.CompletedProcess[bytes]) -> NoReturn:
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    raise typer.Exit(done.returncode)
