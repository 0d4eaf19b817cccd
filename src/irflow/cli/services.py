"""`irflow up`, and each of its parts alone."""

from __future__ import annotations

from typing import Annotated

import typer

from irflow.cli.output import configuration, progress, say, table


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (up, web, responder, worker):
        app.command()(command)


def up(
    once: Annotated[bool, typer.Option("--check", help="Start everything, say where, stop again.")] = False,
) -> None:
    """Start the whole stack on this machine: Prefect, web, responder, worker. Ctrl-C stops it. Example: irflow up"""
    from irflow.supervisor.stack import memory_table, start_stack

    config = configuration()
    with start_stack(config.settings, report=progress) as stack:
        say(f"alerts   POST {stack.web_url}/webhooks/SOURCE")
        say(f"page     {stack.web_url}/ (log in with a token: irflow operators token NAME)")
        say(f"Prefect  {stack.prefect_ui} (user and password: {config.settings.prefect_auth_file})")
        table("", ("process", "pid", "PSS MB"), memory_table(stack.pids()))
        if not once:
            say("Ctrl-C stops everything")
            stack.watch()


def web() -> None:
    """Take alerts, show irflow's page; holds no SSH key and no Vault token. Example: irflow web"""
    from irflow.web.process import run_web

    run_web(configuration())


def responder() -> None:
    """First response and the reconciler; needs no Prefect to contain. Example: irflow responder"""
    from irflow.responder.process import run_responder

    run_responder(configuration())


def worker() -> None:
    """Execute flow runs, forked from a preloaded parent. Example: irflow worker"""
    from irflow.flows.worker import run_worker

    run_worker(configuration().settings)
