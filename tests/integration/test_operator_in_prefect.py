"""An operator steps through `isolate-host` in Prefect's pages, with a real browser, until a real host is cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from irflow.core.journal import Kind
from irflow.core.status import State
from irflow.lab import vantage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from tests.services.browser import chromium
from tests.services.codes import Phones, two_must_agree
from tests.services.irflow_site import until
from tests.services.irflow_stack import Running, running_stack
from tests.services.prefect_pages import PrefectPages

pytestmark = pytest.mark.timeout(480)

FIRST, SECOND = "first-responder", "second-responder"
WAIT_S = 90.0
SHOTS = os.environ.get("PICTURES", "")
"""A folder into which the pictures of docs/operations.md are taken."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("stepping")
    with Lab.up(2, folder / "lab", level=Level.ROOT) as lab, running_stack(folder / "home", lab) as made:
        yield made


@pytest.fixture(scope="module")
def phones(stack: Running) -> Phones:
    """Operators with one-time codes, and hosts for which two people must agree."""
    made, home = Phones(), stack.site.home
    made.for_all(home)
    two_must_agree(home, "web-1")
    until(lambda: FIRST in offered(stack), WAIT_S, "the forms name the operators")
    return made


def offered(stack: Running) -> list[str]:
    """The operators whom the form of isolate-host offers."""
    try:
        deployment = stack.prefect("GET", "/deployments/name/runbooks/isolate-host")
    except httpx.HTTPStatusError:  # forms are registered after the worker has begun to work
        return []
    found: list[str] = deployment["parameter_openapi_schema"]["properties"]["operator"].get("enum", [])
    return found


@pytest.fixture
def pages(stack: Running) -> Iterator[PrefectPages]:
    settings = stack.site.config.settings
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(WAIT_S * 1000)
        made = PrefectPages(page, settings.prefect_api, settings.prefect_auth_file.read_text().strip())
        made.log_in()
        yield made


def picture(pages: PrefectPages, name: str) -> None:
    if SHOTS:
        pages.page.wait_for_timeout(800)  # for the eye: what moves has come to rest
        pages.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def suspended(stack: Running, tag: str, after: str = "") -> tuple[str, str]:
    """(flow run, pause key) of the form that the run with this tag shows after another one."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        body = {"flow_runs": {"tags": {"all_": [tag]}, "state": {"type": {"any_": ["PAUSED"]}}}}
        found[:] = [
            one for one in stack.prefect("POST", "/flow_runs/filter", body)
            if one["state"]["state_details"]["pause_key"] != after
        ]  # fmt: skip
        return bool(found)

    until(look, WAIT_S, "a form is shown")
    return str(found[0]["id"]), str(found[0]["state"]["state_details"]["pause_key"])


def open_to_all(lab: Lab, host: LabHost) -> bool:
    """Whether the attacker's machine still reaches the host."""
    return not vantage.look(lab, host).dark


def begun(stack: Running) -> str:
    """The incident that the last form opened."""
    return stack.site.store.incidents(limit=1)[0][0].id


def test_four_steps_are_answered_in_prefect_one_by_hand_and_one_by_two_people(
    stack: Running, phones: Phones, pages: PrefectPages
) -> None:
    site, lab = stack.site, stack.site.lab
    host = lab.hosts[0]
    assert open_to_all(lab, host)
    pages.open_form("runbooks", "isolate-host")
    pages.choose("Hosts", host.name)
    pages.fill("Reason", "Beacon seen at night")
    pages.choose("Mode", "step")
    pages.choose("Operator", FIRST)
    pages.fill("One-time code", phones.code(FIRST))
    picture(pages, "prefect-start")
    pages.submit()

    run, form = suspended(stack, "runbook")
    incident = begun(stack)
    pages.open_run(run)
    picture(pages, "prefect-step")
    pages.answer(FIRST, phones.code(FIRST), decision="proceed", note="go")

    _, form = suspended(stack, "runbook", form)
    pages.open_run(run)
    assert "cut web-1 off the network" in pages.page.content()
    pages.answer(FIRST, phones.wrong(FIRST), decision="proceed")
    _, form = suspended(stack, "runbook", form)
    pages.open_run(run)
    assert "no good code" in pages.page.content()
    assert open_to_all(lab, host)
    pages.answer(SECOND, phones.code(SECOND), decision="proceed", note="agreed")
    _, form = suspended(stack, "runbook", form)
    assert open_to_all(lab, host), "one of two people is not enough"
    pages.open_run(run)
    picture(pages, "prefect-two-people")
    pages.answer(FIRST, phones.code(FIRST), decision="proceed", note="agreed too")

    _, form = suspended(stack, "runbook", form)
    assert vantage.look(lab, host).dark
    pages.open_run(run)
    pages.answer(SECOND, phones.code(SECOND), decision="proceed")
    _, form = suspended(stack, "runbook", form)
    pages.open_run(run)
    picture(pages, "prefect-manual")
    pages.answer(SECOND, phones.code(SECOND), outcome="done", evidence="ticket 7", note="called the owner")

    until(lambda: stack.run_state(run) == "COMPLETED", WAIT_S, lambda: site.story(incident))
    status = site.status(incident)
    assert {key.partition("@")[0]: one.state for key, one in status.steps.items()} == dict.fromkeys(
        ("run-1/isolate-host.snapshot", "run-1/isolate-host.isolate", "run-1/isolate-host.evidence",
         "run-1/isolate-host.tell-owner"), State.DONE,
    )  # fmt: skip
    decided = [(one.data["operator"], one.data["method"]) for one in site.events(incident, Kind.STEP_DECIDED)]
    assert decided == [(FIRST, "totp"), (SECOND, "totp"), (FIRST, "totp"), (SECOND, "totp")]
    assert site.isolation(host).tables == 1
    assert len(status.evidence) == 2
    assert site.verified() == []
    name = stack.prefect("GET", f"/flow_runs/{run}")["name"]
    assert name == f"{status.incident.number} isolate-host"
