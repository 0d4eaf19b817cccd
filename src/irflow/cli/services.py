"""`irflow up`, and each of its parts alone."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from irflow.cli.output import configuration, progress, runtime, say, table

if TYPE_CHECKING:
    from types import FrameType


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
        say(f"status   {stack.web_url}/")
        say(f"Prefect  {stack.prefect_ui} (user and password: {config.settings.prefect_auth_file})")
        table("", ("process", "pid", "PSS MB"), memory_table(stack.pids()))
        if not once:
            say("Ctrl-C stops everything")
            stack.watch()


def web() -> None:
    """Take alerts and show status; holds no SSH key and no Vault token. Example: irflow web"""
    import uvicorn

    from irflow.wiring import open_web

    config = configuration()
    settings = config.settings
    with open_web(config) as app:
        uvicorn.run(
            app, host=settings.web_host, port=settings.web_port, log_level="warning", access_log=False,
            ssl_certfile=settings.web_tls_certificate, ssl_keyfile=settings.web_tls_key,
        )  # fmt: skip


def responder() -> None:
    """First response and the reconciler; needs no Prefect to contain. Example: irflow responder"""
    from irflow.wiring import open_responder

    with runtime("responder") as wired:
        loop = open_responder(wired)

        def stop(_number: int, _frame: FrameType | None) -> None:
            loop.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        loop.run()


def worker() -> None:
    """Execute flow runs, forked from a preloaded parent. Example: irflow worker"""
    from irflow.flows.worker import run_worker

    run_worker(configuration().settings)
