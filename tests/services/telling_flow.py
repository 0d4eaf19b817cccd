"""A flow that tells a secret in every way that a flow has: logs, its name, an exception. Run against a Prefect server.

Argument: a file that holds the value.
"""

# ruff: noqa: E402 - as in the worker, install() comes before Prefect

from __future__ import annotations

import sys
from pathlib import Path

from irflow import redaction
from irflow.core.secret import SecretValue

redaction.install()

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from irflow.flows.clean_states import redact_states
from irflow.flows.plain import plain

redact_states()

secret = SecretValue(Path(sys.argv[1]).read_bytes())


def revealed() -> str:
    return secret.reveal().decode()


@task(cache_policy=NO_CACHE, persist_result=False)
def telling() -> None:
    log = get_run_logger()
    log.info("the login is user:%s", revealed())
    log.warning("and %r", {"password": revealed()})
    create_markdown_artifact(plain(f"it is {revealed()}"), key="telling")
    try:
        raise ConnectionError(f"refused user:{revealed()}")
    except ConnectionError:
        log.exception("in the task")
        raise ValueError("the flow's message", secret.reveal()) from None


@flow(persist_result=False)
def told() -> None:
    telling()


if __name__ == "__main__":
    state = told(return_state=True)
    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
    sys.stdout.write(f"{state.type.value}\n")
